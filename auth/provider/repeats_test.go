package provider_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/auth/provider/scripted"
)

// A provider may repeat of a grant what it was not sent.
func TestNoTokenOfTheGrantIsInTheErrorOfACall(t *testing.T) {
	t.Parallel()
	tokens := auth.TokenSet{Access: "the-access-token", Refresh: "the-refresh-token", ID: "the-id-token"}
	refuse := func(w http.ResponseWriter) bool {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error":"invalid_request","error_description":"of the-access-token, the-refresh-token and the-id-token"}`))
		return true
	}
	idp := scripted.New(t)
	idp.Revocation = refuse
	idp.Introspect = func(w http.ResponseWriter, _ *http.Request) { refuse(w) }
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
		if inspector, is := p.(provider.Inspector); is {
			if _, err := inspector.Introspect(t.Context(), tokens, tokens.Access); err == nil || err.Error() != want {
				t.Errorf("%s, introspection: %v", name, err)
			}
		}
	}
}

// A member's name may be a token, too, which is longer than what is kept of it.
func TestNoTokenIsInWhatIsSaidOfClaimsAtASignIn(t *testing.T) {
	t.Parallel()
	const part = "0123456789abcdef"
	refresh := "the-refresh-token-" + strings.Repeat(part, 20)
	twice := fmt.Sprintf(`,%q:1,%q:2}`, refresh, refresh)
	idp := scripted.New(t)
	idp.Tokens = func(tokens map[string]any, _ bool) { tokens["refresh_token"] = refresh }
	idp.UserInfo = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"sub":"alice"`+twice) }
	p, log := logged(t, idp)
	if _, err := signIn(t, p, nil); err != nil {
		t.Fatal(err)
	}
	if said := log.String(); strings.Contains(said, part) || !strings.Contains(said, `the claims say \"[redacted]\" twice`) {
		t.Errorf("of userinfo: %s", said)
	}
	idp.Change(func() {
		idp.IDToken = func(signed string) string {
			return idp.SignPayload("", []byte(strings.TrimSuffix(string(payloadOf(signed)), "}")+twice))
		}
	})
	if _, err := signIn(t, p, nil); err == nil || !strings.HasSuffix(err.Error(), `the claims say "[redacted]" twice`) {
		t.Errorf("of the id token: %v", err)
	}
}
