package provider_test

import (
	"net/http"
	"testing"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/auth/provider/scripted"
)

// A provider may repeat of a grant what it was not sent.
func TestNoTokenOfTheGrantIsInTheErrorOfItsRevocation(t *testing.T) {
	t.Parallel()
	tokens := auth.TokenSet{Access: "the-access-token", Refresh: "the-refresh-token", ID: "the-id-token"}
	refuse := func(w http.ResponseWriter) bool {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error":"invalid_request","error_description":"of the-access-token, the-refresh-token and the-id-token"}`))
		return true
	}
	idp := scripted.New(t)
	idp.Revocation = refuse
	mux := http.NewServeMux()
	mux.HandleFunc("POST discord.com/api/oauth2/token/revoke", func(w http.ResponseWriter, _ *http.Request) { refuse(w) })
	for name, p := range map[string]auth.Provider{
		"an OpenID provider": newOIDC(t, idp, nil),
		"a brand":            brandOf(t, provider.Config{Name: "x", Type: "discord", Scopes: []string{"identify"}}, mux),
	} {
		const want = "invalid_request: of [redacted], [redacted] and [redacted]"
		if err := p.Revoke(t.Context(), tokens); err == nil || err.Error() != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
