package provider

import (
	"encoding/json"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
)

// Endpoints move. A call that finds nobody is reason to ask where they are by now.
func TestMetadataIsAskedForAgainWhenAnEndpointHasMoved(t *testing.T) {
	t.Parallel()
	var gone, broken atomic.Bool
	idp := scripted.New(t)
	idp.Token = func(w http.ResponseWriter, r *http.Request, _ func() map[string]any) bool {
		if r.URL.Query().Get("at") == "home" && gone.Load() {
			w.WriteHeader(http.StatusNotFound)
		} else {
			_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "a", "token_type": "Bearer"})
		}
		return true
	}
	idp.Document = func(document map[string]any) {
		at := "home"
		if gone.Load() {
			at = "elsewhere"
		}
		document["token_endpoint"] = idp.URL + "/token?at=" + at
		if broken.Load() {
			document["issuer"] = "https://other.example"
		}
	}
	p, err := NewOIDC(Config{
		Name: "work", Type: "oidc", Issuer: idp.URL, ClientID: scripted.ClientID, ClientSecret: scripted.ClientSecret, GrantType: auth.GrantRefreshToken,
	}, Options{RenewTimeout: 5 * time.Second, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	renew := func() bool {
		_, err := p.Renew(t.Context(), auth.TokenSet{Refresh: "r"}, true)
		return err == nil
	}
	longAgo := func() {
		p.discovery.mu.Lock()
		defer p.discovery.mu.Unlock()
		p.discovery.asked = time.Now().Add(-time.Hour)
	}
	asked := func() int { return idp.Calls("/.well-known/openid-configuration") }
	if !renew() || asked() != 1 {
		t.Fatal("it does not begin")
	}
	gone.Store(true)
	if renew() || asked() != 1 {
		t.Errorf("asked %d times within a moment", asked())
	}
	longAgo()
	broken.Store(true)
	renew()
	for deadline := time.Now().Add(10 * time.Second); asked() < 2 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	if p.discovery.known() == nil {
		t.Error("worse metadata took the place of what there was")
	}
	broken.Store(false)
	for deadline := time.Now().Add(10 * time.Second); !renew(); time.Sleep(20 * time.Millisecond) {
		longAgo()
		if time.Now().After(deadline) {
			t.Fatal("the new endpoint is not found")
		}
	}
}
