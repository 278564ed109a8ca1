package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth/provider/scripted"
)

// Some refuse a refresh token with a code that elsewhere means another thing: nobody is told that the operator has to mend it.
func TestATokenThatIsRefusedInOtherWordsAsksForASignIn(t *testing.T) {
	t.Parallel()
	for code, said := range map[string]string{"unauthorized_client": "token was already used", "invalid_request": "Token has been revoked"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			_, p := atScripted(t, func(idp *scripted.Provider) {
				idp.Token = func(w http.ResponseWriter, r *http.Request, grant func() map[string]any) bool {
					answers(http.StatusBadRequest, `{"error":"`+code+`","error_description":"`+said+`"}`)(w, r, grant)
					return true
				}
			})
			alice := p.person()
			alice.do(t, "GET", "/auth/oidc", nil)
			alice.do(t, "POST", "/api/renew-token", nil)
			why, _ := alice.do(t, "POST", "/api/renew-token", nil).json(t)["error"].(map[string]any)
			if why["code"] != code || !strings.HasSuffix(fmt.Sprint(why["message"]), "has refused the refresh token ("+said+"). Sign in again.") {
				t.Errorf("%v", why)
			}
			page := alice.do(t, "GET", "/dashboard", nil).body
			if strings.Contains(page, "Keyturn&#39;s settings") || !strings.Contains(page, "has refused the refresh token") {
				t.Error("the page blames the settings")
			}
			if strings.Contains(page, "unauthorized_client") || strings.Count(page, said) < 3 { // the card, the timeline and the history
				t.Error("the page does not say why")
			}
		})
	}
}

// An operator who has mended the settings restarts Keyturn: nobody waits for the tries that were put off before.
func TestARestartTriesWhatTheOperatorHasMended(t *testing.T) {
	t.Parallel()
	var mended atomic.Bool
	idp, p := atScripted(t, func(idp *scripted.Provider) { idp.Lifetime = 2 * time.Second }, "--renew-mode=on-demand")
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	idp.Change(func() { idp.Authenticate = func(*http.Request) bool { return mended.Load() } })
	time.Sleep(2100 * time.Millisecond)
	if token := alice.token(t); token["state"] != "expired" || token["error"].(map[string]any)["code"] != "invalid_client" {
		t.Fatalf("%v", token)
	}
	a := alice.do(t, "POST", "/api/trigger-renew-token", nil) // tries nothing so soon
	if why, _ := a.json(t)["error"].(map[string]any); a.status != http.StatusBadGateway || why["code"] != "invalid_client" {
		t.Errorf("%d %s", a.status, a.body)
	}
	mended.Store(true)
	if token := alice.token(t); token["state"] != "expired" {
		t.Errorf("it is tried before its time: %v", token)
	}
	p.kill(t)
	p.again(t)
	if token := alice.token(t); token["state"] != "fresh" {
		t.Errorf("%v", token)
	}
}
