package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"keyturn/auth/provider/scripted"
)

// Some refuse a refresh token with a code that elsewhere means the client: nobody is told that the operator has to mend it.
func TestATokenThatIsRefusedInOtherWordsAsksForASignIn(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
			w.WriteHeader(http.StatusBadRequest)
			writeJSON(w, map[string]any{"error": "unauthorized_client", "error_description": "token was already used"})
			return true
		}
	})
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	why, _ := alice.do(t, "POST", "/api/renew-token", nil).json(t)["error"].(map[string]any)
	if why["code"] != "unauthorized_client" || !strings.HasSuffix(fmt.Sprint(why["message"]), "has refused the refresh token (unauthorized_client). Sign in again.") {
		t.Errorf("%v", why)
	}
	if page := alice.do(t, "GET", "/dashboard", nil); strings.Contains(page.body, "Keyturn&#39;s settings") || !strings.Contains(page.body, "has refused the refresh token") {
		t.Error("the page blames the settings")
	}
}
