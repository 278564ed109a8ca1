package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"keyturn/auth/authtest"
	"keyturn/auth/provider/scripted"
)

func TestTheFirstMinute(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	alice := p.person()
	page := alice.do(t, "GET", "/", nil)
	if page.status != http.StatusOK || !strings.Contains(page.body, `href="/auth/dev"`) {
		t.Fatalf("sign-in page: %d\n%s", page.status, page.body)
	}
	if ended := alice.signIn(t, "alice"); ended.url.Path != "/dashboard" || !strings.Contains(ended.body, "Alice Liddell") {
		t.Fatalf("after the sign-in at %s:\n%s", ended.url, ended.body)
	}
	session := alice.do(t, "GET", "/api/session", nil)
	if cache := session.header.Get("Cache-Control"); cache != "no-store" {
		t.Errorf("Cache-Control %q", cache)
	}
	whole := session.json(t)
	user, token := whole["user"].(map[string]any), whole["token"].(map[string]any)
	if user["email"] != "alice@dev.example" || whole["provider"] != "dev" || token["state"] != "fresh" || token["generation"] != 1.0 ||
		token["renewable"] != true || token["token_type"] != "Bearer" || token["last_outcome"] != nil || token["error"] != nil {
		t.Errorf("session: %s", session.body)
	}
	times := map[string]time.Time{}
	for _, name := range []string{"issued_at", "expires_at", "next_renewal_at"} {
		at, err := time.Parse("2006-01-02T15:04:05Z", token[name].(string))
		if err != nil || time.Since(at).Abs() > 3*time.Minute {
			t.Errorf("%s is %v", name, token[name])
		}
		times[name] = at
	}
	if due := times["next_renewal_at"].Sub(times["issued_at"]); due.Round(2*time.Second) != 90*time.Second {
		t.Errorf("a token of two minutes is due after %v", due)
	}
	if home := alice.staying().do(t, "GET", "/", nil); home.status != http.StatusSeeOther || home.header.Get("Location") != "/dashboard" {
		t.Errorf("/ signed in: %d to %q", home.status, home.header.Get("Location"))
	}
}

func TestTriggerRenewToken(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	alice := p.person()
	alice.signIn(t, "alice")
	const path = "/api/trigger-renew-token"
	for _, step := range []struct {
		name, path string
		header     []string
		outcome    any
		generation float64
	}{
		{"with the query", path + "?query=update-token-data", nil, "rotated", 2},
		{"with the header", path, []string{"query", "update-token-data"}, "rotated", 3},
		{"with neither", path, nil, nil, 3},
		{"with another word", path + "?query=Update-Token-Data", nil, nil, 3},
	} {
		a := alice.do(t, "POST", step.path, nil, step.header...)
		got := a.json(t)
		if a.status != 200 || got["status"] != 200.0 || got["outcome"] != step.outcome || got["generation"] != step.generation || got["expires_at"] == nil {
			t.Errorf("%s: %d %s", step.name, a.status, a.body)
		}
	}
	form := alice.staying().do(t, "POST", path+"?query=update-token-data", url.Values{}, "Accept", "text/html,*/*")
	if form.status != http.StatusSeeOther || form.header.Get("Location") != "/dashboard" {
		t.Errorf("a form: %d to %q", form.status, form.header.Get("Location"))
	}
	if page := alice.do(t, "GET", "/dashboard", nil); !strings.Contains(page.body, ": generation 4,") {
		t.Error("the dashboard does not say what came of the form")
	}
	if page := alice.do(t, "GET", "/dashboard", nil); strings.Contains(page.body, ": generation 4,") {
		t.Error("the dashboard says it twice")
	}
	fragment := alice.do(t, "POST", path+"?query=update-token-data", nil, "HX-Request", "true")
	if fragment.status != 200 || !strings.HasPrefix(fragment.body, `<section id="token-card"`) || strings.Contains(fragment.body, "<html") {
		t.Errorf("to htmx: %d %s", fragment.status, fragment.body)
	}
}

func TestRenewTokenAnswersAUsableToken(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	alice := p.person()
	alice.signIn(t, "alice")
	a := alice.do(t, "POST", "/api/renew-token", nil)
	got := a.json(t)
	if a.status != 200 || got["token_type"] != "Bearer" || got["generation"] != 2.0 || got["outcome"] != "rotated" ||
		got["scope"] != "openid profile email offline_access" || got["expires_in"].(float64) < 115 || got["error"] != nil || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %s", a.status, a.body)
	}
	info := p.person().do(t, "GET", "/dev-provider/userinfo", nil, "Authorization", "Bearer "+got["access_token"].(string))
	if info.status != 200 || info.json(t)["sub"] != "alice" {
		t.Errorf("userinfo: %d %s", info.status, info.body)
	}
}

func TestNeverExposingTokens(t *testing.T) {
	t.Parallel()
	p := startProgram(t, "--expose-tokens=never")
	alice := p.person()
	alice.signIn(t, "alice")
	if a := alice.do(t, "POST", "/api/renew-token", nil); a.status != 200 || a.json(t)["access_token"] != nil || a.json(t)["generation"] != 2.0 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestSignedOut(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	nobody := p.person().staying()
	const signedOut = `"error":{"code":"signed_out","message":"Nobody is signed in."}`
	for _, c := range []struct {
		method, path, body string
		status             int
		header             []string
	}{
		{"POST", "/api/renew-token", `{` + signedOut + `,"message":"User is not authorized to rotate access-token"}`, 401, nil},
		{"POST", "/api/trigger-renew-token", `{` + signedOut + `,"status":401}`, 401, nil},
		{"POST", "/api/trigger-renew-token?query=update-token-data", `{` + signedOut + `,"status":401}`, 401, []string{"HX-Request", "true"}},
		{"GET", "/api/session", `{` + signedOut + `}`, 401, nil},
		{"GET", "/api/rotations", `{` + signedOut + `}`, 401, nil},
		{"GET", "/dashboard", "", 303, nil},
	} {
		a := nobody.do(t, c.method, c.path, nil, c.header...)
		if a.status != c.status || c.body != "" && strings.TrimSpace(a.body) != c.body {
			t.Errorf("%s %s: %d %s", c.method, c.path, a.status, a.body)
		}
		want := ""
		if len(c.header) > 0 {
			want = "/?return_to=/dashboard&ended=1"
		}
		if a.header.Get("HX-Redirect") != want {
			t.Errorf("%s %s: HX-Redirect %q", c.method, c.path, a.header.Get("HX-Redirect"))
		}
	}
	if a := nobody.do(t, "GET", "/dashboard", nil); a.header.Get("Location") != "/?return_to=/dashboard" {
		t.Errorf("/dashboard leads to %q", a.header.Get("Location"))
	}
	if a := nobody.do(t, "GET", "/?return_to=/dashboard&ended=1", nil); !strings.Contains(a.body, "Your session has ended") {
		t.Error("a page whose session has ended does not say so")
	}
}

func TestOtherMethodsRenewNothing(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	alice := p.person()
	alice.signIn(t, "alice")
	for _, path := range []string{"/api/renew-token", "/api/trigger-renew-token?query=update-token-data", "/auth/signout"} {
		for method, status := range map[string]int{"GET": 405, "HEAD": 405, "PUT": 405, "DELETE": 405, "REFRESH": 405, "OPTIONS": 204} {
			a := alice.do(t, method, path, nil)
			if a.status != status || a.header.Get("Allow") != "OPTIONS, POST" {
				t.Errorf("%s %s: %d, Allow %q", method, path, a.status, a.header.Get("Allow"))
			}
		}
	}
	if g := alice.generation(t); g != 1 {
		t.Errorf("generation %v", g)
	}
	for _, path := range []string{"/api/session", "/api/rotations"} { // RFC 9110 section 9.1
		if a := alice.do(t, "HEAD", path, nil); a.status != 200 || a.body != "" || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("HEAD %s: %d %v", path, a.status, a.header)
		}
	}
}

// What a caller takes is what it says, weights and all.
func TestWhoGetsAPageAndWhoJSON(t *testing.T) {
	t.Parallel()
	p := startProgram(t, "--limit-renew=5/m")
	alice := p.person()
	alice.signIn(t, "alice")
	alice = alice.staying()
	for _, c := range []struct {
		accept string
		page   bool
	}{
		{"text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", true}, {"application/json, text/html;q=0.5", false}, {"text/html;q=0", false},
		{"Text/HTML, application/json;q=0", true}, {"", false},
	} {
		if a := alice.do(t, "POST", "/api/trigger-renew-token", nil, "Accept", c.accept); (a.status == 303) != c.page {
			t.Errorf("%q: %d", c.accept, a.status)
		}
	}
	a := alice.do(t, "POST", "/api/trigger-renew-token", nil)
	if a.status != 429 || a.json(t)["status"] != 429.0 || a.json(t)["error"].(map[string]any)["code"] != "too_many_requests" {
		t.Errorf("one too many: %d %s", a.status, a.body)
	}
}

func TestOtherSitesCannotAskForAnything(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	alice := p.person()
	alice.signIn(t, "alice")
	for _, path := range []string{"/api/renew-token", "/api/trigger-renew-token?query=update-token-data", "/auth/signout"} {
		for _, header := range [][]string{
			{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"},
		} {
			if a := alice.do(t, "POST", path, url.Values{}, header...); a.status != http.StatusForbidden {
				t.Errorf("POST %s with %v: %d", path, header, a.status)
			}
		}
	}
	if g := alice.generation(t); g != 1 {
		t.Errorf("generation %v", g)
	}
	if a := alice.do(t, "POST", "/api/renew-token", nil, "Sec-Fetch-Site", "same-origin", "Origin", p.base); a.status != 200 {
		t.Errorf("our own page is refused: %d", a.status)
	}
}

// Whoever is on the way between a browser and Keyturn can answer for the host over http.
func TestTheHostOverHTTPIsAnotherSite(t *testing.T) {
	t.Parallel()
	_, addr := behindProxy(t, "https://keyturn.example.com")
	for origin, want := range map[string]int{"http://keyturn.example.com": http.StatusForbidden, "https://keyturn.example.com": http.StatusUnauthorized} {
		request, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+addr+"/api/renew-token", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "keyturn.example.com"
		request.Header.Set("Origin", origin)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("from %s: %d, want %d", origin, response.StatusCode, want)
		}
	}
}

func TestSigningOut(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	alice := p.person()
	alice.signIn(t, "alice")
	token := alice.do(t, "POST", "/api/renew-token", nil).json(t)["access_token"].(string)
	a := alice.staying().do(t, "POST", "/auth/signout", url.Values{})
	if a.status != http.StatusSeeOther || !strings.HasPrefix(a.header.Get("Location"), p.base+"/dev-provider/end_session?") {
		t.Fatalf("%d to %q", a.status, a.header.Get("Location"))
	}
	if back := alice.do(t, "GET", a.header.Get("Location"), nil); back.url.Path != "/" || back.status != 200 {
		t.Errorf("the end of session leads to %s (%d)", back.url, back.status)
	}
	if after := alice.do(t, "GET", "/api/session", nil); after.status != http.StatusUnauthorized {
		t.Errorf("still signed in: %d", after.status)
	}
	if info := alice.do(t, "GET", "/dev-provider/userinfo", nil, "Authorization", "Bearer "+token); info.status != http.StatusUnauthorized {
		t.Errorf("the token was not revoked: %d", info.status)
	}
}

// A request that is in flight when its session is signed out must not bring it back.
func TestSigningOutWhileARequestIsInFlight(t *testing.T) {
	t.Parallel()
	began := make(chan bool, 1)
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Token = func(_ http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
			began <- true
			time.Sleep(500 * time.Millisecond)
			return false
		}
	})
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	done := make(chan answer, 1)
	go func() {
		a, _ := alice.try(t.Context(), "POST", "/api/trigger-renew-token?query=update-token-data", url.Values{}, "Accept", "text/html")
		done <- a
	}()
	<-began
	cookies := alice.Jar.Cookies(parsedURL(t, p.base))
	if a := alice.staying().do(t, "POST", "/auth/signout", url.Values{}); a.status != http.StatusSeeOther {
		t.Fatalf("sign-out: %d", a.status)
	}
	<-done
	alice.Jar.SetCookies(parsedURL(t, p.base), cookies)
	if a := alice.do(t, "GET", "/api/session", nil); a.status != http.StatusUnauthorized {
		t.Errorf("the old cookie is signed in again: %d", a.status)
	}
	if len(idp.Revoked()) == 0 {
		t.Error("nothing was revoked")
	}
}

func TestARestartSignsNobodyOut(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	alice := p.person()
	alice.signIn(t, "alice")
	for n := range 3 {
		switch n {
		case 0:
			p.kill(t)
		case 1:
			if err := p.stop(t); err != nil {
				t.Errorf("after SIGTERM: %v\n%s", err, p.log)
			}
		case 2: // a terminal is closed
			if signal.Ignored(syscall.SIGHUP) { // as nohup has it, for the program as well
				continue
			}
			if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			if err := p.end(t); err != nil {
				t.Errorf("after SIGHUP: %v\n%s", err, p.log)
			}
		}
		p.again(t)
		a := alice.do(t, "POST", "/api/trigger-renew-token?query=update-token-data", nil)
		if got := a.json(t); got["outcome"] != "rotated" || got["generation"] != float64(n+2) {
			t.Fatalf("after restart %d: %s", n+1, a.body)
		}
	}
}

// A proxy in front of a local Keyturn may write Keyturn's own address into Host: then no answer can take the browser to the base URL.
func TestASignInIsSentToTheBaseURLOnce(t *testing.T) {
	t.Parallel()
	idp, addr := scripted.New(t), freeAddress(t)
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(parsedURL(t, "http://"+addr)) }})
	defer proxy.Close()
	base := "http://localhost:" + parsedURL(t, proxy.URL).Port()
	p := launch(t, &program{dir: filepath.Join(t.TempDir(), "data"), log: &authtest.Buffer{}, args: []string{
		"KEYTURN_ISSUER=" + idp.URL, "KEYTURN_CLIENT_ID=" + scripted.ClientID, "KEYTURN_CLIENT_SECRET=" + scripted.ClientSecret, "--base-url=" + base,
	}}, addr)
	alice := p.person()
	if a := alice.do(t, "GET", "/auth/oidc?return_to=/dashboard%3Fx=1", nil); a.status != http.StatusOK || a.url.String() != base+"/dashboard?x=1" {
		t.Errorf("through the proxy: %d at %s", a.status, a.url)
	}
	direct := (&program{base: "http://" + addr}).person().staying()
	if a := direct.do(t, "GET", "/auth/oidc", nil); a.header.Get("Location") != base+"/auth/oidc?moved=1" {
		t.Errorf("beside the proxy: %d to %s", a.status, a.header.Get("Location"))
	}
}
