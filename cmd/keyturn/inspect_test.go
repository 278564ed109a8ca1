package main

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"keyturn/auth/provider/scripted"
)

// tokensOf are a person's tokens, which they ask for.
func tokensOf(t testing.TB, b *person) map[string]string {
	t.Helper()
	tokens := map[string]string{}
	for _, kind := range []string{"access", "id", "refresh"} {
		a := b.do(t, "POST", "/dashboard/tokens/"+kind+"/reveal", nil, "Accept", "text/plain")
		if a.status != http.StatusOK || len(a.body) < 20 || a.header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
			t.Fatalf("reveal %s: %d %v %q", kind, a.status, a.header, a.body)
		}
		tokens[kind] = a.body
	}
	return tokens
}

// sessionForm is the sign-out form of another session.
var sessionForm = regexp.MustCompile(`action="/dashboard/sessions/([A-Z0-9]+)/signout"`)

// unasked is every part of the site that shows something of tokens, without one having been asked for.
var unasked = []struct{ method, path string }{
	{"GET", "/dashboard"}, {"GET", "/api/session"}, {"GET", "/api/rotations"}, {"GET", "/dashboard/timeline"}, {"GET", "/dashboard/sessions"},
	{"POST", "/dashboard/userinfo"},
	{"GET", "/dashboard/tokens/access"}, {"GET", "/dashboard/tokens/id"}, {"GET", "/dashboard/tokens/refresh"},
	{"GET", "/dashboard/tokens/access/signature"}, {"POST", "/dashboard/tokens/access/introspect"},
	{"POST", "/api/trigger-renew-token?query=update-token-data"},
}

func TestNoTokenIsShownUnasked(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	alice := p.person()
	alice.signIn(t, "alice")
	s := alice.listen(t, "HX-Request", "true")
	var shown strings.Builder
	for _, part := range unasked {
		for _, header := range [][]string{{"Accept", "text/html"}, {"HX-Request", "true"}, {"Accept", "*/*"}} {
			a := alice.do(t, part.method, part.path, nil, header...)
			if a.status >= 400 || a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s with %v: %d, Cache-Control %q", part.method, part.path, header, a.status, a.header.Get("Cache-Control"))
			}
			shown.WriteString(a.body)
		}
	}
	for range 3 {
		e, _ := s.next()
		shown.WriteString(e.data)
	}
	for kind, token := range tokensOf(t, alice) {
		if parts := strings.Split(token, "."); strings.Contains(shown.String(), parts[len(parts)-1]) || strings.Contains(shown.String(), token) {
			t.Errorf("the %s token was shown", kind)
		}
	}
}

func TestRevealingIsForItsOwnerOnly(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	alice, nobody := p.person(), p.person()
	alice.signIn(t, "alice")
	for _, what := range []string{"reveal", "introspect"} {
		path := "/dashboard/tokens/access/" + what
		if a := alice.do(t, "GET", path, nil); a.status != http.StatusMethodNotAllowed || !strings.Contains(a.header.Get("Allow"), "POST") {
			t.Errorf("GET %s: %d", path, a.status)
		}
		if a := alice.staying().do(t, "GET", path, nil, "Accept", "text/html"); a.status != http.StatusSeeOther || a.header.Get("Location") != "/dashboard/tokens/access" {
			t.Errorf("a browser's GET %s: %d to %q", path, a.status, a.header.Get("Location"))
		}
		for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "same-site"}} {
			if a := alice.do(t, "POST", path, url.Values{}, header...); a.status != http.StatusForbidden || strings.Contains(a.body, "eyJ") {
				t.Errorf("POST %s with %v: %d", path, header, a.status)
			}
		}
		if a := nobody.do(t, "POST", path, url.Values{}, "HX-Request", "true"); a.status != http.StatusUnauthorized || a.header.Get("HX-Redirect") == "" {
			t.Errorf("signed out, POST %s: %d", path, a.status)
		}
		if a := alice.do(t, "POST", "/dashboard/tokens/other/"+what, url.Values{}); a.status != http.StatusNotFound {
			t.Errorf("an unknown token: %d", a.status)
		}
	}
}

// Where no script asks for it, the page says at once whether the signature is right, whatever else was asked of the token.
func TestAPageWithoutAScriptSaysWhoSigned(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	alice := p.person()
	alice.signIn(t, "alice")
	for _, path := range []string{"/dashboard/tokens/access", "/dashboard/tokens/access/reveal", "/dashboard/tokens/access/introspect"} {
		method, form := "GET", url.Values(nil)
		if strings.Count(path, "/") > 3 {
			method, form = "POST", url.Values{}
		}
		if a := alice.do(t, method, path, form, "Accept", "text/html"); a.status != http.StatusOK || !strings.Contains(a.body, "verified with") {
			t.Errorf("%s %s: %d, without a word on the signature", method, path, a.status)
		}
	}
}

func TestWithheldTokensNeverLeave(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Access = func() string {
			return idp.Sign(map[string]any{"iss": idp.URL, "sub": "alice", "quirk": "only-the-token-says-this", "jti": idp.Subject})
		}
		idp.Introspect = func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, map[string]any{"active": true, "quirk": "only-the-token-says-this"})
		}
		idp.Document = func(document map[string]any) { document["end_session_endpoint"] = idp.URL + "/end" }
	}, "--expose-tokens=never")
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	for _, kind := range []string{"access", "id", "refresh"} {
		for _, header := range [][]string{{"Accept", "text/plain"}, {"HX-Request", "true"}, {"Accept", "text/html"}} {
			if a := alice.do(t, "POST", "/dashboard/tokens/"+kind+"/reveal", url.Values{}, header...); a.status != http.StatusForbidden {
				t.Errorf("reveal %s with %v: %d", kind, header, a.status)
			}
		}
	}
	for _, part := range unasked {
		a := alice.do(t, part.method, part.path, nil, "HX-Request", "true")
		for _, token := range append(idp.Issued(), "only-the-token-says-this") {
			if strings.Contains(a.body, token) {
				t.Errorf("%s %s shows %q", part.method, part.path, token)
			}
		}
	}
	for kind, sort := range map[string]string{"id": "<strong>JWT</strong>", "refresh": "<strong>Opaque</strong>"} {
		if a := alice.do(t, "GET", "/dashboard/tokens/"+kind, nil, "HX-Request", "true"); !strings.Contains(a.body, sort) {
			t.Errorf("the %s token is not said to be %s: %s", kind, sort, a.body)
		}
	}
	out := alice.staying().do(t, "POST", "/auth/signout", nil)
	to, err := url.Parse(out.header.Get("Location"))
	if err != nil || to.Path != "/end" {
		t.Fatalf("signing out: %d to %q", out.status, out.header.Get("Location"))
	}
	if q := to.Query(); q.Has("id_token_hint") || q.Get("client_id") != scripted.ClientID || q.Get("state") == "" || q.Get("post_logout_redirect_uri") != p.base+"/" {
		t.Errorf("the end of session is asked for with %v", q)
	}
}

func TestSignaturesAreSaidToBeWhatTheyAre(t *testing.T) {
	t.Parallel()
	foreign := scripted.New(t)
	idp, p := atScripted(t, nil)
	claims := map[string]any{"iss": idp.URL, "sub": "alice"}
	for name, c := range map[string]struct{ token, want string }{
		"its own key":       {idp.Sign(claims), "verified with"},
		"another's key":     {foreign.Sign(claims), "none of"},
		"an edited payload": {strings.Replace(idp.Sign(claims), ".", ".eyJ4IjoxfQ", 1), "none of"},
		"no signature":      {"eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.", "not signed"},
		"a shared secret":   {"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.AAAA", "signed with a secret"},
	} {
		t.Run(name, func(t *testing.T) {
			idp.Change(func() { idp.Access = func() string { return c.token } })
			alice := p.person()
			alice.do(t, "GET", "/auth/oidc", nil)
			if a := alice.do(t, "GET", "/dashboard/tokens/access/signature", nil, "HX-Request", "true"); !strings.Contains(a.body, c.want) {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
}

// A provider's keys are not read again at each look at a token of somebody else's. It is not said that they are out of reach.
func TestASignatureThatIsLookedAtAgainAndAgain(t *testing.T) {
	t.Parallel()
	foreign := scripted.New(t)
	idp, p := atScripted(t, nil)
	idp.Change(func() { idp.Access = func() string { return foreign.Sign(map[string]any{"sub": "alice"}) } })
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	for n := range 8 {
		a := alice.do(t, "GET", "/dashboard/tokens/access/signature", nil, "HX-Request", "true")
		if !strings.Contains(a.body, "not verified: none of") {
			t.Fatalf("look %d: %s", n+1, a.body)
		}
	}
	if calls := idp.Calls("/keys"); calls > 5 {
		t.Errorf("keys fetched %d times", calls)
	}
}

// What is in an encrypted token, its signature too, is for whom it is meant for.
func TestAnEncryptedTokenIsSaidToBeEncrypted(t *testing.T) {
	t.Parallel()
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RSA-OAEP","enc":"A256GCM","kid":"api-1"}`))
	_, p := atScripted(t, func(idp *scripted.Provider) { idp.Access = func() string { return header + ".AAAA.AAAA.AAAA.AAAA" } })
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	a := alice.do(t, "GET", "/dashboard/tokens/access", nil, "Accept", "text/html")
	for _, text := range []string{
		"Encrypted JWT, RSA-OAEP", `class="signature unknown"`, "only whom it is meant for can check it",
		"algorithm that encrypts the key", "algorithm that encrypts the content", "which key it is encrypted to",
	} {
		if !strings.Contains(a.body, text) {
			t.Errorf("no %q in %s", text, a.body)
		}
	}
}

func TestAnOpaqueTokenIsSaidToBeOpaque(t *testing.T) {
	t.Parallel()
	var asked string
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Introspect = func(w http.ResponseWriter, r *http.Request) {
			asked = r.PostFormValue("token")
			writeJSON(w, map[string]any{"active": true, "scope": "openid", "username": "<b>alice</b>", "exp": 4102444800, "of": "the token " + asked})
		}
	})
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	if a := alice.do(t, "GET", "/dashboard/tokens/access", nil, "HX-Request", "true"); !strings.Contains(a.body, "An opaque token") || !strings.Contains(a.body, "RFC 7662") {
		t.Errorf("%d %s", a.status, a.body)
	}
	a := alice.do(t, "POST", "/dashboard/tokens/access/introspect", nil, "HX-Request", "true")
	for _, text := range []string{"The provider says", "active", "&lt;b&gt;alice&lt;/b&gt;", "1 Jan 2100 00:00"} {
		if !strings.Contains(a.body, text) {
			t.Errorf("introspection does not show %q: %s", text, a.body)
		}
	}
	if access := tokensOf(t, alice)["access"]; asked != access || strings.Contains(a.body, access) {
		t.Errorf("asked about %q: %s", asked, a.body)
	}
	for refusal, want := range map[string]string{
		`{"error":"access_denied","error_description":"not for you"}`: "The provider&#39;s matter.</strong> <bdi dir=\"ltr\">P answered with the error access_denied. It says: “not for you”</bdi>",
		`{"error":"invalid_client"}`:                                  "The operator&#39;s matter, not your doing.</strong> <bdi dir=\"ltr\">P does not accept Keyturn&#39;s settings (invalid_client).</bdi>",
		`{}`:                                                          "The provider&#39;s matter.</strong> <bdi dir=\"ltr\">P answered with status 403 and without an error code",
	} {
		idp.Change(func() {
			idp.Introspect = func(w http.ResponseWriter, r *http.Request) { answers(403, refusal)(w, r, nil) }
		})
		a := alice.do(t, "POST", "/dashboard/tokens/access/introspect", nil, "HX-Request", "true")
		if said := strings.ReplaceAll(a.body, parsedURL(t, idp.URL).Host, "P"); !strings.Contains(said, want) {
			t.Errorf("no %s in %s", want, said)
		}
	}
	_, without := atScripted(t, nil)
	bob := without.person()
	bob.do(t, "GET", "/auth/oidc", nil)
	if a := bob.do(t, "POST", "/dashboard/tokens/access/introspect", url.Values{}); a.status != http.StatusNotFound {
		t.Errorf("a provider without introspection: %d", a.status)
	}
}

func TestWhatARenewalChangedIsMarked(t *testing.T) {
	t.Parallel()
	roles := "reader"
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Access = func() string {
			claims := map[string]any{"iss": idp.URL, "sub": "alice", "roles": roles}
			if roles == "reader" {
				claims["trial"] = true
			}
			return idp.Sign(claims)
		}
	})
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	if a := alice.do(t, "GET", "/dashboard/tokens/access", nil, "HX-Request", "true"); strings.Contains(a.body, `class="change"`) {
		t.Errorf("the first generation has changes: %s", a.body)
	}
	idp.Change(func() { roles = "writer" })
	alice.do(t, "POST", "/api/renew-token", nil)
	a := alice.do(t, "GET", "/dashboard/tokens/access", nil, "HX-Request", "true")
	for _, text := range []string{"change-changed", "before: reader", "change-removed", ">gone<"} {
		if !strings.Contains(a.body, text) {
			t.Errorf("no %q in %s", text, a.body)
		}
	}
	if strings.Count(a.body, "change-changed") != 1 {
		t.Errorf("what stayed is marked: %s", a.body)
	}
}

func TestAnotherPersonsSessionsCannotBeTouched(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	alice, phone, bob := p.person(), p.person(), p.person()
	alice.signIn(t, "alice")
	phone.signIn(t, "alice")
	bob.signIn(t, "bob")
	list := alice.do(t, "GET", "/dashboard/sessions", nil, "HX-Request", "true").body
	ids := sessionForm.FindAllStringSubmatch(list, -1)
	if len(ids) != 1 || strings.Count(list, "this session") != 1 {
		t.Fatalf("%d other sessions in %s", len(ids), list)
	}
	for _, path := range []string{"/dashboard/sessions/" + ids[0][1] + "/signout", "/dashboard/sessions/nobody/signout", "/dashboard/sessions/%2e%2e/signout"} {
		if a := bob.do(t, "POST", path, url.Values{}); a.status != http.StatusNotFound {
			t.Errorf("POST %s by bob: %d", path, a.status)
		}
	}
	if a := bob.do(t, "POST", "/dashboard/sessions/signout-others", url.Values{}); a.status != http.StatusOK {
		t.Errorf("bob has no others: %d", a.status)
	}
	if g := phone.generation(t); g != 1 {
		t.Errorf("generation %v", g)
	}
	// History: an id of alice's is only a place to begin from.
	alice.do(t, "POST", "/api/renew-token", nil)
	if a := bob.do(t, "GET", "/api/rotations?before=99999", nil); strings.Contains(a.body, `"outcome"`) {
		t.Errorf("bob sees %s", a.body)
	}
	for _, before := range []string{"x", "-1", "0", "1e9", "99999999999999999999"} {
		if a := alice.do(t, "GET", "/api/rotations?before="+before, nil); a.status != http.StatusBadRequest || a.json(t)["error"] == nil {
			t.Errorf("before=%s: %d %s", before, a.status, a.body)
		}
	}
	if a := alice.do(t, "POST", "/dashboard/sessions/"+ids[0][1]+"/signout", url.Values{}); a.status != http.StatusOK || a.url.Path != "/dashboard/sessions" {
		t.Errorf("alice may: %d at %s", a.status, a.url)
	}
	if a := phone.do(t, "GET", "/api/session", nil); a.status != http.StatusUnauthorized {
		t.Errorf("the other session: %d", a.status)
	}
}

// However many sessions somebody has, all the others end; more of them than a page shows.
func TestAllOtherSessionsEnd(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	first, alice := p.person().staying(), p.person().staying()
	first.signInScripted(t)
	for range 210 {
		p.person().staying().signInScripted(t)
	}
	alice.signInScripted(t)
	if a := alice.do(t, "POST", "/dashboard/sessions/signout-others", url.Values{}); a.status != http.StatusSeeOther {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := first.do(t, "GET", "/api/session", nil); a.status != http.StatusUnauthorized {
		t.Errorf("the session seen longest ago: %d", a.status)
	}
	if list := alice.do(t, "GET", "/dashboard/sessions", nil, "HX-Request", "true").body; sessionForm.MatchString(list) {
		t.Error("others are left")
	}
}
