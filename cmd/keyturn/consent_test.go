package main

import (
	"cmp"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"keyturn/auth/provider/scripted"
)

// takesRequests has a provider take authorization requests from Keyturn itself (RFC 9126). takes is told of one for consent, and says whether
// the provider takes it.
func takesRequests(t *testing.T, idp *scripted.Provider, takes func(request url.Values) bool) {
	t.Helper()
	var pushed atomic.Pointer[url.Values]
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/par" {
			http.Redirect(w, r, idp.URL+"/authorize?"+pushed.Load().Encode(), http.StatusFound)
			return
		}
		_ = r.ParseForm()
		if r.PostForm.Get("prompt") == "consent" && !takes(r.PostForm) {
			w.WriteHeader(http.StatusBadRequest)
			writeJSON(w, map[string]any{"error": "invalid_request"})
			return
		}
		pushed.Store(&r.PostForm)
		w.WriteHeader(http.StatusCreated)
		writeJSON(w, map[string]any{"request_uri": "urn:x"})
	}))
	t.Cleanup(front.Close)
	idp.Document = func(document map[string]any) {
		document["pushed_authorization_request_endpoint"], document["require_pushed_authorization_requests"] = front.URL+"/par", true
		document["authorization_endpoint"] = front.URL + "/authorize"
	}
}

// Somebody is to be asked for consent, and their session ends before that: it would not know the answer. The provider takes authorization
// requests from Keyturn itself, and so can end the session in that very moment.
func TestWhoseSessionEndsIsNotAskedForConsent(t *testing.T) {
	t.Parallel()
	var p *program
	var ended atomic.Bool
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.InsistsOnConsent = true
		takesRequests(t, idp, func(url.Values) bool {
			if a := p.tell(t, idp.SignAs("logout+jwt", idp.LogoutClaims("", "alice"))); a.status != http.StatusOK {
				t.Errorf("the logout token: %d", a.status)
			}
			ended.Store(true)
			return true
		})
	})
	alice := p.person()
	a := alice.do(t, "GET", "/auth/oidc?return_to=/dashboard", nil)
	if a.status != http.StatusOK || a.url.RequestURI() != "/?return_to=/dashboard" || alice.signedIn(t) {
		t.Errorf("the sign-in ends at %s (%d)", a.url, a.status)
	}
	if n := idp.Calls("/authorize"); n != 1 || !ended.Load() {
		t.Errorf("asked %d times; the session was ended: %v", n, ended.Load())
	}
}

// asksForConsent starts a Keyturn at a provider that gives a refresh token with consent at the most. signsIn has somebody sign in with a
// browser of their own, and says with which prompts they came to the provider, of which "plain" is none.
func asksForConsent(t *testing.T, set func(*scripted.Provider), args ...string) (idp *scripted.Provider, p *program, signsIn func(who, query string) (*person, string)) {
	t.Helper()
	var prompts []string
	idp, p = atScripted(t, func(idp *scripted.Provider) {
		idp.InsistsOnConsent = true
		idp.Asked = func(path string, request url.Values) {
			if path == "/authorize" {
				prompts = append(prompts, cmp.Or(request.Get("prompt"), "plain"))
			}
		}
		set(idp)
	}, args...)
	return idp, p, func(who, query string) (*person, string) {
		t.Helper()
		idp.Change(func() { idp.Subject, prompts = who, nil })
		b := p.person()
		if a := b.do(t, "GET", "/auth/oidc"+query, nil); a.url.Path != "/dashboard" {
			t.Errorf("the sign-in of %s ends at %s: %s", who, a.url, a.body)
		}
		var came string
		idp.Change(func() { came = strings.Join(prompts, " ") })
		return b, came
	}
}

// nobody is given a refresh token.
func nobody(idp *scripted.Provider) { idp.NoRefreshToken = true }

// answersConsent is a provider that answers requests for consent with an error.
func answersConsent(code string) func(*scripted.Provider) {
	return func(idp *scripted.Provider) {
		idp.Authorization = func(answer, request url.Values) {
			if request.Get("prompt") == "consent" {
				answer.Del("code")
				answer.Set("error", code)
			}
		}
	}
}

// takesNoConsent is a provider that does not take requests for consent, and says so to Keyturn itself.
func takesNoConsent(t *testing.T) func(*scripted.Provider) {
	return func(idp *scripted.Provider) {
		takesRequests(t, idp, func(request url.Values) bool {
			idp.Change(func() { idp.Asked("/authorize", request) })
			return false
		})
	}
}

// Whom consent brings no refresh token is not asked again soon, whatever it brings instead. Others are, until it is clear that the client
// may have none.
func TestConsentIsNotAskedForInVain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set   func(*scripted.Provider)
		says  string
		times int
		dave  string // how he comes after three others
		again string // how the same person comes again
	}{
		"no refresh token":  {nobody, "is the client registered there for the grant type refresh_token?", 1, "plain", "plain"},
		"declined":          {answersConsent("access_denied"), "code=access_denied", 4, "plain consent", "plain"},
		"not there":         {answersConsent("login_required"), "code=login_required", 4, "plain consent", "plain"},
		"in its own words":  {answersConsent("user_cancelled_authorize"), "code=user_cancelled_authorize", 4, "plain consent", "plain"},
		"not known":         {answersConsent("invalid_request"), "code=invalid_request", 3, "plain", "plain"},
		"not for the scope": {answersConsent("invalid_scope"), "code=invalid_scope", 3, "plain", "plain"},
		"not this client":   {answersConsent("unauthorized_client"), "code=unauthorized_client", 3, "plain", "plain"},
		"not taken":         {takesNoConsent(t), "code=authorization_request_refused", 3, "plain", "plain"},
		"for want of power": {answersConsent("temporarily_unavailable"), "this time", 6, "plain consent", "plain consent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, p, signsIn := asksForConsent(t, c.set)
			for i, who := range []string{"alice", "alice", "bob", "bob", "carol", "dave"} {
				want := []string{"plain consent", c.again, "plain consent", c.again, "plain consent", c.dave}[i]
				if b, came := signsIn(who, ""); came != want || !b.signedIn(t) {
					t.Errorf("%d: %s came with %q, want %q", i, who, came, want)
				}
			}
			if n := strings.Count(p.log.String(), c.says); n != c.times {
				t.Errorf("the log says %d times %s", n, c.says)
			}
		})
	}
}

// What asking for consent brought one person is learned from for that person first. Sign-ins begin with consent where nothing else brings
// a refresh token, and as long as it does.
func TestWhatConsentBringsIsLearnedFrom(t *testing.T) {
	t.Parallel()
	const asks, many = "?prompt=consent", "several people in a row got no refresh token"
	type step struct {
		who, query string
		gives      bool // with consent
		came       string
	}
	for name, c := range map[string]struct {
		steps []step
		many  int // how often the log says that it is the client's matter
	}{
		"after a fresh login": {[]step{{"alice", "?prompt=login", true, "login consent"}, {"alice", "?prompt=login", true, "login consent"}}, 0},
		"none for one of them": {[]step{
			{"alice", "", false, "plain consent"}, {"bob", "", true, "plain consent"}, {"alice", "", false, "plain"},
			{"bob", "", true, "plain consent"},
		}, 0},
		"none from some day on": {[]step{
			{"alice", "", true, "plain consent"}, {"bob", "", true, "consent"}, {"alice", "", false, "consent"}, {"alice", "", false, "plain"},
			{"bob", "", false, "plain consent"}, {"carol", "", false, "plain consent"}, {"dave", "", false, "plain"}, {"dave", asks, false, "consent"},
		}, 1},
		"one, for whoever asks": {[]step{
			{"alice", "", false, "plain consent"}, {"alice", asks, true, "consent"}, {"alice", "", true, "plain consent"}, {"bob", "", true, "consent"},
		}, 0},
		"none, for whoever asks": {[]step{
			{"alice", asks, false, "consent"}, {"alice", "", false, "plain"},
		}, 0},
		"one after many in vain": {[]step{
			{"alice", "", false, "plain consent"}, {"bob", "", false, "plain consent"}, {"carol", "", false, "plain consent"},
			{"dave", "", false, "plain"}, {"dave", asks, true, "consent"}, {"alice", "", true, "plain"}, {"erin", "", true, "plain consent"},
		}, 1},
		"one for whoever asks, insists on nothing": {[]step{{"alice", asks, true, "consent"}, {"bob", "", true, "plain consent"}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idp, p, signsIn := asksForConsent(t, func(*scripted.Provider) {})
			for i, s := range c.steps {
				idp.Change(func() { idp.NoRefreshToken = !s.gives })
				b, came := signsIn(s.who, s.query)
				if renewable := b.token(t)["renewable"]; came != s.came || renewable != (s.gives && came != "plain") {
					t.Errorf("%d: %s came with %q, want %q; renewable: %v", i, s.who, came, s.came, renewable)
				}
			}
			if n := strings.Count(p.log.String(), many); n != c.many {
				t.Errorf("the log says %d times: %s", n, many)
			}
		})
	}
}

// A provider that knows several people in one browser is told whom it is to ask for consent.
func TestWhoIsAskedForConsentIsNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		query string
		email any
		want  []string
	}{
		"by e-mail":             {"", "alice@example.com", []string{"", "alice@example.com"}},
		"whoever was asked for": {"?login_hint=bob", "alice@example.com", []string{"bob", "alice@example.com"}},
		"as in the first round": {"?login_hint=alice", nil, []string{"alice", "alice"}},
		"unless there is none":  {"", nil, []string{"", ""}},
		"or none of a length":   {"", strings.Repeat("a", 400) + "@example.com", []string{"", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var hints []string
			idp, _, signsIn := asksForConsent(t, func(idp *scripted.Provider) {
				idp.Claims = func(claims map[string]any, _ bool) { claims["email"] = c.email }
				idp.Authorization = func(_, request url.Values) { hints = append(hints, request.Get("login_hint")) }
			})
			signsIn("alice", c.query)
			idp.Change(func() {
				if !slices.Equal(hints, c.want) {
					t.Errorf("named %q, want %q", hints, c.want)
				}
			})
		})
	}
}

// Who chooses another account when asked for consent is signed in with that. It says neither that consent brings the first one a refresh
// token, nor that it brings none.
func TestWhoChoosesAnotherAccountForConsentIsSignedInWithIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		gives bool
		came  []string // how the next ones come: alice, carol
	}{
		"a refresh token":  {true, []string{"plain consent", "consent"}},
		"no refresh token": {false, []string{"plain consent", "plain consent"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idp, _, signsIn := asksForConsent(t, func(idp *scripted.Provider) {
				idp.NoRefreshToken = !c.gives
				idp.Authorization = func(_, request url.Values) {
					if request.Get("prompt") == "consent" {
						idp.Subject = "bob"
					}
				}
			})
			b, _ := signsIn("alice", "")
			whole := b.do(t, "GET", "/api/session", nil).json(t)
			user, token := whole["user"].(map[string]any), whole["token"].(map[string]any)
			if user["sub"] != "bob" || token["renewable"] != c.gives {
				t.Errorf("signed in: %v, renewable: %v", user, token["renewable"])
			}
			idp.Change(func() { idp.Authorization = nil })
			for i, who := range []string{"alice", "carol"} {
				if _, came := signsIn(who, ""); came != c.came[i] {
					t.Errorf("%s came with %q, want %q", who, came, c.came[i])
				}
			}
		})
	}
}

// Where sign-ins begin with consent, an error in its place keeps nobody from signing in without.
func TestWhoDeclinesConsentAtOnceSignsInWithout(t *testing.T) {
	t.Parallel()
	idp, p, signsIn := asksForConsent(t, func(*scripted.Provider) {})
	signsIn("alice", "")
	idp.Change(func() { answersConsent("access_denied")(idp) })
	if a := p.person().do(t, "GET", "/auth/oidc", nil); a.status != http.StatusBadRequest || !strings.Contains(a.body, "The sign-in was cancelled.") {
		t.Errorf("the answer is %d: %s", a.status, a.body)
	}
	for _, want := range []string{"plain consent", "plain"} {
		if _, came := signsIn("bob", ""); came != want {
			t.Errorf("bob came with %q, want %q", came, want)
		}
	}
}

// Who has cancelled, or could not be asked, may think better of it: the way back that their dashboard shows asks again.
func TestWhoCancelledConsentMayThinkBetter(t *testing.T) {
	t.Parallel()
	idp, _, signsIn := asksForConsent(t, answersConsent("access_denied"))
	for who, code := range map[string]string{"alice": "access_denied", "carol": "account_selection_required", "dave": "user_cancelled_login"} {
		idp.Change(func() { answersConsent(code)(idp) })
		b, _ := signsIn(who, "")
		page := b.do(t, "GET", "/dashboard", nil)
		if !strings.Contains(page.body, `id="sign-in-again" href="/auth/oidc?prompt=consent&amp;return_to=%2Fdashboard"`) {
			t.Errorf("%s: no way to consent in %s", code, page.body)
		}
	}
	idp.Change(func() { idp.Authorization = nil })
	if _, came := signsIn("bob", ""); came != "plain consent" {
		t.Errorf("another came with %q", came)
	}
}
