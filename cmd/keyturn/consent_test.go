package main

import (
	"net/http"
	"net/url"
	"testing"

	"keyturn/auth/provider/scripted"
)

// Somebody is to be asked for consent, and their session ends before that: it would not know the answer. The provider takes authorization
// requests from Keyturn itself (RFC 9126), and so can end the session in that very moment.
func TestWhoseSessionEndsIsNotAskedForConsent(t *testing.T) {
	t.Parallel()
	var p *program
	pushed, asked := url.Values{}, make(chan url.Values, 9)
	_, p = atScripted(t, func(idp *scripted.Provider) {
		idp.InsistsOnConsent = true
		idp.Document = func(document map[string]any) {
			document["pushed_authorization_request_endpoint"], document["require_pushed_authorization_requests"] = idp.URL+"/par", true
		}
		plain := idp.Config.Handler
		idp.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/par" && r.ParseForm() == nil:
				if pushed = r.PostForm; pushed.Get("prompt") == "consent" {
					if a := p.tell(t, idp.SignAs("logout+jwt", idp.LogoutClaims("", "alice"))); a.status != http.StatusOK {
						t.Errorf("the logout token: %d", a.status)
					}
				}
				w.WriteHeader(http.StatusCreated)
				writeJSON(w, map[string]any{"request_uri": "urn:x"})
				return
			case r.URL.Path == "/authorize":
				asked <- pushed
				r.URL.RawQuery = pushed.Encode()
			}
			plain.ServeHTTP(w, r)
		})
	})
	alice := p.person()
	a := alice.do(t, "GET", "/auth/oidc?return_to=/dashboard", nil)
	if a.status != http.StatusOK || a.url.RequestURI() != "/?return_to=/dashboard" || alice.signedIn(t) {
		t.Errorf("the sign-in ends at %s (%d)", a.url, a.status)
	}
	if n := len(asked); n != 1 || pushed.Get("prompt") != "consent" {
		t.Errorf("asked %d times; the last request pushed: %v", n, pushed)
	}
}
