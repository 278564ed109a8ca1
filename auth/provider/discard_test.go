package provider_test

import (
	"net/http"
	"net/url"
	"testing"

	"keyturn/auth/provider"
)

// What a brand has given for a sign-in that comes to nothing is revoked, but where the one who signs in may have a session that would
// end with it.
func TestTokensOfABrandsRefusedSignInAreRevoked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		token, profile string
		revoked        bool
	}{
		"the profile cannot be read": {`{"access_token":"a1","refresh_token":"r1","token_type":"Bearer","expires_in":600}`, "", false},
		"nobody signed in":           {`{"access_token":"a1","refresh_token":"r1","token_type":"Bearer","expires_in":600}`, `{"username":"alice"}`, true},
		"no access token came":       {`{"refresh_token":"r1","token_type":"Bearer","expires_in":600}`, `{"id":"1"}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			revoked := make(chan string, 10)
			mux := http.NewServeMux()
			mux.HandleFunc("POST discord.com/api/oauth2/token", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write([]byte(c.token))
			})
			mux.HandleFunc("GET discord.com/api/users/@me", func(w http.ResponseWriter, _ *http.Request) {
				if c.profile == "" {
					w.WriteHeader(http.StatusInternalServerError)
				}
				_, _ = w.Write([]byte(c.profile))
			})
			mux.HandleFunc("POST discord.com/api/oauth2/token/revoke", func(_ http.ResponseWriter, r *http.Request) {
				revoked <- r.PostFormValue("token")
			})
			p := brandOf(t, provider.Config{Name: "x", Type: "discord", Scopes: []string{"identify"}}, mux)
			session, err := p.Begin(t.Context(), "the-state", "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Finish(t.Context(), session, url.Values{"code": {"the-code"}, "state": {"the-state"}}); err == nil {
				t.Fatal("somebody signed in")
			}
			select {
			case token := <-revoked:
				if !c.revoked || token != "r1" && token != "a1" {
					t.Errorf("revoked %q", token)
				}
			default:
				if c.revoked {
					t.Error("nothing is revoked")
				}
			}
		})
	}
}
