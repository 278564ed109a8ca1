package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// atGitHub starts an Enterprise Server as far as sign-ins go, and a Keyturn that signs people in there. tokens is the body of
// the nth token answer, form-encoded as GitHub's are.
func atGitHub(t *testing.T, tokens func(form url.Values, n int64) string) *program {
	t.Helper()
	var calls atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login/oauth/authorize", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		back := url.Values{"code": {"the-code"}, "state": {query.Get("state")}}
		http.Redirect(w, r, query.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
	})
	mux.HandleFunc("POST /login/oauth/access_token", func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		w.Header().Set("Content-Type", "application/x-www-form-urlencoded")
		fmt.Fprint(w, tokens(r.PostForm, calls.Add(1)))
	})
	mux.HandleFunc("GET /api/v3/user", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer a1" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		fmt.Fprint(w, `{"id":42,"login":"alice","name":"Alice Liddell","email":"alice@example.com"}`)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	file := tempFile(t, "keyturn.yaml",
		"providers:\n  - {type: github, base_url: '"+server.URL+"', client_id: x, client_secret: hush}\n")
	return startProgram(t, "--config", file)
}

func TestABrandThatRenews(t *testing.T) {
	t.Parallel()
	p := atGitHub(t, func(form url.Values, n int64) string {
		if n > 1 && form.Get("refresh_token") != fmt.Sprintf("r%d", n-1) || n > 2 {
			return "error=bad_refresh_token&error_description=The+refresh+token+passed+is+incorrect+or+expired."
		}
		return fmt.Sprintf("access_token=a%d&refresh_token=r%d&expires_in=28800&refresh_token_expires_in=15811200", n, n) +
			"&token_type=bearer&scope="
	})
	alice := p.person()
	if page := alice.do(t, "GET", "/auth/github", nil); page.url.Path != "/dashboard" || !strings.Contains(page.body,
		"Alice Liddell") {
		t.Fatalf("after the sign-in at %s: %d\n%s", page.url, page.status, page.body)
	}
	if page := alice.do(t, "GET", "/dashboard", nil).body; strings.Contains(page, "<dt>Issuer") {
		t.Errorf("an issuer is shown, of which the brand knows nothing:\n%s", page)
	}
	if token := alice.token(t); token["renewable"] != true || token["expires_in"].(float64) < 28000 {
		t.Errorf("after the sign-in: %v", token)
	}
	if renewed := alice.do(t, "POST", "/api/renew-token", nil).
		json(t); renewed["access_token"] != "a2" || renewed["outcome"] != "rotated" {
		t.Errorf("renewed: %v", renewed)
	}
	// GitHub refuses with status 200: it is a refusal all the same, and the valid token is kept.
	if refused := alice.do(t, "POST", "/api/renew-token", nil).
		json(t); refused["access_token"] != "a2" || refused["outcome"] != "refused" {
		t.Errorf("refused: %v", refused)
	}
}

func TestABrandThatDoesNotRenew(t *testing.T) {
	t.Parallel()
	p := atGitHub(t, func(url.Values, int64) string { return "access_token=a1&scope=&token_type=bearer" })
	alice := p.person()
	page := alice.do(t, "GET", "/auth/github", nil)
	if !strings.Contains(page.body,
		"This provider gave no refresh token: the token is good until it expires, and then a new sign-in is needed.") ||
		!strings.Contains(page.body, "It cannot be renewed; a new sign-in begins a new picture.") {
		t.Errorf("the dashboard does not say that the sign-in will end:\n%s", page.body)
	}
	// GitHub does not say when the token ends: not before the session does.
	if token := alice.token(t); token["renewable"] != false || token["expires_in"].(float64) < 23*3600 {
		t.Errorf("%v", token)
	}
}
