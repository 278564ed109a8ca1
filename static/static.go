// Package static serves the embedded assets under names that carry a hash of their content.
package static

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

//go:embed app.css app.js live.js timeline.js favicon.svg vendor/htmx.org/*.js vendor/pico/pico.classless.min.css vendor/simple-icons/*.svg
var files embed.FS

const marksDir = "vendor/simple-icons"

// asset is one file, ready to be sent.
type asset struct {
	kind string
	hash string
	raw  []byte
	zip  func() []byte // compressed once, when first asked for
}

// table is the assets by URL, with and without its hash, and the URLs by name.
type table struct {
	byURL, unhashed map[string]*asset
	urls            map[string]string
}

var assets = sync.OnceValue(func() table {
	t := table{byURL: map[string]*asset{}, unhashed: map[string]*asset{}, urls: map[string]string{}}
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if name == marksDir {
			return fs.SkipDir // the pages have the outlines in them
		}
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(raw)
		hash := hex.EncodeToString(sum[:6])
		extension := path.Ext(name)
		stem := "/static/" + strings.TrimSuffix(path.Base(name), extension)
		url := stem + "." + hash + extension
		t.urls[name] = url
		t.byURL[url] = &asset{kind: mimeType(extension), hash: hash, raw: raw, zip: sync.OnceValue(func() []byte { return compress(raw) })}
		t.unhashed[stem+extension] = t.byURL[url]
		return nil
	})
	if err != nil {
		panic(fmt.Sprintf("embedded files: %v", err)) // they are part of the program
	}
	return t
})

func mimeType(extension string) string {
	switch extension {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	default:
		return mime.TypeByExtension(extension)
	}
}

func compress(raw []byte) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(raw)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil
	}
	return b.Bytes()
}

// URL is where the named asset is served. It panics on a name that is not embedded.
func URL(name string) string {
	url, ok := assets().urls[name]
	if !ok {
		panic("no such asset: " + name)
	}
	return url
}

// Mark is the outline of a brand's mark, for the d attribute of an SVG path in a box of 24 by 24; "" if there is none.
func Mark(brand string) string { return marks()[brand] }

var marks = sync.OnceValue(func() map[string]string {
	entries, err := files.ReadDir(marksDir)
	if err != nil {
		panic(fmt.Sprintf("embedded files: %v", err)) // they are part of the program
	}
	outlines := map[string]string{}
	for _, entry := range entries {
		svg, err := files.ReadFile(path.Join(marksDir, entry.Name()))
		if err != nil {
			panic(fmt.Sprintf("embedded files: %v", err))
		}
		if _, after, found := strings.Cut(string(svg), ` d="`); found {
			outline, _, _ := strings.Cut(after, `"`)
			outlines[strings.TrimSuffix(entry.Name(), ".svg")] = outline
		}
	}
	return outlines
})

// AcceptsGzip says whether the client takes gzip (RFC 9110 section 12.5.3).
func AcceptsGzip(h http.Header) bool {
	for one := range strings.SplitSeq(strings.Join(h.Values("Accept-Encoding"), ","), ",") {
		coding, weight, _ := strings.Cut(one, ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		_, q, weighed := strings.Cut(weight, "=")
		value, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
		return !weighed || err == nil && value > 0
	}
	return false
}

// hashed is a URL with a hash in it.
var hashed = regexp.MustCompile(`^(.+)\.[0-9a-f]{12}(\.[a-z]+)$`)

// Serve answers with the asset that the request names; false when there is none. What has a hash in its name never changes, and may be
// kept for ever. A page of another version, whose process takes turns with this one during an upgrade, names another hash: it does better
// with this version's asset than with none, until it is loaded again.
func Serve(w http.ResponseWriter, r *http.Request) bool {
	h := w.Header()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return true
	}
	keep := "public, max-age=31536000, immutable"
	a, ok := assets().byURL[r.URL.Path]
	if parts := hashed.FindStringSubmatch(r.URL.Path); !ok && parts != nil {
		keep = "no-store"
		a, ok = assets().unhashed[parts[1]+parts[2]]
	}
	if !ok {
		return false
	}
	h.Set("Cache-Control", keep)
	h.Set("Content-Type", a.kind)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Vary", "Accept-Encoding")
	body, tag := a.raw, `"`+a.hash+`"`
	if zipped := a.zip(); AcceptsGzip(r.Header) && zipped != nil && len(zipped) < len(body) {
		h.Set("Content-Encoding", "gzip")
		body, tag = zipped, `"`+a.hash+`-gzip"`
	}
	h.Set("ETag", tag)
	if strings.Contains(r.Header.Get("If-None-Match"), tag) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return true
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body)
	}
	return true
}
