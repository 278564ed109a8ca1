package static

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func get(method, url string, header ...string) *http.Response {
	r := httptest.NewRequest(method, url, nil)
	for n := 0; n+1 < len(header); n += 2 {
		r.Header.Set(header[n], header[n+1])
	}
	w := httptest.NewRecorder()
	if !Serve(w, r) {
		http.NotFound(w, r)
	}
	return w.Result()
}

func TestAssetsAreKeptForEver(t *testing.T) {
	t.Parallel()
	url := URL("app.css")
	plain, zipped := get("GET", url), get("GET", url, "Accept-Encoding", "br, gzip")
	body, err := io.ReadAll(plain.Body)
	if err != nil || plain.StatusCode != 200 || plain.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" || plain.Header.Get("Content-Type") != "text/css; charset=utf-8" {
		t.Errorf("%d %v, %v", plain.StatusCode, plain.Header, err)
	}
	reader, err := gzip.NewReader(zipped.Body)
	if err != nil || zipped.Header.Get("Content-Encoding") != "gzip" {
		t.Fatal(err, zipped.Header)
	}
	if inflated, err := io.ReadAll(reader); err != nil || string(inflated) != string(body) {
		t.Errorf("compressed it is something else: %v", err)
	}
	if same := get("GET", url, "If-None-Match", plain.Header.Get("ETag")); same.StatusCode != http.StatusNotModified {
		t.Errorf("the same again: %d", same.StatusCode)
	}
	if same := get("GET", url, "Accept-Encoding", "gzip", "If-None-Match", zipped.Header.Get("ETag")); same.StatusCode != http.StatusNotModified {
		t.Errorf("the same again, compressed: %d", same.StatusCode)
	}
	if plain.Header.Get("ETag") == zipped.Header.Get("ETag") {
		t.Errorf("different bytes have the tag %s", plain.Header.Get("ETag"))
	}
	for accept, want := range map[string]string{
		"gzip;q=0": "", "GZIP": "gzip", "br, gzip ; q=0.5": "gzip", "gzip;q=0.000, *": "", "x-gzipped": "", "deflate": "", "gzip;q=x": "",
	} {
		if got := get("GET", url, "Accept-Encoding", accept).Header.Get("Content-Encoding"); got != want {
			t.Errorf("%s: %q", accept, got)
		}
	}
	for path, status := range map[string]int{"/static/app.css": 404, "/static/": 404, "/static/../static.go": 404, "/static/app.0.css": 404} {
		if got := get("GET", path); got.StatusCode != status {
			t.Errorf("%s: %d", path, got.StatusCode)
		}
	}
	if refused := get("POST", url); refused.StatusCode != http.StatusMethodNotAllowed || refused.Header.Get("Allow") == "" {
		t.Errorf("POST: %d", refused.StatusCode)
	}
}

// During an upgrade, a page of one version may ask a process of the other for what it needs.
func TestAnAssetOfAnotherVersionIsThisVersions(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"app.css", "vendor/htmx.org/htmx.min.js"} {
		own := URL(name)
		other := regexp.MustCompile(`[0-9a-f]{12}`).ReplaceAllString(own, "0123456789ab")
		want, got := get("GET", own), get("GET", other)
		if got.StatusCode != http.StatusOK || got.Header.Get("Cache-Control") != "no-store" || got.Header.Get("Content-Type") != want.Header.Get("Content-Type") || got.ContentLength != want.ContentLength {
			t.Errorf("%s: %d %v", other, got.StatusCode, got.Header)
		}
	}
	for _, path := range []string{
		"/static/app.js.0123456789ab", "/static/app.0123456789abc.css", "/static/app.0123456789AB.css", "/static/app.0123456789ab.js.css",
		"/static/nothing.0123456789ab.css", "/static/x/app.0123456789ab.css", "/static/app.0123456789ab.0123456789ab.css", "/app.0123456789ab.css",
	} {
		if got := get("GET", path); got.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, got.StatusCode)
		}
	}
}

// Everything a page needs stays under 50 KB on the wire.
func TestPageBudget(t *testing.T) {
	t.Parallel()
	var total int64
	for name := range assets().urls {
		n, err := io.Copy(io.Discard, get("GET", URL(name), "Accept-Encoding", "gzip").Body)
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	if total > 50<<10 {
		t.Errorf("the assets are %d bytes", total)
	}
}

func TestVendoredFilesAreAsPublished(t *testing.T) {
	t.Parallel()
	sums, err := os.ReadFile("vendor/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for line := range strings.Lines(string(sums)) {
		fields := strings.Fields(line)
		content, err := os.ReadFile(filepath.Join("vendor", fields[1]))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(content)
		if hex.EncodeToString(sum[:]) != fields[0] {
			t.Errorf("%s was changed", fields[1])
		}
		listed[filepath.Clean(fields[1])] = true
	}
	found, err := filepath.Glob("vendor/*/*")
	if err != nil || len(found) != len(listed) {
		t.Errorf("%d files, %d checksums, %v", len(found), len(listed), err)
	}
}
