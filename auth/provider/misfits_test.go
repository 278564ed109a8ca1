package provider_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"keyturn/auth/authtest"
	"keyturn/auth/provider"
	"keyturn/auth/provider/scripted"
)

// announcing is a provider that says something of itself, and what Keyturn says of that.
func announcing(t *testing.T, name string, value any) (*provider.OIDC, *authtest.Buffer) {
	t.Helper()
	idp := scripted.New(t)
	idp.Document = func(document map[string]any) { document[name] = value }
	return logged(t, idp)
}

// logged is a provider, and what Keyturn says of it.
func logged(t *testing.T, idp *scripted.Provider) (*provider.OIDC, *authtest.Buffer) {
	t.Helper()
	log := &authtest.Buffer{}
	p, err := provider.NewOIDC(provider.Config{
		Name: "work", Type: "oidc", Issuer: idp.URL, ClientID: scripted.ClientID, ClientSecret: scripted.ClientSecret,
		Scopes: []string{"openid"}, CallbackURL: scripted.CallbackURL,
	}, provider.Options{RenewTimeout: 5 * time.Second, Now: time.Now, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return p, log
}

// Over a member that is not needed nobody is kept from signing in.
func TestMetadataWithAMemberThatIsNotOfUse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		value any
	}{
		{"introspection_endpoint", 7}, {"end_session_endpoint", map[string]any{}}, {"revocation_endpoint", true},
		{"userinfo_endpoint", []string{"x"}}, {"device_authorization_endpoint", 7}, {"scopes_supported", []any{"openid", 7}},
		{"token_endpoint_auth_methods_supported", "client_secret_post"}, {"id_token_signing_alg_values_supported", "RS256"},
		{"backchannel_logout_supported", "yes"}, {"Introspection_Endpoint", 7}, {"grant_types_supported", 7}, {"prompt_values_supported", "none"},
		{"authorization_response_iss_parameter_supported", "false"},
		{"userinfo_endpoint", "/userinfo"}, {"end_session_endpoint", "https://somebody@elsewhere.example/end"},
	} {
		t.Run(fmt.Sprintf("%s %v", c.name, c.value), func(t *testing.T) {
			t.Parallel()
			p, log := announcing(t, c.name, c.value)
			for range 2 {
				if _, err := p.Begin(t.Context(), "the-state", "", ""); err != nil {
					t.Fatal(err)
				}
			}
			if said := log.String(); strings.Count(said, "level=WARN") != 1 || !strings.Contains(said, "["+strings.ToLower(c.name)+"]") {
				t.Errorf("the log says: %s", said)
			}
			if minded := strings.Join(p.Check(t.Context()).Mind, " "); !strings.Contains(minded, strings.ToLower(c.name)) {
				t.Errorf("the check minds: %s", minded)
			}
		})
	}
	for _, name := range []string{"issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, value := range []any{7, "/there"} {
				p, _ := announcing(t, name, value)
				if _, err := p.Begin(t.Context(), "the-state", "", ""); err == nil {
					t.Errorf("with %v it is done without", value)
				}
			}
		})
	}
}

// Whoever cannot be understood about iss may have announced it (RFC 9207 section 2.4). One that comes is checked in any case.
func TestAnAnnouncementOfIssThatCannotBeReadIsAYes(t *testing.T) {
	t.Parallel()
	without := func(callback url.Values) { callback.Del("iss") }
	another := func(callback url.Values) { callback.Set("iss", "https://other.example") }
	refused := func(p *provider.OIDC, edit func(url.Values)) bool {
		_, err := signIn(t, p, edit)
		var failure *provider.SignInError
		return errors.As(err, &failure) && failure.Code == "issuer_mismatch"
	}
	for _, unread := range []any{"true", "TRUE", 1, map[string]any{}} {
		p, _ := announcing(t, "authorization_response_iss_parameter_supported", unread)
		if !refused(p, without) || !refused(p, another) {
			t.Errorf("%v: an answer without iss, or with another, is taken", unread)
		}
	}
	p, _ := announcing(t, "authorization_response_iss_parameter_supported", "False")
	if refused(p, without) || !refused(p, another) {
		t.Error("where none is announced, an answer without iss is refused, or one with another taken")
	}
}
