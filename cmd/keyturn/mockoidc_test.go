package main

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/oauth2-proxy/mockoidc"

	"keyturn/auth/provider/scripted"
)

// mockoidc is an implementation of OpenID Connect that is neither ours nor the embedded provider's. It does not rotate, and has
// neither revocation nor an end of session.
func TestWithMockOIDC(t *testing.T) {
	t.Parallel()
	idp, err := mockoidc.Run()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = idp.Shutdown() })
	idp.AccessTTL, idp.RefreshTTL = time.Minute, time.Hour
	p := startProgram(t, "KEYTURN_ISSUER="+idp.Issuer(), "KEYTURN_CLIENT_ID="+idp.ClientID, "KEYTURN_CLIENT_SECRET="+idp.ClientSecret)
	alice := p.person()
	if a := alice.do(t, "GET", "/auth/oidc", nil); a.url.Path != "/dashboard" {
		t.Fatalf("the sign-in ends at %s: %s\n%s", a.url, a.body, p.log)
	}
	for n := range 3 {
		time.Sleep(1100 * time.Millisecond) // its tokens of one second are the same
		if a := alice.do(t, "POST", "/api/renew-token", nil); a.json(t)["outcome"] != "renewed" || a.json(t)["generation"] != float64(n+2) {
			t.Fatalf("%d %s\n%s", a.status, a.body, p.log)
		}
	}
	if a := alice.do(t, "POST", "/auth/signout", url.Values{}); a.status != http.StatusOK || a.url.Path != "/" || alice.signedIn(t) {
		t.Errorf("after the sign-out: %d at %s, signed in: %v", a.status, a.url, alice.signedIn(t))
	}
	alice.do(t, "GET", "/auth/oidc", nil)
	kid, err := idp.Keypair.KeyID()
	if err != nil || !alice.signedIn(t) {
		t.Fatalf("no second sign-in (%v)\n%s", err, p.log)
	}
	claims := map[string]any{
		"iss": idp.Issuer(), "aud": idp.ClientID, "sub": mockoidc.DefaultUser().ID(), "jti": "1", "iat": time.Now().Unix(),
		"exp": time.Now().Add(time.Minute).Unix(), "events": map[string]any{scripted.LogoutEvent: map[string]any{}},
	}
	a := p.tell(t, scripted.Forge(jose.RS256, jose.JSONWebKey{Key: idp.Keypair.PrivateKey, KeyID: kid}, claims))
	if a.status != http.StatusOK || alice.signedIn(t) {
		t.Errorf("a logout token with its key: %d %s, signed in: %v", a.status, a.body, alice.signedIn(t))
	}
}
