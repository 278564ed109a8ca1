package provider_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/auth/provider/scripted"
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

// Of an answer that breaks off behind its tokens nobody knows whether an id token was to come, and nobody is signed in.
func TestASignInWhoseAnswerBreaksOffLeavesTokens(t *testing.T) {
	t.Parallel()
	breaksOff := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"access_token":"a1","token_type":"Bearer","expires_in":600,"refresh_token":"r1","id_tok`)
	}))
	t.Cleanup(breaksOff.Close)
	idp := scripted.New(t)
	idp.Document = func(document map[string]any) { document["token_endpoint"] = breaksOff.URL }
	var failed *provider.SignInError
	_, err := signIn(t, newOIDC(t, idp, nil), nil)
	if !errors.As(err, &failed) || failed.Code != "code_exchange_failed" || failed.Failure.Code != auth.CodeCutOff || failed.Unused.Refresh != "r1" {
		t.Errorf("%v, %+v", err, failed)
	}
}
