package provider_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"keyturn/auth/provider"
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
	response, err := http.Get(at) //nolint:noctx // a test's own server
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&document); err != nil {
		t.Fatal(err)
	}
	return document
}

// Frameworks redirect to the same path with a slash at its end. What leads anywhere else, or on and on, is not followed, and the check
// says where it leads.
func TestMetadataBehindARedirect(t *testing.T) {
	t.Parallel()
	const at = "/.well-known/openid-configuration"
	other := scripted.New(t)
	for name, c := range map[string]struct {
		to       func(own string) string
		followed bool
	}{
		"with a slash":      {func(string) string { return at + "/" }, true},
		"with its host":     {func(own string) string { return own + at + "/" }, true},
		"round and round":   {func(string) string { return at }, false},
		"to another port":   {func(string) string { return other.URL + at }, false},
		"with another name": {func(own string) string { return strings.Replace(own, "127.0.0.1", "localhost", 1) + at + "/" }, false},
		"to another scheme": {func(own string) string { return strings.Replace(own, "http:", "https:", 1) + at + "/" }, false},
		"as somebody":       {func(own string) string { return strings.Replace(own, "://", "://a:b@", 1) + at + "/" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idp := scripted.New(t)
			plain := idp.Config.Handler
			idp.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == at {
					w.Header().Set("Location", c.to(idp.URL))
					w.WriteHeader(http.StatusMovedPermanently)
					return
				}
				r.URL.Path = strings.TrimSuffix(r.URL.Path, "/")
				plain.ServeHTTP(w, r)
			})
			p := newOIDC(t, idp, nil)
			_, err := signIn(t, p, nil)
			report := p.Check(t.Context())
			told := len(report.Wrong) == 1 && strings.Contains(report.Wrong[0], "status 301 and a redirect to ")
			if (err == nil) != c.followed || told == c.followed || other.Calls(at) != 0 {
				t.Errorf("%v, check: %q", err, report.Wrong)
			}
		})
	}
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

// A provider that takes authorization requests from the client itself only (RFC 9126) gets them so.
func TestPushedAuthorizationRequests(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	var pushed url.Values
	refuse, noBasic := false, false
	plain := idp.Config.Handler
	idp.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/par" && refuse:
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":"invalid_request","error_description":"no `+r.Header.Get("Authorization")+`"}`)
		case r.URL.Path == "/par" && noBasic && r.Header.Get("Authorization") != "":
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":"invalid_client"}`)
		case r.URL.Path == "/par" && noBasic:
			if r.PostFormValue("client_secret") != scripted.ClientSecret {
				t.Error("the client does not authenticate")
			}
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, `{"request_uri":"urn:x"}`)
		case r.URL.Path == "/par":
			if id, secret, _ := r.BasicAuth(); id != scripted.ClientID || secret != url.QueryEscape(scripted.ClientSecret) {
				t.Errorf("client %s", id)
			}
			_ = r.ParseForm()
			pushed = r.PostForm
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, `{"request_uri":"urn:ietf:params:oauth:request_uri:1","expires_in":60}`)
		case r.URL.Path == "/authorize":
			if query := r.URL.Query(); len(query) != 3 || query.Get("x") != "1" || query.Get("client_id") != scripted.ClientID ||
				query.Get("request_uri") != "urn:ietf:params:oauth:request_uri:1" {
				t.Errorf("the browser brings %v", query)
			}
			r.URL.RawQuery = pushed.Encode()
			fallthrough
		default:
			plain.ServeHTTP(w, r)
		}
	})
	idp.Document = func(d map[string]any) {
		d["authorization_endpoint"] = idp.URL + "/authorize?x=1"
		d["pushed_authorization_request_endpoint"], d["require_pushed_authorization_requests"] = idp.URL+"/par", true
	}
	p := newOIDC(t, idp, func(c *provider.Config) { c.Resource = []string{"https://api.example/"} })
	if done, err := signIn(t, p, nil); err != nil || done.Identity.Subject != "alice" {
		t.Errorf("%v", err)
	}
	if pushed.Has("x") || pushed.Get("code_challenge_method") != "S256" || pushed.Get("resource") == "" || pushed.Get("redirect_uri") == "" ||
		pushed.Get("login_hint") != "alice@example.com" {
		t.Errorf("pushed: %v", pushed)
	}
	refuse = true
	_, err := p.Begin(t.Context(), "state", "", "")
	var failed *provider.SignInError
	if !errors.As(err, &failed) || failed.Code != "authorization_request_refused" || failed.Failure.Code != "invalid_request" ||
		strings.Contains(failed.Error(), "Basic ") && !strings.Contains(failed.Error(), "[redacted]") {
		t.Errorf("%v", err)
	}
	refuse, noBasic = false, true
	document := idp.Document
	idp.Document = func(d map[string]any) {
		document(d)
		d["token_endpoint_auth_methods_supported"] = []string{"client_secret_basic", "client_secret_post"}
	}
	if _, err := newOIDC(t, idp, nil).Begin(t.Context(), "state", "", ""); err != nil {
		t.Errorf("where Basic is only announced: %v", err)
	}
}
