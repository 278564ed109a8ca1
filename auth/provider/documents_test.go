package provider_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"keyturn/auth/provider/scripted"
)

// A key is used whatever the certificate beside it is like: the key itself came from the provider.
func TestKeysWithOddCertificates(t *testing.T) {
	t.Parallel()
	for name, odd := range map[string]map[string]any{
		"an empty one":                {"x5c": []string{""}},
		"one that is none":            {"x5c": []string{base64.StdEncoding.EncodeToString([]byte("nothing"))}},
		"a fingerprint of any length": {"x5t": "AAAA", "x5t#S256": "AA"},
		"an address that is none":     {"x5u": "::"},
	} {
		idp := scripted.New(t)
		set := documentAt(t, idp.URL+"/keys")
		key, _ := set["keys"].([]any)[0].(map[string]any)
		for member, value := range odd {
			key[member] = value
		}
		idp.Keys = func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(set) }
		if done, err := signIn(t, newOIDC(t, idp, nil), nil); err != nil || done.Identity.Subject != "alice" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func documentAt(t *testing.T, at string) (document map[string]any) {
	t.Helper()
	response, err := http.Get(at) //nolint:gosec,noctx // a test's own server
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&document); err != nil {
		t.Fatal(err)
	}
	return document
}

// Documents that are compressed unasked, or begin with a byte order mark, are read as they are meant.
func TestDocumentsAreReadAsTheyAreMeant(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	plain := idp.Config.Handler
	idp.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path == "/authorize" {
			plain.ServeHTTP(w, r)
			return
		}
		document := httptest.NewRecorder()
		plain.ServeHTTP(document, r)
		var packed bytes.Buffer
		zip := gzip.NewWriter(&packed)
		_, _ = io.WriteString(zip, "\uFEFF"+document.Body.String())
		_ = zip.Close()
		w.WriteHeader(document.Code)
		_, _ = w.Write(packed.Bytes())
	})
	if done, err := signIn(t, newOIDC(t, idp, nil), nil); err != nil || done.Identity.Subject != "alice" {
		t.Errorf("%v", err)
	}
}
