package main

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"keyturn/auth/provider/scripted"
)

// endsSessions makes a provider with an end of session, whose id tokens name the provider's session: s1, s2 and so on.
func endsSessions(idp *scripted.Provider) {
	signIns := 0
	idp.Document = func(document map[string]any) { document["end_session_endpoint"] = idp.URL + "/end" }
	idp.Claims = func(claims map[string]any, refresh bool) {
		if !refresh {
			signIns++
			claims["sid"] = "s" + itoa(signIns)
		}
	}
}

// tell posts a logout token as a provider does.
func (p *program) tell(t testing.TB, token string) answer {
	t.Helper()
	return p.person().do(t, "POST", "/auth/oidc/backchannel-logout", url.Values{"logout_token": {token}},
		"Sec-Fetch-Site", "cross-site", "Origin", "https://id.example")
}

func (b *person) signedIn(t testing.TB) bool {
	t.Helper()
	return b.do(t, "GET", "/api/session", nil).status == http.StatusOK
}

// The names are those of the OpenID Foundation's test modules for RP-initiated logout.
func TestRPInitiatedLogout(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, endsSessions)
	const said = "You are signed out"
	leave := func(t *testing.T) (alice *person, state string) {
		alice = p.person()
		alice.do(t, "GET", "/auth/oidc", nil)
		gone := alice.staying().do(t, "POST", "/auth/signout", url.Values{})
		target := parsedURL(t, gone.header.Get("Location"))
		query := target.Query()
		hint := strings.Split(query.Get("id_token_hint"), ".")
		if !strings.HasPrefix(target.String(), idp.URL+"/end?") || len(hint) != 3 || query.Get("post_logout_redirect_uri") != p.base+"/" ||
			len(query.Get("state")) < 22 || query.Get("client_id") != scripted.ClientID {
			t.Fatalf("leaves to %s", target)
		}
		if alice.signedIn(t) {
			t.Fatal("signed in before the provider was asked")
		}
		return alice, query.Get("state")
	}
	t.Run("oidcc-client-test-rp-init-logout", func(t *testing.T) {
		t.Parallel()
		alice, state := leave(t)
		if page := alice.do(t, "GET", "/?state="+state, nil); page.status != http.StatusOK || !strings.Contains(page.body, said) {
			t.Errorf("back with the state: %d %s", page.status, page.body)
		}
		if page := alice.do(t, "GET", "/?state="+state, nil); strings.Contains(page.body, said) {
			t.Error("the state is good twice")
		}
	})
	for name, query := range map[string]string{
		"oidcc-client-test-rp-init-logout-no-state": "", "oidcc-client-test-rp-init-logout-other-state": "?state=%3Cscript%3E",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			alice, state := leave(t)
			page := alice.do(t, "GET", "/"+query, nil)
			if page.status != http.StatusOK || strings.Contains(page.body, said) || !strings.Contains(page.body, `href="/auth/oidc"`) ||
				strings.Contains(page.body, "<script>") || alice.signedIn(t) {
				t.Errorf("%d %s", page.status, page.body)
			}
			if stranger := p.person().do(t, "GET", "/?state="+state, nil); strings.Contains(stranger.body, said) {
				t.Error("the state is good in another browser")
			}
		})
	}
}

func TestBackChannelLogout(t *testing.T) {
	t.Parallel()
	t.Run("oidcc-client-test-rp-backchannel-rpinitlogout", func(t *testing.T) {
		t.Parallel()
		idp, p := atScripted(t, endsSessions)
		alice := p.person()
		alice.do(t, "GET", "/auth/oidc", nil)
		if a := p.tell(t, idp.SignAs("logout+jwt", idp.LogoutClaims("s1", "alice"))); a.status != http.StatusOK || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%d %s", a.status, a.body)
		}
		if alice.signedIn(t) {
			t.Error("still signed in")
		}
		eventually(t, "the refresh token is revoked", func() bool { return len(idp.Revoked()) == 1 && idp.Revoked()[0] == idp.Issued()[1] })
	})
	t.Run("without exp, which the drafts did not have", func(t *testing.T) {
		t.Parallel()
		idp, p := atScripted(t, endsSessions)
		alice := p.person()
		alice.do(t, "GET", "/auth/oidc", nil)
		claims := idp.LogoutClaims("s1", "alice")
		delete(claims, "exp")
		token := idp.SignAs("logout+jwt", claims)
		if a := p.tell(t, token); a.status != http.StatusOK || alice.signedIn(t) {
			t.Errorf("%d %s, signed in: %v", a.status, a.body, alice.signedIn(t))
		}
		if a := p.tell(t, token); a.status != http.StatusBadRequest {
			t.Errorf("replayed: %d", a.status)
		}
	})
	idp, p := atScripted(t, endsSessions)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	long := strings.Repeat("x", 300)
	for name, c := range map[string]struct {
		edit func(claims map[string]any)
		sign func(claims map[string]any) string
	}{
		"oidcc-client-test-rp-backchannel-rpinitlogout-alg-none": {nil, func(claims map[string]any) string {
			return "eyJhbGciOiJub25lIn0." + strings.Split(idp.Sign(claims), ".")[1] + "."
		}},
		"oidcc-client-test-rp-backchannel-rpinitlogout-wrong-alg": {nil, func(claims map[string]any) string {
			return scripted.Forge(jose.HS256, []byte(url.QueryEscape(scripted.ClientSecret)+strings.Repeat("0", 32)), claims)
		}},
		"oidcc-client-test-rp-backchannel-rpinitlogout-no-event":   {func(c map[string]any) { delete(c, "events") }, nil},
		"oidcc-client-test-rp-backchannel-rpinitlogout-with-nonce": {func(c map[string]any) { c["nonce"] = "n" }, nil},
		"oidcc-client-test-rp-backchannel-rpinitlogout-wrong-aud":  {func(c map[string]any) { c["aud"] = "other" }, nil},
		"oidcc-client-test-rp-backchannel-rpinitlogout-wrong-event": {
			func(c map[string]any) {
				c["events"] = map[string]any{"http://schemas.openid.net/event/other": map[string]any{}}
			}, nil},
		"oidcc-client-test-rp-backchannel-rpinitlogout-wrong-iss": {func(c map[string]any) { c["iss"] = "https://evil.example" }, nil},
		"an event that is no object":                              {func(c map[string]any) { c["events"] = map[string]any{scripted.LogoutEvent: true} }, nil},
		"ten minutes old":                                         {func(c map[string]any) { c["iat"] = time.Now().Add(-10 * time.Minute).Unix() }, nil},
		"of the future":                                           {func(c map[string]any) { c["iat"] = time.Now().Add(10 * time.Minute).Unix() }, nil},
		"no iat":                                                  {func(c map[string]any) { delete(c, "iat") }, nil},
		"expired":                                                 {func(c map[string]any) { c["exp"] = time.Now().Add(-time.Minute).Unix() }, nil},
		"neither iat nor exp":                                     {func(c map[string]any) { delete(c, "iat"); delete(c, "exp") }, nil},
		"an exp that is null":                                     {func(c map[string]any) { c["exp"] = nil }, nil},
		"no exp, and six minutes old": {func(c map[string]any) {
			delete(c, "exp")
			c["iat"] = time.Now().Add(-6 * time.Minute).Unix()
		}, nil},
		"no exp, with a nonce":        {func(c map[string]any) { delete(c, "exp"); c["nonce"] = "n" }, nil},
		"no jti":                      {func(c map[string]any) { delete(c, "jti") }, nil},
		"neither sub nor sid":         {func(c map[string]any) { delete(c, "sub"); delete(c, "sid") }, nil},
		"an overlong sid":             {func(c map[string]any) { c["sid"] = long }, nil},
		"the type of an access token": {nil, func(c map[string]any) string { return idp.SignAs("at+jwt", c) }},
		"an id token":                 {nil, func(map[string]any) string { return idp.Issued()[2] }},
		"another key": {nil, func(c map[string]any) string {
			other := scripted.New(t)
			return other.SignAs("logout+jwt", c)
		}},
		"no JWT": {nil, func(map[string]any) string { return "x.y" }},
	} {
		t.Run(name, func(t *testing.T) {
			claims := idp.LogoutClaims("s1", "alice")
			if c.edit != nil {
				c.edit(claims)
			}
			if c.sign == nil {
				c.sign = func(claims map[string]any) string { return idp.SignAs("logout+jwt", claims) }
			}
			a := p.tell(t, c.sign(claims))
			if a.status != http.StatusBadRequest || a.json(t)["error"] != "invalid_request" || a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%d %s", a.status, a.body)
			}
			if !alice.signedIn(t) {
				t.Fatal("signed out")
			}
		})
	}
	if len(idp.Revoked()) != 0 {
		t.Error("a token was revoked")
	}
}

func TestBackChannelLogoutAsARequest(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, endsSessions)
	const path = "/auth/oidc/backchannel-logout"
	token := func() url.Values {
		return url.Values{"logout_token": {idp.SignAs("logout+jwt", idp.LogoutClaims("unknown", ""))}}
	}
	nobody := p.person()
	if a := nobody.do(t, "GET", path+"?"+token().Encode(), nil); a.status != http.StatusMethodNotAllowed || !strings.Contains(a.header.Get("Allow"), "POST") {
		t.Errorf("GET: %d, Allow %q", a.status, a.header.Get("Allow"))
	}
	if a := nobody.do(t, "POST", "/auth/nobody/backchannel-logout", token()); a.status != http.StatusNotFound {
		t.Errorf("of a provider that is not configured: %d", a.status)
	}
	if a := nobody.do(t, "POST", path, url.Values{"logout_token": {strings.Repeat("x", 1<<20)}}); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("1 MiB: %d", a.status)
	}
	two := url.Values{"logout_token": {token().Get("logout_token"), token().Get("logout_token")}}
	const asForm, asJSON = "application/x-www-form-urlencoded", "application/json"
	for name, c := range map[string]struct {
		kind, says string
		form       url.Values
	}{
		"no token": {asForm, "There must be one logout_token.", url.Values{}}, "two tokens": {asForm, "There must be one logout_token.", two},
		"no form": {asJSON, "A logout token comes as a form.", token()},
	} {
		a := nobody.do(t, "POST", path, c.form, "Content-Type", c.kind)
		if said := a.json(t); a.status != http.StatusBadRequest || said["error"] != "invalid_request" || said["error_description"] != c.says {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := nobody.do(t, "POST", path+"?"+token().Encode(), url.Values{}); a.status != http.StatusBadRequest {
		t.Errorf("a token in the URL: %d", a.status)
	}
	known := token()
	if a := nobody.do(t, "POST", path, known); a.status != http.StatusOK {
		t.Errorf("for a session that is not known: %d %s", a.status, a.body)
	}
	if a := nobody.do(t, "POST", path, known); a.status != http.StatusBadRequest {
		t.Errorf("replayed: %d %s", a.status, a.body)
	}
	p.kill(t)
	p.again(t)
	if a := p.person().do(t, "POST", path, known); a.status != http.StatusBadRequest {
		t.Errorf("replayed after a restart: %d", a.status)
	}
}

// The page with the sign-out has to name the origin that it ends at, or the browser stops on the way there. After a restart that is known
// before anybody needs it, though nothing waits for it.
func TestAfterARestartASignOutMayEndAtTheProvider(t *testing.T) {
	t.Parallel()
	const elsewhere = "https://elsewhere.example"
	var hanging atomic.Bool
	hold := make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Document = func(document map[string]any) {
			if document["end_session_endpoint"] = elsewhere + "/end"; hanging.Load() {
				<-hold
			}
		}
	}, "--drain-delay=0")
	t.Cleanup(release)
	eventually(t, "metadata is asked for at the start", func() bool { return idp.Calls("/.well-known/openid-configuration") == 1 })
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	mayEndThere := func() bool {
		a := alice.do(t, "GET", "/dashboard", nil)
		if a.status != http.StatusOK {
			t.Errorf("the dashboard: %d", a.status)
		}
		return strings.Contains(a.header.Get("Content-Security-Policy"), elsewhere)
	}
	restart := func() {
		if err := p.stop(t); err != nil {
			t.Error(err)
		}
		p.again(t)
	}
	restart()
	eventually(t, "a page lets the sign-out end at the provider", mayEndThere)
	hanging.Store(true)
	restart()
	if mayEndThere() {
		t.Error("known from nowhere")
	}
	restart() // nothing waits for a provider that hangs
	_ = mayEndThere()
	release()
	eventually(t, "the next page lets the sign-out end at the provider", mayEndThere)
}

func TestAProviderEndsTheRightSessions(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, endsSessions)
	phone, laptop, tablet, bob := p.person(), p.person(), p.person(), p.person()
	for _, b := range []*person{phone, laptop, tablet} {
		b.do(t, "GET", "/auth/oidc", nil)
	}
	idp.Change(func() { idp.Subject = "bob" })
	bob.do(t, "GET", "/auth/oidc", nil)
	signedIn := func() (list [4]bool) {
		for n, b := range []*person{phone, laptop, tablet, bob} {
			list[n] = b.signedIn(t)
		}
		return list
	}
	stream, last := laptop.listen(t), ""
	for _, step := range []struct {
		name, sid, sub string
		want           [4]bool
	}{
		{"the sid of somebody else", "s4", "alice", [4]bool{true, true, true, true}},
		{"a sid", "s2", "", [4]bool{true, false, true, true}},
		{"a sub", "", "alice", [4]bool{false, false, false, true}},
	} {
		last = idp.SignAs("logout+jwt", idp.LogoutClaims(step.sid, step.sub))
		if a := p.tell(t, last); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", step.name, a.status, a.body)
		}
		if got := signedIn(); got != step.want {
			t.Errorf("after %s: %v, want %v", step.name, got, step.want)
		}
	}
	stream.ends(t)
	eventually(t, "three refresh tokens are revoked", func() bool { return len(idp.Revoked()) == 3 })
	idp.Change(func() { idp.Subject = "alice" })
	phone.do(t, "GET", "/auth/oidc", nil)
	if a := p.tell(t, last); a.status != http.StatusBadRequest || !phone.signedIn(t) {
		t.Errorf("replayed after a new sign-in: %d, signed in: %v", a.status, phone.signedIn(t))
	}
}

// The token endpoint has answered by then, and there is no session yet that could end.
func TestAProviderEndsASignInThatIsBeingFinished(t *testing.T) {
	t.Parallel()
	began, goOn := make(chan bool, 1), make(chan bool)
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		endsSessions(idp)
		idp.UserInfo = func(w http.ResponseWriter, _ *http.Request) {
			began <- true
			<-goOn
			writeJSON(w, map[string]any{"sub": "alice"})
		}
	})
	alice, done := p.person(), make(chan answer, 1)
	go func() {
		a, _ := alice.try(t.Context(), "GET", "/auth/oidc", nil)
		done <- a
	}()
	<-began
	if a := p.tell(t, idp.SignAs("logout+jwt", idp.LogoutClaims("", "alice"))); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	close(goOn)
	if a := <-done; a.status != http.StatusBadRequest || !strings.Contains(a.body, "has ended this sign-in.") || !strings.Contains(a.body, `href="/auth/oidc"`) {
		t.Errorf("the sign-in ends at %s: %d %s", a.url, a.status, a.body)
	}
	if alice.signedIn(t) {
		t.Error("signed in all the same")
	}
	eventually(t, "the refresh token is revoked", func() bool { return len(idp.Revoked()) == 1 })
	if a := alice.do(t, "GET", "/auth/oidc", nil); a.url.Path != "/dashboard" {
		t.Errorf("the next sign-in ends at %s: %s", a.url, a.body)
	}
}

// Ending wins: the tokens of a renewal that was under way are revoked as well.
func TestAProviderEndsASessionThatIsBeingRenewed(t *testing.T) {
	t.Parallel()
	began, goOn := make(chan bool, 1), make(chan bool)
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		endsSessions(idp)
		idp.Token = func(w http.ResponseWriter, _ *http.Request, grant func() map[string]any) bool {
			tokens := grant()
			began <- true
			<-goOn
			writeJSON(w, tokens)
			return true
		}
	})
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	done := make(chan answer, 1)
	go func() {
		a, _ := alice.try(t.Context(), "POST", "/api/renew-token", nil)
		done <- a
	}()
	<-began
	if a := p.tell(t, idp.SignAs("logout+jwt", idp.LogoutClaims("s1", ""))); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	close(goOn)
	if a := <-done; a.status == http.StatusOK {
		t.Errorf("the renewal answers %d %s", a.status, a.body)
	}
	eventually(t, "the old and the new refresh token are revoked", func() bool { return len(idp.Revoked()) == 2 })
	if alice.signedIn(t) {
		t.Error("signed in again")
	}
}
