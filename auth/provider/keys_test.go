package provider_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"keyturn/auth/provider/scripted"
)

// A set that is empty for a moment, or whatever comes with an error, replaces no good one, whoever chooses the moment to ask for it.
func TestAnEmptyKeySetReplacesNone(t *testing.T) {
	t.Parallel()
	other := newECKey()
	_, public := scripted.Key(other, jose.ES256, "k2")
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}})
	if err != nil {
		t.Fatal(err)
	}
	for name, answer := range map[string]http.HandlerFunc{
		"empty": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"keys":[]}`) },
		"with an error": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write(set)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idp := scripted.New(t)
			p := newOIDC(t, idp, nil)
			if _, err := signIn(t, p, nil); err != nil {
				t.Fatal(err)
			}
			idp.Keys = answer
			before := idp.Calls("/keys")
			if _, err := p.VerifyLogout(t.Context(), scripted.Forge(jose.ES256, other, idp.LogoutClaims("s1", "alice"))); err == nil {
				t.Error("a forged logout token is taken")
			}
			if idp.Calls("/keys") == before {
				t.Fatal("the keys were not fetched")
			}
			if _, err := p.VerifyLogout(t.Context(), idp.SignAs("logout+jwt", idp.LogoutClaims("s1", "alice"))); err != nil {
				t.Errorf("a logout token: %v", err)
			}
			if _, err := signIn(t, p, nil); err != nil {
				t.Errorf("a sign-in: %v", err)
			}
		})
	}
}
