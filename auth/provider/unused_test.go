package provider_test

import (
	"errors"
	"net/http"
	"net/url"
	"testing"

	"keyturn/auth/provider"
)

// What a brand has given for a sign-in that comes to nothing is to be revoked, but where the one who signs in may have a session that
// would end with it.
func TestABrandsRefusedSignInLeavesTokens(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		token, profile string
		unused         bool
	}{
		"the profile cannot be read": {`{"access_token":"a1","refresh_token":"r1","token_type":"Bearer","expires_in":600}`, "", false},
		"nobody signed in":           {`{"access_token":"a1","refresh_token":"r1","token_type":"Bearer","expires_in":600}`, `{"username":"alice"}`, true},
		"no access token came":       {`{"refresh_token":"r1","token_type":"Bearer","expires_in":600}`, `{"id":"1"}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
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
			p := brandOf(t, provider.Config{Name: "x", Type: "discord", Scopes: []string{"identify"}}, mux)
			session, err := p.Begin(t.Context(), "the-state", "", "")
			if err != nil {
				t.Fatal(err)
			}
			var failed *provider.SignInError
			_, err = p.Finish(t.Context(), session, url.Values{"code": {"the-code"}, "state": {"the-state"}})
			if !errors.As(err, &failed) || (failed.Unused.Refresh == "r1") != c.unused {
				t.Errorf("%v leaves %v", err, failed.Unused.Refresh.Reveal())
			}
		})
	}
}
