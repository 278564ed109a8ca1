package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"keyturn/auth/provider/scripted"
)

// A renewal by client_credentials (RFC 6749 section 4.4) sends the client id, the secret and the audience, and no refresh token.
func TestClientCredentials(t *testing.T) {
	t.Parallel()
	var refuses atomic.Bool
	asked := make(chan url.Values, 5)
	_, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Token = func(w http.ResponseWriter, r *http.Request, _ func() map[string]any) bool {
			asked <- r.PostForm
			if refuses.Load() {
				w.WriteHeader(http.StatusBadRequest)
				_, _ = w.Write([]byte(`{"error":"invalid_grant"}`))
				return true
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "for-the-api", "token_type": "Bearer", "expires_in": 600})
			return true
		}
	}, "KEYTURN_GRANT_TYPE=client_credentials", "KEYTURN_API_IDENTIFIER=https://api.example/", "KEYTURN_SCOPES=openid offline_access read:things")
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	a := alice.do(t, "POST", "/api/renew-token", nil)
	if got := a.json(t); got["access_token"] != "for-the-api" || got["outcome"] != "renewed" || got["generation"] != 2.0 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if form := <-asked; form.Get("grant_type") != "client_credentials" || form.Get("audience") != "https://api.example/" || form.Get("scope") != "read:things" || form.Has("refresh_token") {
		t.Errorf("asked with %v", form)
	}
	if said := alice.do(t, "POST", "/api/trigger-renew-token?query=update-token-data", nil, "HX-Request", "true").body; !strings.Contains(said, "Renewed in") {
		t.Errorf("the page says: %s", said)
	}
	if scope := alice.token(t)["scope"]; scope != "read:things" {
		t.Errorf("its scope is %v", scope)
	}
	// Nothing of the person's is refused: it is not for them to sign in again.
	refuses.Store(true)
	a = alice.do(t, "POST", "/api/renew-token", nil)
	if why, _ := a.json(t)["error"].(map[string]any); a.json(t)["outcome"] != "kept" || why["code"] != "invalid_grant" ||
		strings.Contains(a.body, "refresh token") || alice.token(t)["renewable"] != true {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// Where no scope is asked for, and the provider names none, nobody knows it: the one that the person signed in with is not it.
func TestTheScopeOfAClientsOwnTokenIsNotThePersons(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
			_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "for-the-api", "token_type": "Bearer", "expires_in": 600})
			return true
		}
	}, "KEYTURN_GRANT_TYPE=client_credentials")
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	if before := alice.token(t)["scope"]; before == "" {
		t.Errorf("signed in with the scope %q", before)
	}
	for range 2 {
		a := alice.do(t, "POST", "/api/renew-token", nil)
		if got, later := a.json(t)["scope"], alice.token(t)["scope"]; got != "" || later != "" {
			t.Errorf("its scope is %q, and later %q", got, later)
		}
	}
}
