package devprovider

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	verifier    = "a-code-verifier-of-at-least-forty-three-characters"
	redirectURI = "http://rp.example/callback"
	secret      = "the client's secret/+"
)

// world is a provider behind HTTP, and everything it ever handed out.
type world struct {
	t      *testing.T
	server *httptest.Server
	config Config
	p      *Provider
	live   atomic.Pointer[http.Handler]
	log    strings.Builder
	issued []string
}

func newWorld(t *testing.T, interval time.Duration) *world {
	t.Helper()
	w := &world{t: t}
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { (*w.live.Load()).ServeHTTP(rw, r) }))
	t.Cleanup(w.server.Close)
	w.config = Config{
		Issuer: w.server.URL + "/dev-provider", ClientID: "keyturn", ClientSecret: secret, RedirectURIs: []string{redirectURI},
		PostLogoutRedirectURIs: []string{"http://rp.example/"}, TokenLifetime: 2 * time.Minute, ReuseInterval: interval, Dir: t.TempDir(),
		Log: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	w.open()
	return w
}

func (w *world) open() {
	w.t.Helper()
	p, err := Open(w.t.Context(), w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.p = p
	handler := p.Handler()
	w.live.Store(&handler)
	w.t.Cleanup(func() { _ = p.Close() })
}

// call makes a request without following redirects.
func (w *world) call(method, path string, form url.Values, edit func(*http.Request)) (*http.Response, string) {
	w.t.Helper()
	target := path
	if strings.HasPrefix(path, "/") {
		target = w.config.Issuer + path
	}
	r, err := http.NewRequestWithContext(w.t.Context(), method, target, strings.NewReader(form.Encode()))
	if err != nil {
		w.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if edit != nil {
		edit(r)
	}
	response, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return response, string(body)
}

func basic(r *http.Request) { r.SetBasicAuth("keyturn", url.QueryEscape(secret)) }

func (w *world) token(form url.Values) (int, map[string]any) {
	w.t.Helper()
	response, body := w.call("POST", "/oauth/token", form, basic)
	answer := map[string]any{}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		w.t.Fatalf("%d %s", response.StatusCode, body)
	}
	return response.StatusCode, answer
}

func authorization(edit func(url.Values)) string {
	sum := sha256.Sum256([]byte(verifier))
	query := url.Values{
		"client_id": {"keyturn"}, "redirect_uri": {redirectURI}, "response_type": {"code"}, "scope": {"openid profile email offline_access"},
		"state": {"s"}, "nonce": {"n"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	if edit != nil {
		edit(query)
	}
	return "/authorize?" + query.Encode()
}

var hidden = regexp.MustCompile(`name="authRequestID" value="([^"]+)"`)

// code signs alice in through the form and returns the code.
func (w *world) code() string {
	w.t.Helper()
	begun, _ := w.call("GET", authorization(nil), nil, nil)
	_, page := w.call("GET", w.server.URL+begun.Header.Get("Location"), nil, nil)
	found := hidden.FindStringSubmatch(page)
	if found == nil {
		w.t.Fatalf("no form (at %s): %s", begun.Header.Get("Location"), page)
	}
	chosen, _ := w.call("POST", "/login", url.Values{"authRequestID": {found[1]}, "user": {"alice"}}, nil)
	back, _ := w.call("GET", chosen.Header.Get("Location"), nil, nil)
	u, err := url.Parse(back.Header.Get("Location"))
	if err != nil || u.Query().Get("state") != "s" || u.Query().Get("code") == "" {
		w.t.Fatalf("the sign-in leads to %q", back.Header.Get("Location"))
	}
	if again, _ := w.call("POST", "/login", url.Values{"authRequestID": {found[1]}, "user": {"bob"}}, nil); again.StatusCode != http.StatusBadRequest {
		w.t.Errorf("a finished sign-in is done again: %d", again.StatusCode)
	}
	return u.Query().Get("code")
}

func exchange(code string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirectURI}, "code_verifier": {verifier}}
}

func (w *world) signIn() map[string]any {
	w.t.Helper()
	status, tokens := w.token(exchange(w.code()))
	if status != 200 {
		w.t.Fatalf("%d %v", status, tokens)
	}
	w.keep(tokens)
	return tokens
}

func (w *world) keep(tokens map[string]any) {
	for _, name := range []string{"access_token", "refresh_token", "id_token"} {
		if text, ok := tokens[name].(string); ok {
			w.issued = append(w.issued, text)
		}
	}
}

func (w *world) refresh(token any) (int, map[string]any) {
	w.t.Helper()
	status, tokens := w.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token.(string)}})
	w.keep(tokens)
	return status, tokens
}

func (w *world) refused(token any) {
	w.t.Helper()
	if status, answer := w.refresh(token); status != http.StatusBadRequest || answer["error"] != "invalid_grant" {
		w.t.Errorf("%d %v, want invalid_grant", status, answer)
	}
}

func (w *world) userinfo(token any) int {
	w.t.Helper()
	response, _ := w.call("GET", "/userinfo", nil, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token.(string)) })
	return response.StatusCode
}

func claims(t *testing.T, token any) map[string]any {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token.(string), ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	object := map[string]any{}
	if err := json.Unmarshal(payload, &object); err != nil {
		t.Fatal(err)
	}
	return object
}
