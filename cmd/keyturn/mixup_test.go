package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keyturn/auth/provider/scripted"
)

// atTwo starts a Keyturn that knows two providers, "a" and "b".
func atTwo(t *testing.T) (a, b *scripted.Provider, p *program) {
	t.Helper()
	a, b = scripted.New(t), scripted.New(t)
	var yaml strings.Builder
	yaml.WriteString("providers:\n")
	for name, idp := range map[string]*scripted.Provider{"a": a, "b": b} {
		fmt.Fprintf(&yaml, "  - {name: %s, issuer: %q, client_id: %s, client_secret: %q}\n", name, idp.URL, scripted.ClientID, scripted.ClientSecret)
	}
	config := filepath.Join(t.TempDir(), "keyturn.yaml")
	if err := os.WriteFile(config, []byte(yaml.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return a, b, startProgram(t, "--config="+config)
}

// RFC 9700 section 4.4: an answer that was begun at one provider does not reach the other, and its state is spent.
func TestAnAnswerCrossedBetweenTwoProviders(t *testing.T) {
	t.Parallel()
	a, b, p := atTwo(t)
	alice := p.person()
	back := callback(t, alice, "/auth/a")
	crossed := strings.Replace(back, "/auth/a/callback", "/auth/b/callback", 1)
	for _, target := range []string{crossed, back} {
		if got := alice.do(t, "GET", target, nil); got.status != http.StatusBadRequest {
			t.Errorf("%s: %d", target, got.status)
		}
	}
	if a.Calls("/token")+b.Calls("/token") != 0 || alice.do(t, "GET", "/api/session", nil).status != 401 {
		t.Error("the code was presented")
	}
}

func TestAnAnswerPresentsItsCodeOnce(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	alice := p.person()
	back := callback(t, alice, "/auth/oidc")
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() { _, _ = alice.staying().try(t.Context(), "GET", back, nil) })
	}
	all.Wait()
	if calls := idp.Calls("/token"); calls != 1 {
		t.Errorf("%d calls of the token endpoint", calls)
	}
	again := alice.do(t, "GET", back, nil)
	if again.url.Path != "/dashboard" || idp.Calls("/token") != 1 || alice.generation(t) != 1 || len(idp.Revoked()) != 0 {
		t.Errorf("replayed: %d, %d token calls, %d revoked", again.status, idp.Calls("/token"), len(idp.Revoked()))
	}
}

// Nor does another process present it once more, where the first has got nothing for it.
func TestAnAnswerThatIsRefusedPresentsItsCodeOnce(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Authenticate = func(*http.Request) bool {
			time.Sleep(500 * time.Millisecond) // the other request is there by then
			return false
		}
	})
	alice := p.person().staying()
	back := parsedURL(t, callback(t, alice, "/auth/oidc")).RequestURI()
	var both sync.WaitGroup
	for _, b := range []*person{alice, alice.at(p.twin(t))} {
		both.Go(func() { _, _ = b.try(t.Context(), "GET", back, nil) })
	}
	both.Wait()
	if calls := idp.Calls("/token"); calls != 1 {
		t.Errorf("%d calls of the token endpoint", calls)
	}
}

// None of these presents a code, nobody is signed in by them, and who is signed in stays so.
func TestAnswersThatAreNoSignIn(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	signedIn := p.person()
	signedIn.do(t, "GET", "/auth/oidc", nil)
	before := idp.Calls("/token")
	for name, edit := range map[string]func(q url.Values){
		"an error":                   func(q url.Values) { q.Del("code"); q.Set("error", "access_denied") },
		"both a code and an error":   func(q url.Values) { q.Set("error", "server_error") },
		"a code twice":               func(q url.Values) { q.Add("code", "other") },
		"a state twice":              func(q url.Values) { q.Add("state", q.Get("state")) },
		"an iss twice":               func(q url.Values) { q["iss"] = []string{idp.URL, idp.URL} },
		"another iss":                func(q url.Values) { q.Set("iss", "https://evil.example") },
		"no state":                   func(q url.Values) { q.Del("state") },
		"no code":                    func(q url.Values) { q.Del("code") },
		"an access token":            func(q url.Values) { q.Set("access_token", "theirs") },
		"an id token":                func(q url.Values) { q.Set("id_token", "e30.e30.") },
		"its parts in a fragment":    func(q url.Values) { clear(q) }, // which a browser keeps to itself
		"a code of 20 KB":            func(q url.Values) { q.Set("code", strings.Repeat("c", 20<<10)) },
		"a code of 64 KB":            func(q url.Values) { q.Set("code", strings.Repeat("c", 64<<10)) },
		"a verifier of its own only": func(q url.Values) { q.Del("code"); q.Set("code_verifier", strings.Repeat("v", 43)) },
	} {
		for _, method := range []string{"GET", "POST"} {
			for who, b := range map[string]*person{"a newcomer": p.person(), "who is signed in": signedIn} {
				q := parsedURL(t, callback(t, b, "/auth/oidc")).Query()
				edit(q)
				path, form := "/auth/oidc/callback?"+q.Encode(), url.Values(nil)
				if method == "POST" {
					path, form = "/auth/oidc/callback", q
				}
				if a := b.do(t, method, path, form); a.status/100 != 4 && a.status != http.StatusBadGateway || a.status == 404 {
					t.Errorf("%s, by %s of %s: %d %s", name, method, who, a.status, a.body)
				}
			}
		}
	}
	q := parsedURL(t, callback(t, signedIn, "/auth/oidc")).Query()
	if a := signedIn.do(t, "POST", "/auth/oidc/callback?state="+q.Get("state"), q); a.status != http.StatusBadRequest {
		t.Errorf("in the query and in the body: %d %s", a.status, a.body)
	}
	if calls := idp.Calls("/token") - before; calls != 0 {
		t.Errorf("%d codes were presented", calls)
	}
	if signedIn.generation(t) != 1 {
		t.Error("who was signed in is not any more")
	}
}

// The answer comes itself by form_post: a cross-site POST, without the cookie.
func TestFormPostOfAnError(t *testing.T) {
	t.Parallel()
	t.Run("oidcc-client-test-form-post-error", func(t *testing.T) {
		idp, p := atScripted(t, nil)
		alice := p.person()
		q := parsedURL(t, callback(t, alice, "/auth/oidc")).Query()
		form := url.Values{"state": q["state"], "error": {"login_required"}, "error_description": {"not <b>seen</b>"}}
		bounced := p.person().staying().do(t, "POST", "/auth/oidc/callback", form, "Origin", "https://id.example", "Sec-Fetch-Site", "cross-site")
		page := alice.do(t, "GET", bounced.header.Get("Location"), nil)
		if bounced.status != http.StatusSeeOther || page.status != http.StatusBadRequest || !strings.Contains(page.body, "without asking you") || strings.Contains(page.body, "<b>seen") {
			t.Errorf("%d, then %d %s", bounced.status, page.status, page.body)
		}
		if idp.Calls("/token") != 0 {
			t.Error("the code was presented")
		}
	})
}

// A provider that wants to ask something is let to by the next try.
func TestTheNextTryAsksForWhatTheProviderMissed(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	for code, link := range map[string]string{
		"consent_required": "/auth/oidc?prompt=consent", "login_required": "/auth/oidc?prompt=login",
		"account_selection_required": "/auth/oidc?prompt=select_account", "access_denied": "/auth/oidc",
	} {
		alice := p.person()
		state := parsedURL(t, callback(t, alice, "/auth/oidc")).Query().Get("state")
		if a := alice.do(t, "GET", "/auth/oidc/callback?error="+code+"&state="+state, nil); !strings.Contains(a.body, `href="`+link+`"`) {
			t.Errorf("%s: no link to %s in %s", code, link, a.body)
		}
	}
}

// A link may have the provider ask something of the person, and no more than that (OpenID Connect Core section 3.1.2.1).
func TestAPromptThatNoLinkAsksForIsNotPassedOn(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	for prompt, want := range map[string][]string{"login": {"login"}, "none": nil, "create": nil, "login none": nil} {
		begun := p.person().staying().do(t, "GET", "/auth/oidc?"+url.Values{"prompt": {prompt}}.Encode(), nil)
		if query := parsedURL(t, begun.header.Get("Location")).Query(); query.Get("state") == "" || !slices.Equal(query["prompt"], want) {
			t.Errorf("prompt=%s: %d to %q", prompt, begun.status, begun.header.Get("Location"))
		}
	}
}

// A provider that says it cannot do S256, or does not say so, is asked with it all the same (RFC 9700 section 2.1.1).
func TestPKCEIsNotGivenUp(t *testing.T) {
	t.Parallel()
	for _, methods := range [][]string{{"plain"}, {}} {
		_, p := atScripted(t, func(idp *scripted.Provider) {
			idp.Document = func(d map[string]any) { d["code_challenge_methods_supported"] = methods }
			idp.Authorization = func(_, request url.Values) {
				if request.Get("code_challenge_method") != "S256" || len(request.Get("code_challenge")) != 43 {
					t.Errorf("asked with %v", request)
				}
			}
		})
		if a := p.person().do(t, "GET", "/auth/oidc", nil); a.url.Path != "/dashboard" {
			t.Errorf("the sign-in ends at %s", a.url)
		}
	}
}

func TestForeignWordsAreShortPlainText(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	for _, code := range []string{"access_denied", "server_error", "login_required", "<script>alert(1)</script>", strings.Repeat("e", 5000)} {
		alice := p.person()
		q := parsedURL(t, callback(t, alice, "/auth/oidc")).Query()
		a := alice.do(t, "GET", "/auth/oidc/callback?"+url.Values{
			"state": q["state"], "error": {code}, "error_description": {"<script>alert(1)</script>\u202egnp.exe 🦊\r\n" + strings.Repeat("long ", 2000)},
		}.Encode(), nil)
		if a.status < 400 || strings.Contains(a.body, "<script>alert") || strings.Contains(a.body, "\u202e") || strings.Count(a.body, "long ") > 50 || strings.Contains(a.body, strings.Repeat("e", 100)) {
			t.Errorf("%.20s: %d %s", code, a.status, a.body)
		}
	}
	if strings.Count(p.log.String(), "long ") > 300 {
		t.Error("the log holds it whole")
	}
}

// The grant ends at once, and nothing of it or of the other identity is shown any more.
func TestARenewalThatBringsSomebodyElsesTokens(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Claims = func(claims map[string]any, refresh bool) {
			if refresh {
				claims["sub"], claims["name"] = "mallory", "Mallory"
			}
		}
	})
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	page := alice.listen(t, "HX-Request", "true")
	for _, ask := range []struct{ method, path, accept string }{
		{"POST", "/api/renew-token", "*/*"}, {"POST", "/api/renew-token", "*/*"}, {"GET", "/api/session", "*/*"}, {"GET", "/api/rotations", "*/*"},
		{"POST", "/api/trigger-renew-token?query=update-token-data", "*/*"}, {"POST", "/dashboard/tokens/access/reveal", "text/plain"},
	} {
		a := alice.do(t, ask.method, ask.path, nil, "Accept", ask.accept)
		if a.status != http.StatusUnauthorized || a.json(t)["error"] == nil || strings.Contains(a.body, "alice") || strings.Contains(strings.ToLower(a.body), "mallory") {
			t.Errorf("%s %s: %d %s", ask.method, ask.path, a.status, a.body)
		}
		renewal := strings.Contains(a.body, `"outcome":"refused"`) && strings.Contains(a.body, `"code":"identity_changed"`)
		if renewal != strings.Contains(ask.path, "renew-token") {
			t.Errorf("%s says %s", ask.path, a.body)
		}
	}
	for {
		e, ok := page.next()
		if !ok {
			t.Error("an open page is not told")
		}
		if !ok || e.event == "signedout" {
			break
		}
	}
	a := alice.do(t, "GET", "/dashboard", nil, "Accept", "text/html")
	if a.url.Path != "/" || !strings.Contains(a.body, "with the tokens of somebody else") || strings.Contains(a.body, "Alice") || strings.Contains(a.body, "Mallory") {
		t.Errorf("/dashboard ends at %s: %s", a.url, a.body)
	}
	if a := alice.do(t, "GET", "/", nil); strings.Contains(a.body, "somebody else") {
		t.Error("it is said twice")
	}
	eventually(t, "it is in the log", func() bool { return strings.Contains(p.log.String(), "security: renewal brought another identity") })
	if len(idp.Revoked()) == 0 || idp.TokenCalls() != 1 {
		t.Errorf("revoked %v after %d renewals", idp.Revoked(), idp.TokenCalls())
	}
}

// What one provider has issued is not shown to another that the settings have put under its name.
func TestTokensStayWithTheIssuerThatTheyAreFrom(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	elsewhere := scripted.New(t)
	elsewhere.Document = func(d map[string]any) { d["end_session_endpoint"] = elsewhere.URL + "/end" }
	of := func(issuer string) {
		if err := p.stop(t); err != nil {
			t.Fatal(err)
		}
		for i, arg := range p.args {
			if strings.HasPrefix(arg, "KEYTURN_ISSUER=") {
				p.args[i] = "KEYTURN_ISSUER=" + issuer
			}
		}
		p.again(t)
	}
	of(elsewhere.URL)
	a := alice.do(t, "POST", "/api/renew-token", nil)
	if failed, _ := a.json(t)["error"].(map[string]any); a.json(t)["outcome"] != "kept" || failed["code"] != "provider_not_configured" {
		t.Errorf("a renewal: %d %s", a.status, a.body)
	}
	if a := alice.do(t, "POST", "/dashboard/userinfo", nil); a.status != http.StatusNotFound {
		t.Errorf("userinfo: %d", a.status)
	}
	bob := p.person()
	if a := bob.do(t, "GET", "/auth/oidc", nil); a.status != http.StatusOK { // it is well
		t.Errorf("a sign-in there: %d", a.status)
	}
	if calls := elsewhere.TokenCalls(); calls != 0 {
		t.Errorf("the other provider saw %d renewals", calls)
	}
	of(idp.URL)
	if a := alice.do(t, "POST", "/api/renew-token", nil); a.json(t)["outcome"] != "rotated" {
		t.Errorf("back at its own: %d %s", a.status, a.body)
	}
	of(elsewhere.URL)
	if a := alice.staying().do(t, "POST", "/auth/signout", nil); a.status != http.StatusSeeOther || a.header.Get("Location") != "/" {
		t.Errorf("the sign-out: %d to %q", a.status, a.header.Get("Location"))
	}
	if err := p.stop(t); err != nil {
		t.Fatal(err)
	}
	if n := len(elsewhere.Revoked()); n != 0 {
		t.Errorf("the other provider was asked to revoke %d tokens", n)
	}
}

// A grant whose provider the settings have lost says so wherever its state is shown, and claims of nobody that it refused anything. It
// goes on when the provider is back.
func TestAGrantWhoseProviderIsNotConfiguredAnyMore(t *testing.T) {
	t.Parallel()
	settings := func(name, issuer string) string {
		return fmt.Sprintf("providers:\n  - {name: %s, issuer: '%s', client_id: %s, client_secret: '%s'}\n", name, issuer, scripted.ClientID, scripted.ClientSecret)
	}
	elsewhere := scripted.New(t)
	for name, c := range map[string]struct {
		changed func(idp *scripted.Provider) string
		link    string
		leads   string // what is there
	}{
		"renamed":        {func(idp *scripted.Provider) string { return settings("uno", idp.URL) }, "/dashboard/sign-in", `href="/auth/uno?return_to=%2Fdashboard"`},
		"another issuer": {func(*scripted.Provider) string { return settings("one", elsewhere.URL) }, "/auth/one?return_to=%2Fdashboard", ""},
		"a brand": {func(*scripted.Provider) string {
			return fmt.Sprintf("providers:\n  - {name: one, type: github, base_url: '%s', client_id: x, client_secret: hush}\n", elsewhere.URL)
		}, "/auth/one?return_to=%2Fdashboard", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idp := scripted.New(t)
			file := tempFile(t, "keyturn.yaml", settings("one", idp.URL))
			p := startProgram(t, "--config", file)
			with := func(text string) {
				if err := errors.Join(p.stop(t), os.WriteFile(file, []byte(text), 0o600)); err != nil {
					t.Fatal(err)
				}
				p.again(t)
			}
			fresh, dead := p.person(), p.person()
			fresh.do(t, "GET", "/auth/one", nil)
			idp.Change(func() { idp.Lifetime = time.Second })
			dead.do(t, "GET", "/auth/one", nil)
			with(c.changed(idp))
			time.Sleep(time.Second)
			for state, person := range map[string]*person{"fresh": fresh, "needs_sign_in": dead} {
				token := person.token(t)
				if failed, _ := token["error"].(map[string]any); token["state"] != state || failed["code"] != "provider_not_configured" || failed["party"] != "operator" {
					t.Errorf("/api/session: %v, want %s", token, state)
				}
				page := person.do(t, "GET", "/dashboard", nil).body
				if !strings.Contains(page, `data-state="`+state+`"`) || !strings.Contains(page, "settings any more") ||
					strings.Contains(page, "gave no refresh token") || !strings.Contains(page, `href="`+c.link+`"`) {
					t.Errorf("the dashboard, %s: %s", state, page)
				}
				if a := person.staying().do(t, "GET", c.link, nil); a.status >= 400 || !strings.Contains(a.body, c.leads) {
					t.Errorf("the way to sign in again: %d %s", a.status, a.body)
				}
			}
			for _, path := range []string{"/api/renew-token", "/api/trigger-renew-token?query=update-token-data", "/api/trigger-renew-token"} {
				a := dead.do(t, "POST", path, nil)
				if failed, _ := a.json(t)["error"].(map[string]any); a.status != http.StatusBadGateway || failed["code"] != "provider_not_configured" {
					t.Errorf("%s: %d %s", path, a.status, a.body)
				}
			}
			with(settings("one", idp.URL))
			if a := dead.do(t, "POST", "/api/renew-token", nil); a.json(t)["outcome"] != "rotated" {
				t.Errorf("when it is back: %d %s", a.status, a.body)
			}
		})
	}
}
