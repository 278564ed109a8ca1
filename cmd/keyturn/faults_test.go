package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth/provider/scripted"
)

// fault is a way in which a token endpoint answers wrongly, and what people see of it.
type fault struct {
	name    string
	script  func(w http.ResponseWriter, r *http.Request, grant func() map[string]any)
	times   int32 // it answers so; then it is well again
	outcome string
	says    string        // a part of the message
	party   string        // whose matter it is
	within  time.Duration // the next try; 0: none
	heals   bool          // by itself, soon
}

type script = func(w http.ResponseWriter, r *http.Request, grant func() map[string]any)

func answers(status int, body string, header ...string) script {
	return func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func oauthError(status int, code string) script {
	return answers(status, `{"error":"`+code+`","error_description":"because of that"}`)
}

// spoiled has the provider rotate, and spoils the answer.
func spoiled(spoil func(tokens map[string]any)) script {
	return func(w http.ResponseWriter, _ *http.Request, grant func() map[string]any) {
		tokens := grant()
		spoil(tokens)
		writeJSON(w, tokens)
	}
}

func hangs(_ http.ResponseWriter, r *http.Request, _ func() map[string]any) { <-r.Context().Done() }

func drips(w http.ResponseWriter, r *http.Request, _ func() map[string]any) {
	for _, c := range []byte(`{"access_token":"a-very-slow-one","refresh_token":"`) {
		_, _ = w.Write([]byte{c})
		w.(http.Flusher).Flush()
		select {
		case <-time.After(time.Second):
		case <-r.Context().Done():
			return
		}
	}
}

func resets(http.ResponseWriter, *http.Request, func() map[string]any) { panic(http.ErrAbortHandler) }

func truncates(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) {
	w.Header().Set("Content-Length", "500")
	_, _ = w.Write([]byte(`{"access_token":"ab`))
	panic(http.ErrAbortHandler)
}

// floods writes 10 GB, as long as anybody reads.
func floods(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) {
	chunk := []byte(strings.Repeat("x", 1<<20))
	for range 10 << 10 {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// packed is 200 MB of zeros in 200 KB.
var packed = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	for zeros, n := make([]byte, 1<<20), 0; n < 200; n++ {
		_, _ = w.Write(zeros)
	}
	_ = w.Close()
	return b.Bytes()
})

func bomb(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) {
	w.Header().Set("Content-Encoding", "gzip")
	_, _ = w.Write(packed())
}

// Every way of answering wrongly, through the whole program: what comes of a click, what the session says about it, and
// that it heals with nobody's help.
func TestFaultsOfTheTokenEndpoint(t *testing.T) {
	t.Parallel()
	var stolen atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stolen.Add(1) }))
	t.Cleanup(elsewhere.Close)
	redirects := func(status int) script {
		return func(w http.ResponseWriter, r *http.Request, _ func() map[string]any) {
			http.Redirect(w, r, elsewhere.URL+"/token", status)
		}
	}
	packed()
	soon := 4 * time.Second
	list := []fault{
		{"invalid-grant", oauthError(400, "invalid_grant"), 1, "refused", "has refused the refresh token", "you", 0, false},
		{"invalid-grant-403", oauthError(403, "invalid_grant"), 1, "refused", "has refused the refresh token", "you", 0, false},
		{"github", oauthError(200, "bad_refresh_token"), 1, "refused", "has refused the refresh token", "you", 0, false},
		{"login-required", oauthError(400, "login_required"), 1, "refused", "wants to see you again", "you", 0, false},
		{"interaction-required", oauthError(400, "interaction_required"), 1, "refused", "wants to see you again", "you", 0, false},
		{"invalid-request", answers(400, `{"error":"invalid_request"}`), 1, "kept", "did not understand the request, or had two at once.", "provider", soon, true},
		{"invalid-request-why", oauthError(400, "invalid_request"), 1, "kept", "did not accept the request: “because of that”.", "provider", soon, true},
		{"invalid-client", oauthError(401, "invalid_client"), 1, "kept", "not your doing", "operator", 5 * time.Minute, false},
		{"unauthorized-client", oauthError(400, "unauthorized_client"), 1, "kept", "not your doing", "operator", 5 * time.Minute, false},
		{"unsupported", oauthError(400, "unsupported_grant_type"), 1, "kept", "not your doing", "operator", 5 * time.Minute, false},
		{"invalid-scope", oauthError(400, "invalid_scope"), 2, "kept", "not your doing", "operator", soon, true},
		{"server-error", oauthError(500, "server_error"), 1, "kept", "a problem of its own", "provider", soon, true},
		{"unavailable", oauthError(503, "temporarily_unavailable"), 1, "kept", "a problem of its own", "provider", soon, true},
		{"timeout-408", answers(408, ""), 1, "kept", "a problem of its own (status 408)", "provider", soon, true},
		{"limit-seconds", answers(429, "", "Retry-After", "2"), 1, "kept", "asks for fewer requests", "provider", 3 * time.Second, true},
		{"limit-date", answers(429, "", "Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)), 1, "kept", "asks for fewer requests", "provider", 10 * time.Minute, false},
		{"retry-after-503", answers(503, "", "Retry-After", "2"), 1, "kept", "a problem of its own", "provider", 3 * time.Second, true},
		{"bad-request", answers(400, ""), 1, "kept", "If it goes on so, sign out and sign in again.", "provider", soon, true},
		{"forbidden", answers(403, "No such\nclient"), 1, "kept", "status 403 and without an error code; Keyturn's log has what it said.", "provider", soon, true},
		{"bad-gateway", answers(502, "<html>Bad gateway</html>"), 1, "kept", "a problem of its own (status 502)", "provider", soon, true},
		{"hotel-network", answers(200, "<html>Welcome</html>"), 2, "kept", "something that is no token answer", "provider", soon, true},
		{"empty", answers(200, ""), 2, "kept", "something that is no token answer", "provider", soon, true},
		{"bomb", bomb, 2, "kept", "something that is no token answer", "provider", soon, true},
		{"flood", floods, 2, "kept", "", "provider", soon, true},
		{"truncated", truncates, 2, "kept", "closed the connection", "provider", soon, true},
		{"reset", resets, 2, "kept", "closed the connection", "provider", soon, true},
		{"hang", hangs, 2, "kept", "does not answer in time", "provider", soon, true},
		{"drip", drips, 2, "kept", "", "provider", soon, true},
		{"no-access-token", spoiled(func(t map[string]any) { delete(t, "access_token") }), 1, "kept", "without an access token", "provider", soon, true},
		{"token-type-mac", spoiled(func(t map[string]any) { t["token_type"] = "mac" }), 1, "kept", "a kind of token", "provider", soon, true},
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		list = append(list, fault{fmt.Sprint("redirect-", status), redirects(status), 1, "kept", "must not do", "operator", soon, true})
	}
	idps := map[string]*scripted.Provider{}
	left := map[string]*atomic.Int32{}
	var yaml strings.Builder
	yaml.WriteString("providers:\n")
	for _, f := range list {
		idp, remaining := scripted.New(t), &atomic.Int32{}
		idp.Class, idp.Interval = scripted.SameSuccessor, time.Minute
		remaining.Store(f.times)
		idp.Token = func(w http.ResponseWriter, r *http.Request, grant func() map[string]any) bool {
			if remaining.Add(-1) < 0 {
				return false
			}
			f.script(w, r, grant)
			return true
		}
		idps[f.name], left[f.name] = idp, remaining
		fmt.Fprintf(&yaml, "  - {name: %s, label: P, issuer: %q, client_id: %s, client_secret: %q}\n", f.name, idp.URL, scripted.ClientID, scripted.ClientSecret)
	}
	config := filepath.Join(t.TempDir(), "keyturn.yaml")
	if err := os.WriteFile(config, []byte(yaml.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProgram(t, "--config="+config, "--max-age=3s", "--renew-timeout=1s")
	t.Run("each", func(t *testing.T) {
		for _, f := range list {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				f.run(t, p, idps[f.name])
			})
		}
	})
	if !strings.Contains(p.log.String(), `detail="HTTP status 403" warning="" said="No such client"`) {
		t.Error("what came without an error code is not in the log")
	}
	if stolen.Load() != 0 {
		t.Errorf("%d requests followed a redirect", stolen.Load())
	}
}

func (f fault) run(t *testing.T, p *program, idp *scripted.Provider) {
	alice := p.person()
	if a := alice.do(t, "GET", "/auth/"+f.name, nil); a.url.Path != "/dashboard" {
		t.Fatalf("sign-in ends at %s: %s", a.url, a.body)
	}
	a := alice.do(t, "POST", "/api/renew-token", nil)
	got := a.json(t)
	failure, _ := got["error"].(map[string]any)
	if a.status != 200 || got["outcome"] != f.outcome || got["access_token"] == "" || failure == nil || !strings.Contains(failure["message"].(string), f.says) {
		t.Fatalf("%d %s; want %s and %q", a.status, a.body, f.outcome, f.says)
	}
	// A renewal that nobody waits for any more may still be under way.
	var token map[string]any
	eventually(t, "the failure in the session", func() bool {
		token = alice.token(t)
		return token["error"] != nil || token["generation"] != 1.0
	})
	if shown, _ := token["error"].(map[string]any); shown != nil {
		if shown["party"] != f.party || !strings.Contains(shown["message"].(string), f.says) {
			t.Errorf("the session says %v", shown)
		}
		next, err := time.Parse(time.RFC3339, fmt.Sprint(shown["next_try_at"]))
		if f.within == 0 && err == nil || f.within > 0 && (err != nil || time.Until(next) > f.within) {
			t.Errorf("next try at %v, want within %v", shown["next_try_at"], f.within)
		}
		if f.within > time.Minute && time.Until(next) < f.within-time.Minute {
			t.Errorf("next try at %v already", next)
		}
	}
	if !f.heals {
		calls := idp.TokenCalls()
		time.Sleep(4 * time.Second)
		if more := idp.TokenCalls() - calls; more != 0 {
			t.Errorf("%d more calls by itself", more)
		}
		return
	}
	eventually(t, "the provider to be asked by nobody", func() bool { return idp.TokenCalls() > int(f.times) })
	eventually(t, "it to be well", func() bool {
		token := alice.token(t)
		return token["generation"].(float64) > 1 && token["error"] == nil
	})
	if most := idp.MostPresented(); most > int(f.times)+1 {
		t.Errorf("a refresh token was presented %d times", most)
	}
}
