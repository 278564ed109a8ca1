package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth/provider/scripted"
)

// contentPolicy is the Content-Security-Policy of pages whose forms may also end at the given origins, each after a space.
func contentPolicy(origins string) string {
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'" + origins +
		"; frame-ancestors 'none'; base-uri 'none'"
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	alice := p.person()
	alice.signIn(t, "alice")
	for _, path := range []string{"/", "/dashboard", "/api/session", "/nothing", "/auth/nobody", "/healthz", "/dev-provider/nothing"} {
		a := alice.do(t, "GET", path, nil)
		for name, value := range map[string]string{
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "X-Frame-Options": "DENY",
		} {
			if a.header.Get(name) != value {
				t.Errorf("%s: %s is %q", path, name, a.header.Get(name))
			}
		}
		policy := contentPolicy("")
		switch a.url.Path {
		case "/api/session":
			policy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
		case "/dashboard":
			policy = contentPolicy(" " + p.base) // where its sign-out ends
		}
		if page := path != "/api/session"; page != strings.Contains(a.header.Get("Permissions-Policy"), "camera=()") ||
			!slices.Equal(a.header.Values("Content-Security-Policy"), []string{policy}) || a.header.Get("Strict-Transport-Security") != "" {
			t.Errorf("%s over http: %v", path, a.header)
		}
		if a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Referrer-Policy") != "same-origin" ||
			!slices.Equal(a.header.Values("Cache-Control"), []string{"no-store"}) {
			t.Errorf("%s: %v", path, a.header)
		}
	}
	refused := alice.do(t, "POST", "/api/trigger-renew-token", nil, "Accept", "Text/HTML", "Sec-Fetch-Site", "cross-site")
	if !strings.Contains(refused.header.Get("Permissions-Policy"), "camera=()") ||
		!slices.Equal(refused.header.Values("Content-Security-Policy"), []string{contentPolicy("")}) || refused.status != 403 {
		t.Errorf("a page under /api: %d %v", refused.status, refused.header)
	}
	page := alice.do(t, "GET", "/dashboard", nil)
	for _, inline := range []string{" style=", " onclick=", "<script>", "hx-on", "js:"} {
		if strings.Contains(page.body, inline) {
			t.Errorf("the dashboard has %q", inline)
		}
	}
	if missing := alice.do(t, "GET", "/api/nothing", nil); missing.status != 404 || missing.json(t)["error"].(map[string]any)["code"] != "not_found" {
		t.Errorf("%d %s", missing.status, missing.body)
	}
}

// Cookies know no ports: a neighbour's of the same name locks nobody out.
func TestOfSeveralSessionsTheOneThatLivesIsTaken(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	alice := p.person()
	alice.signIn(t, "alice")
	own := alice.cookie(t)
	for _, cookies := range []string{own + "; keyturn_session=another", "keyturn_session=another; a=b; " + own, "keyturn_session=; " + own} {
		if a := p.person().do(t, "GET", "/api/session", nil, "Cookie", cookies); a.status != 200 {
			t.Errorf("%s: %d", strings.ReplaceAll(cookies, own, "(hers)"), a.status)
		}
	}
	// Each that is looked up costs a read: whoever sends many has four looked up.
	for _, cookies := range []string{"keyturn_session=one; keyturn_session=another", strings.Repeat("keyturn_session=another; ", 4) + own} {
		if a := p.person().do(t, "GET", "/api/session", nil, "Cookie", cookies); a.status != 401 {
			t.Errorf("%s: %d", strings.ReplaceAll(cookies, own, "(hers)"), a.status)
		}
	}
}

// callback goes as far as the provider's redirect back, and returns it.
func callback(t *testing.T, b *person, path string) string {
	t.Helper()
	begun := b.staying().do(t, "GET", path, nil)
	back := b.staying().do(t, "GET", begun.header.Get("Location"), nil).header.Get("Location")
	if !strings.Contains(back, "code=") {
		t.Fatalf("no way back from %s: %q", path, back)
	}
	return back
}

func TestASignInIsBoundToItsBrowserAndUsedOnce(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	alice, mallory := p.person(), p.person()
	back := callback(t, alice, "/auth/oidc?return_to=/dashboard?x=1")
	if a := mallory.do(t, "GET", back, nil); a.status != http.StatusBadRequest || mallory.do(t, "GET", "/api/session", nil).status != 401 {
		t.Errorf("in another browser: %d", a.status)
	}
	planted := alice.Jar.Cookies(parsedURL(t, p.base))[0].Value
	if a := alice.staying().do(t, "GET", back, nil); a.status != 303 || a.header.Get("Location") != "/dashboard?x=1" {
		t.Errorf("the sign-in: %d to %q", a.status, a.header.Get("Location"))
	}
	if now := alice.Jar.Cookies(parsedURL(t, p.base))[0].Value; now == planted {
		t.Error("the session token is the one from before the sign-in")
	}
	if a := alice.staying().do(t, "GET", back, nil); a.status != 303 || a.header.Get("Location") != "/dashboard" || a.header.Get("Set-Cookie") != "" {
		t.Errorf("reloaded: %d to %q", a.status, a.header.Get("Location"))
	}
	if calls, g := idp.Calls("/token"), alice.generation(t); calls != 1 || g != 1 {
		t.Errorf("%d token calls, generation %v", calls, g)
	}
	if a := mallory.do(t, "GET", back, nil); a.status != http.StatusBadRequest {
		t.Errorf("used, in another browser: %d", a.status)
	}
	for _, query := range []string{"?code=x", "?code=x&state=", "?code=x&state=nothing", "?state=a&state=b&code=x", "?error=access_denied&state=x"} {
		if a := alice.do(t, "GET", "/auth/oidc/callback"+query, nil); a.status != http.StatusBadRequest {
			t.Errorf("%s: %d", query, a.status)
		}
	}
}

func TestFormPost(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	alice := p.person()
	back := parsedURL(t, callback(t, alice, "/auth/oidc"))
	// The browser sends a cross-site POST without the SameSite=Lax cookie.
	a := p.person().staying().do(t, "POST", "/auth/oidc/callback", back.Query(), "Origin", "https://id.example", "Sec-Fetch-Site", "cross-site")
	if a.status != http.StatusSeeOther || !strings.HasPrefix(a.header.Get("Location"), "/auth/oidc/callback?") || len(a.header.Values("Set-Cookie")) != 0 {
		t.Fatalf("%d to %q, %v", a.status, a.header.Get("Location"), a.header)
	}
	if done := alice.do(t, "GET", a.header.Get("Location"), nil); done.url.Path != "/dashboard" {
		t.Errorf("the sign-in ends at %s (%d)", done.url, done.status)
	}
}

func TestAnErrorOfTheProviderIsAPageWithAnotherTry(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	alice := p.person()
	back := parsedURL(t, callback(t, alice, "/auth/oidc"))
	a := alice.do(t, "GET", "/auth/oidc/callback?"+url.Values{
		"state": {back.Query().Get("state")}, "error": {"access_denied"}, "error_description": {"<script>alert(1)</script>"},
	}.Encode(), nil)
	if a.status != http.StatusBadRequest || !strings.Contains(a.body, "was cancelled") || !strings.Contains(a.body, `href="/auth/oidc"`) || strings.Contains(a.body, "<script>alert") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// Whom a person is to turn to depends on whether the provider is down, or its metadata is wrong.
func TestWhoseMatterItIsThatASignInCannotBegin(t *testing.T) {
	t.Parallel()
	var says atomic.Pointer[http.HandlerFunc]
	idp := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*says.Load())(w, r) }))
	t.Cleanup(idp.Close)
	nothing := http.HandlerFunc(http.NotFound)
	says.Store(&nothing)
	p := startProgram(t, "KEYTURN_ISSUER="+idp.URL, "KEYTURN_CLIENT_ID=x")
	p.person().do(t, "GET", "/auth/oidc", nil) // after it, the question of the start is answered, too
	for name, c := range map[string]struct {
		says       http.HandlerFunc
		page, logs string
	}{
		"another issuer": {func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, map[string]any{"issuer": "https://other.example", "authorization_endpoint": idp.URL, "token_endpoint": idp.URL, "jwks_uri": idp.URL})
		}, "for Keyturn&#39;s operator to mend", "other.example"},
		"a page":        {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<p>Hello")) }, "for Keyturn&#39;s operator to mend", "invalid character"},
		"nothing there": {http.NotFound, "for Keyturn&#39;s operator to mend", "404 Not Found"},
		"an error":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, "Try again in a moment", "502 Bad Gateway"},
		"a broken answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "500")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, "Try again in a moment", "unexpected EOF"},
		"no answer at all": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "Try again in a moment", ": EOF"},
	} {
		says.Store(&c.says)
		a := p.person().do(t, "GET", "/auth/oidc", nil)
		if a.status != http.StatusBadGateway || !strings.Contains(a.body, c.page) || strings.Contains(a.body, c.logs) {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		eventually(t, name+" is in the log", func() bool { return strings.Contains(p.log.String(), c.logs) })
	}
}

// What went wrong with a sign-in is said in a sentence; codes of our own and the words of libraries are for the log.
func TestAFailedSignInIsSaidInPlainWords(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, func(idp *scripted.Provider) { idp.Class = scripted.Static })
	code := func(edit func(url.Values)) func(answer, request url.Values) {
		return func(answer, _ url.Values) { edit(answer) }
	}
	for name, c := range map[string]struct {
		set       func()
		page, log string
	}{
		"a wrong secret": {func() { idp.Authenticate = func(*http.Request) bool { return false } },
			"(invalid_client). The operator has to mend that; it is not your doing.</bdi></p><p>Trying again will not help until then.", "code=code_exchange_failed"},
		"a used code": {func() { idp.Authorization = code(func(q url.Values) { q.Set("code", "old") }) }, "does not know the code", "invalid_grant"},
		"another audience": {func() { idp.Claims = func(claims map[string]any, _ bool) { claims["aud"] = "somebody" } },
			"does not stand up to the checks", "oidc: expected audience"},
		"neither code nor error": {func() { idp.Authorization = code(func(q url.Values) { q.Del("code") }) }, "has neither a code nor an error", "code=no_code"},
		"its own words": {func() {
			idp.Authorization = code(func(q url.Values) { q.Set("error", "quota."); q.Set("error_description", "Too many of you.") })
		}, "answered with the error quota. It says: “Too many of you.”", "code=quota."},
		"a scope that it refuses": {func() {
			idp.Authorization = code(func(q url.Values) { q.Set("error", "invalid_scope"); q.Set("error_description", "No such scope") })
		},
			"(invalid_scope). It says: “No such scope”</bdi></p><p>The operator has to mend that; it is not your doing. Trying again will not help until then.", "KEYTURN_SCOPES"},
		"another's userinfo": {func() {
			idp.UserInfo = func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, map[string]any{"sub": "bob"}) }
		},
			"does not say that it is about the person", "code=invalid_userinfo"},
	} {
		idp.Change(func() {
			idp.Authenticate, idp.Authorization, idp.Claims, idp.UserInfo = nil, nil, nil, nil
			c.set()
		})
		a := p.person().do(t, "GET", "/auth/oidc", nil)
		if a.status < 400 || !strings.Contains(a.body, "<title>Sign-in failed · Keyturn</title>") || !strings.Contains(a.body, c.page) || strings.Contains(a.body, c.log) || strings.Contains(a.body, "oidc:") {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		eventually(t, name+" is in the log", func() bool { return strings.Contains(p.log.String(), c.log) })
	}
}

// To many providers two sign-ins of one person are one grant: to revoke the first's tokens would end the second as well.
func TestASecondSignInTakesTheFirstOnesPlace(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	first := idp.Issued()[1]
	alice.do(t, "GET", "/auth/oidc", nil)
	if revoked := idp.Revoked(); len(revoked) != 0 {
		t.Errorf("the same person's tokens were revoked: %d", len(revoked))
	}
	second := idp.Issued()[4]
	idp.Change(func() { idp.Subject = "bob" })
	alice.do(t, "GET", "/auth/oidc", nil)
	eventually(t, "a revocation after another person's sign-in", func() bool { return len(idp.Revoked()) > 0 }) // nobody waits for it
	if revoked := idp.Revoked(); len(revoked) != 1 || revoked[0] != second || revoked[0] == first {
		t.Errorf("after another person's sign-in %d tokens are revoked", len(revoked))
	}
	if g := alice.generation(t); g != 1 {
		t.Errorf("generation %v", g)
	}
}

// OpenID Connect Core section 11: a provider may insist on prompt=consent before it gives a refresh token.
func TestAProviderThatInsistsOnConsent(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, func(idp *scripted.Provider) { idp.InsistsOnConsent = true })
	alice, bob := p.person(), p.person()
	if a := alice.do(t, "GET", "/auth/oidc?return_to=/dashboard", nil); a.url.Path != "/dashboard" || alice.token(t)["renewable"] != true {
		t.Errorf("the sign-in ends at %s, %v", a.url, alice.token(t))
	}
	if a := alice.do(t, "POST", "/api/renew-token", nil); a.json(t)["outcome"] != "rotated" {
		t.Errorf("%d %s", a.status, a.body)
	}
	before := len(idp.Issued())
	if bob.do(t, "GET", "/auth/oidc", nil); len(idp.Issued()) != before+3 || bob.token(t)["renewable"] != true {
		t.Error("what was learned is asked for again")
	}
}

// The round for consent may fail in any way: the one before it stands.
func TestWhoDeclinesConsentIsSignedIn(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(answer url.Values){
		"declined": func(answer url.Values) {
			answer.Del("code")
			answer.Set("error", "access_denied")
		},
		"a code that is no good":   func(answer url.Values) { answer.Set("code", "other") },
		"an answer without a code": func(answer url.Values) { answer.Del("code") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, p := atScripted(t, func(idp *scripted.Provider) {
				idp.Tokens = func(tokens map[string]any, _ bool) { delete(tokens, "refresh_token") }
				idp.Authorization = func(answer, request url.Values) {
					if request.Get("prompt") == "consent" {
						spoil(answer)
					}
				}
			})
			b := p.person()
			if a := b.do(t, "GET", "/auth/oidc", nil); a.url.Path != "/dashboard" || !b.signedIn(t) {
				t.Errorf("the sign-in ends at %s: %s", a.url, a.body)
			}
		})
	}
}

func TestWithoutARefreshToken(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, func(idp *scripted.Provider) { idp.Lifetime = 2 * time.Second; idp.NoRefreshToken = true })
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	if token := alice.token(t); token["renewable"] != false || token["next_renewal_at"] != nil || token["state"] != "fresh" {
		t.Errorf("%v", token)
	}
	if a := alice.do(t, "POST", "/api/renew-token", nil); a.status != 200 || a.json(t)["error"].(map[string]any)["code"] != "not_renewable" {
		t.Errorf("%d %s", a.status, a.body)
	}
	time.Sleep(2100 * time.Millisecond)
	if token := alice.token(t); token["state"] != "needs_sign_in" {
		t.Errorf("%v", token)
	}
	if a := alice.do(t, "POST", "/api/renew-token", nil); a.status != 401 || a.json(t)["error"].(map[string]any)["code"] != "sign_in_required" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if page := alice.do(t, "GET", "/dashboard", nil); page.status != 200 || !strings.Contains(page.body, "Sign in again") {
		t.Errorf("the dashboard (%d) offers no new sign-in", page.status)
	}
}

func TestWhatIsTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	alice := p.person()
	alice.signIn(t, "alice")
	large := url.Values{"x": {strings.Repeat("a", 1<<20)}}
	for _, path := range []string{"/api/renew-token", "/api/trigger-renew-token?query=update-token-data", "/auth/dev/callback", "/auth/signout"} {
		if a := alice.do(t, "POST", path, large); a.status != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	for _, name := range []string{"code", "state"} {
		a := alice.do(t, "GET", "/auth/dev/callback?"+url.Values{name: {strings.Repeat("a", 64<<10)}}.Encode(), nil, "Accept", "text/html")
		if a.status != http.StatusBadRequest || !strings.Contains(a.body, "<!doctype html>") || !strings.Contains(a.body, "is too long") {
			t.Errorf("a long %s: %d %.200s", name, a.status, a.body)
		}
	}
	if g := alice.generation(t); g != 1 {
		t.Errorf("generation %v", g)
	}
}

func TestStartErrorsAreOneLine(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	unwritable := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(unwritable, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"--leeway":       {"--leeway", "soon"},
		"--addr":         {"--addr", taken.Addr().String()},
		"--database":     {"--database", "postgres://user:hunter2@localhost/x"},
		"--data-dir":     {"--data-dir", filepath.Join(unwritable, "dir")},
		"--dev-provider": {"--dev-provider", "--base-url", "https://keyturn.example.com"},
	} {
		p := &program{dir: filepath.Join(t.TempDir(), "data")}
		output := runExpectingFailure(t, p, args...)
		if strings.Count(output, "\n") != 1 || !strings.Contains(output, name) || strings.Contains(output, "hunter2") {
			t.Errorf("%v: %s", args, output)
		}
	}
}
