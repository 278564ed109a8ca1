package main

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"keyturn/auth/provider/scripted"
)

// Somebody is to be asked for consent, and their session ends before that: it would not know the answer. The provider takes authorization
// requests from Keyturn itself (RFC 9126), and so can end the session in that very moment.
func TestWhoseSessionEndsIsNotAskedForConsent(t *testing.T) {
	t.Parallel()
	var idp *scripted.Provider
	var p *program
	var pushed atomic.Pointer[url.Values]
	asked := make(chan bool, 9)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/par" {
			asked <- true
			http.Redirect(w, r, idp.URL+"/authorize?"+pushed.Load().Encode(), http.StatusFound)
			return
		}
		_ = r.ParseForm()
		if pushed.Store(&r.PostForm); r.PostForm.Get("prompt") == "consent" {
			if a := p.tell(t, idp.SignAs("logout+jwt", idp.LogoutClaims("", "alice"))); a.status != http.StatusOK {
				t.Errorf("the logout token: %d", a.status)
			}
		}
		w.WriteHeader(http.StatusCreated)
		writeJSON(w, map[string]any{"request_uri": "urn:x"})
	}))
	t.Cleanup(front.Close)
	idp, p = atScripted(t, func(idp *scripted.Provider) {
		idp.InsistsOnConsent = true
		idp.Document = func(document map[string]any) {
			document["pushed_authorization_request_endpoint"], document["require_pushed_authorization_requests"] = front.URL+"/par", true
			document["authorization_endpoint"] = front.URL + "/authorize"
		}
	})
	alice := p.person()
	a := alice.do(t, "GET", "/auth/oidc?return_to=/dashboard", nil)
	if a.status != http.StatusOK || a.url.RequestURI() != "/?return_to=/dashboard" || alice.signedIn(t) {
		t.Errorf("the sign-in ends at %s (%d)", a.url, a.status)
	}
	if n := len(asked); n != 1 || pushed.Load().Get("prompt") != "consent" {
		t.Errorf("asked %d times; the last request pushed: %v", n, pushed.Load())
	}
}

// Whom consent brings no refresh token is not asked again soon. Others are, until it is clear that the client may have none.
func TestConsentIsNotAskedForInVain(t *testing.T) {
	t.Parallel()
	var gives atomic.Bool
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.InsistsOnConsent = true
		idp.Tokens = func(tokens map[string]any, _ bool) {
			if !gives.Load() {
				delete(tokens, "refresh_token")
			}
		}
	})
	var consents atomic.Int32
	idp.Change(func() {
		idp.Authorization = func(_, request url.Values) {
			if request.Get("prompt") == "consent" {
				consents.Add(1)
			}
		}
	})
	signsIn := func(who string) *person {
		idp.Change(func() { idp.Subject = who })
		b := p.person()
		if a := b.do(t, "GET", "/auth/oidc", nil); a.url.Path != "/dashboard" {
			t.Errorf("the sign-in ends at %s: %s", a.url, a.body)
		}
		return b
	}
	for _, c := range []struct {
		who  string
		want int32
	}{{"alice", 1}, {"alice", 1}, {"bob", 2}, {"carol", 3}, {"dave", 3}} {
		if signsIn(c.who); consents.Load() != c.want {
			t.Errorf("after %s %d were asked for consent, want %d", c.who, consents.Load(), c.want)
		}
	}
	if n := strings.Count(p.log.String(), "is the client registered there for the grant type refresh_token?"); n != 1 {
		t.Errorf("the log says %d times what may be behind it", n)
	}
	p.kill(t)
	p.again(t)
	signsIn("alice")
	gives.Store(true)
	if bob := signsIn("bob"); bob.token(t)["renewable"] != true {
		t.Error("who was not asked for consent has a session that cannot be renewed")
	}
}
