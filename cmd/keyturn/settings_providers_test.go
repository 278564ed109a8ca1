package main

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"keyturn/auth"
)

// diffProviders compares secrets by value: their printed form is a fingerprint.
func diffProviders(want, got []ProviderSettings) string {
	return cmp.Diff(want, got, cmp.Comparer(func(a, b auth.Secret) bool { return a == b }), cmpopts.IgnoreUnexported(clientKey{}), cmpopts.EquateEmpty())
}

func TestProvidersOfTheFile(t *testing.T) {
	t.Parallel()
	secretFile := tempFile(t, "secret", "from file\n")
	s, err := parseFile(t, `
max_age: 20m
leeway: 30s
providers:
  - name: work
    type: oidc
    label: Example Corp
    issuer: https://id.example.com/
    client-id: keyturn
    client_secret: ${WORK_CLIENT_SECRET}
    client_auth: client_secret_post
    scopes: [openid, email, email]
    audience: https://api.example.com/
    auth_params: {prompt: consent, access-type: offline, none: }
    grant_type: client_credentials
    max_age: 10m
    leeway: 0s
    assumed_lifetime: 5m
    on_unknown: retry_at_expiry
  - {issuer: "http://localhost:9000", client_id: public, name: local}
  - type: auth0
    client_id: brand
    client_secret_file: `+secretFile+`
    domain: example.eu.auth0.com
    region: ""
`, "WORK_CLIENT_SECRET=hush", "KEYTURN_ISSUER=https://i.example/realm", "KEYTURN_CLIENT_ID=id",
		"KEYTURN_API_IDENTIFIER=api")
	if err != "" {
		t.Fatal(err)
	}
	want := []ProviderSettings{
		{
			Name: "work", Type: "oidc", Label: "Example Corp", Issuer: "https://id.example.com/", ClientID: "keyturn",
			ClientSecret: "hush", ClientAuth: "client_secret_post", Scopes: []string{"openid", "email"},
			Audience: "https://api.example.com/", AuthParams: map[string]string{"prompt": "consent", "access-type": "offline"},
			GrantType: "client_credentials", MaxAge: 10 * time.Minute, AssumedLifetime: 5 * time.Minute, RenewConcurrency: 16,
			OnUnknown: "retry_at_expiry",
		},
		{
			Name: "local", Type: "oidc", Label: "localhost:9000", Issuer: "http://localhost:9000", ClientID: "public",
			GrantType: "refresh_token", MaxAge: 20 * time.Minute,
			Leeway: 30 * time.Second, AssumedLifetime: time.Hour, RenewConcurrency: 16, OnUnknown: "retry_now",
		},
		{
			Name: "auth0", Type: "auth0", ClientID: "brand", ClientSecret: "from file",
			Extra: map[string]string{"domain": "example.eu.auth0.com"}, GrantType: "refresh_token",
			MaxAge: 20 * time.Minute, Leeway: 30 * time.Second, RenewConcurrency: 16, OnUnknown: "retry_now",
		},
		{
			Name: "oidc", Type: "oidc", Label: "i.example", Issuer: "https://i.example/realm", ClientID: "id",
			Audience: "api", GrantType: "refresh_token", MaxAge: 20 * time.Minute,
			Leeway: 30 * time.Second, AssumedLifetime: time.Hour, RenewConcurrency: 16, OnUnknown: "retry_now",
		},
	}
	if diff := diffProviders(want, s.Providers); diff != "" {
		t.Errorf("providers (-want +got):\n%s", diff)
	}
}

func TestProviderMistakesAreNamedInOneLine(t *testing.T) {
	t.Parallel()
	const names = "; allowed: up to 63 of a-z, 0-9 and -, but not signout or initiate"
	for _, c := range []struct{ what, entry, want string }{
		{"unknown key", "name: work, clientid: x",
			"providers.work.clientid (line 2 of FILE): this key is not known; did you mean client_id?"},
		{"key far from any", "name: work, zzzzzz: x",
			"providers.work.zzzzzz (line 2 of FILE): this key is not known; allowed: agent_id, assumed_lifetime, audience, auth_params, " +
				"base_url, client_auth, client_id, client_key_file, client_key_id, client_secret, client_secret_file, domain, grant_type, " +
				"issuer, key_file, key_id, label, leeway, max_age, name, on_unknown, org_url, region, renew_concurrency, resource, scopes, " +
				"shop, team_id, tenant, token_params, type, user_pool"},
		{"wrong value", "name: work, max_age: abc",
			`providers.work.max_age (line 2 of FILE): "abc" is not a duration; allowed: a positive duration such as 60s ` +
				`or 30m, at most 720h`},
		{"bad name", "name: My Work", `providers[1].name (line 2 of FILE): "My Work" is not a provider name` + names},
		{"reserved name", "name: signout", `providers[1].name (line 2 of FILE): "signout" is the path of signing out` +
			names},
		{"long name", "name: " + strings.Repeat("x", 64),
			`providers[1].name (line 2 of FILE): "` + strings.Repeat("x", 64) + `" is not a provider name` + names},
		{"type that is no name", "type: openidConnect, client_id: x",
			`providers[1].name (line 2 of FILE): "openidConnect" (the type) is not a provider name` + names},
		{"no issuer", "name: work, client_id: x",
			"providers.work.issuer (line 2 of FILE): is not set; allowed: the issuer URL, which type oidc needs"},
		{"no client id", "type: oidc, issuer: https://i.example",
			"providers.oidc.client_id (line 2 of FILE): is not set; allowed: the client id, which an issuer needs"},
		{"plain http", "name: work, client_id: x, issuer: http://i.example",
			`providers.work.issuer (line 2 of FILE): "http://i.example" is not encrypted; allowed: an https URL, or http ` +
				`for a loopback host`},
		{"no openid", "name: work, client_id: x, issuer: https://i.example, scopes: email",
			`providers.work.scopes (line 2 of FILE): "email" lacks openid; allowed: scopes with openid among them, such ` +
				`as ` + defaultScopes()},
		{"brand's key", "name: work, client_id: x, issuer: https://i.example, domain: d",
			"providers.work.domain (line 2 of FILE): is not used by type oidc; allowed: for brands that need it"},
		{"brand's key that is missing", "type: auth0, client_id: x",
			`providers.auth0.domain (line 2 of FILE): is not set, and Auth0 needs it; allowed: a host without a path, such as ` +
				`acme.example.com`},
		{"another brand's key", "type: box, client_id: x, domain: d",
			`providers.box.domain (line 2 of FILE): "d" is not used by Box; allowed of such settings: none`},
		{"brand without a client id", "type: github, client_secret: hush",
			"providers.github.client_id (line 2 of FILE): is not set; allowed: the client id that GitHub gave"},
		{"a domain with a path", "type: auth0, client_id: x, domain: 'https://acme.eu.auth0.com/login'",
			`providers.auth0.domain (line 2 of FILE): "https://acme.eu.auth0.com/login" cannot be used; allowed: a host without a ` +
				`path, such as acme.example.com`},
		{"another server than Okta's organization", "type: okta, client_id: x, org_url: 'https://acme.okta.com/oauth2/default'",
			`providers.okta.org_url (line 2 of FILE): "https://acme.okta.com/oauth2/default" cannot be used; allowed: the ` +
				`organization's URL without a path, such as https://acme.okta.com`},
		{"client credentials without a secret", "type: github, client_id: x, grant_type: client_credentials",
			`providers.github.grant_type (line 2 of FILE): "client_credentials" needs a client secret; allowed: ` +
				`refresh_token, or a client secret`},
		{"client authentication without a secret", "type: github, client_id: x, client_auth: client_secret_basic",
			`providers.github.client_auth (line 2 of FILE): "client_secret_basic" needs a client secret; allowed: none, ` +
				`or a client secret`},
		{"no client authentication with a secret", "type: github, client_id: x, client_auth: none, client_secret: hush",
			`providers.github.client_auth (line 2 of FILE): "none" contradicts the client secret; allowed: ` +
				`client_secret_basic, client_secret_post, or no client secret`},
		{"on_unknown", "name: work, on_unknown: never",
			`providers.work.on_unknown (line 2 of FILE): "never" is not known; allowed: retry_now or retry_at_expiry`},
		{"reserved parameter", "name: work, auth_params: {state: hush}",
			"providers.work.auth_params.state (line 2 of FILE): is set by Keyturn itself; allowed: parameters such as " +
				"prompt or access_type"},
		{"unset variable", "name: work, client_secret: '${NOWHERE}'",
			"providers.work.client_secret (line 2 of FILE): ${NOWHERE}: this environment variable is not set or empty; " +
				"allowed: one that is set"},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			if _, got := parseFile(t, "providers:\n  - {"+c.entry+"}\n"); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	if _, got := parseFile(t, "providers:\n  - x\n"); got !=
		"providers[1] (line 2 of FILE): is not a mapping; allowed: lines of the form key: value" {
		t.Errorf("got %s", got)
	}
}

func TestProviderNamesAreUnique(t *testing.T) {
	t.Parallel()
	_, got := parseFile(t, "providers:\n  - {type: github, client_id: x}\n  - {type: google, name: github, client_id: x}\n")
	if want := `providers[2] (line 3 of FILE): the name "github" is taken by providers[1] (line 2 of FILE); ` +
		`allowed: a name of its own`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	_, got = parseFile(t, "providers:\n  - {issuer: 'https://i.example', client_id: x}\n",
		"KEYTURN_ISSUER=https://j.example", "KEYTURN_CLIENT_ID=x")
	if want := `--issuer (KEYTURN_ISSUER): the name "oidc" is taken by providers[1] (line 2 of FILE); ` +
		`allowed: a name of its own`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestGenericProviderMistakes(t *testing.T) {
	t.Parallel()
	base := []string{"KEYTURN_ISSUER=https://i.example", "KEYTURN_CLIENT_ID=x"}
	for env, want := range map[string]string{
		"KEYTURN_SCOPES=email": `--scopes (KEYTURN_SCOPES): "email" lacks openid; allowed: scopes with openid among ` +
			`them, such as ` +
			defaultScopes(),
		"KEYTURN_GRANT_TYPE=client_credentials": `--grant-type (KEYTURN_GRANT_TYPE): "client_credentials" needs a ` +
			`client secret; ` +
			`allowed: refresh_token, or a client secret`,
	} {
		if _, err := parseWith(nil, append(slices.Clone(base), env)); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	for env, want := range map[string]int{"KEYTURN_SCOPES=" + defaultScopes(): 4, "KEYTURN_SCOPES=": 0} {
		if s, err := parseWith(nil, append(slices.Clone(base), env)); err != nil || len(s.Providers[0].Scopes) != want {
			t.Errorf("%s: chosen are %q, %v", env, s.Providers[0].Scopes, err)
		}
	}
	_, got := parseFile(t, "client_id: x\n")
	if want := "client_id (line 1 of FILE): is set, but no issuer; allowed: both --issuer (KEYTURN_ISSUER) and " +
		"--client-id (KEYTURN_CLIENT_ID), or neither"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestEmbeddedProvider(t *testing.T) {
	t.Parallel()
	const local, public = "http://localhost:8080", "https://keyturn.example"
	const hint = "; set --issuer (KEYTURN_ISSUER) and --client-id (KEYTURN_CLIENT_ID), or providers in the file of " +
		"--config " +
		"(KEYTURN_CONFIG), or --dev-provider (KEYTURN_DEV_PROVIDER) with a loopback base URL"
	configured := []ProviderSettings{{Name: "work"}}
	for _, c := range []struct {
		what      string
		toggle    toggle
		providers []ProviderSettings
		base      string
		want      bool
		err       string
	}{
		{"nothing set, loopback", toggleAuto, nil, local, true, ""},
		{"127.0.0.0/8", toggleAuto, nil, "http://127.9.9.9:1", true, ""},
		{"::1", toggleAuto, nil, "http://[::1]:8080", true, ""},
		{"below localhost", toggleAuto, nil, "https://a.localhost", true, ""},
		{"nothing set, public", toggleAuto, nil, public, false,
			`no provider is set and the embedded one needs a loopback base URL, not "https://keyturn.example"` + hint},
		{"looks like localhost", toggleAuto, nil, "https://localhost.example", false,
			`no provider is set and the embedded one needs a loopback base URL, not "https://localhost.example"` + hint},
		{"off, nothing set", toggleOff, nil, local, false, "no provider is set and the embedded one is off" + hint},
		{"provider set", toggleAuto, configured, local, false, ""},
		{"provider set, public", toggleAuto, configured, public, false, ""},
		{"off, provider set", toggleOff, configured, public, false, ""},
		{"beside another", toggleOn, configured, local, true, ""},
		{"on, public", toggleOn, configured, public, false, `--dev-provider (KEYTURN_DEV_PROVIDER): "on" is refused ` +
			`because ` +
			`the base URL "https://keyturn.example" is public; allowed: a loopback base URL such as ` +
			`http://localhost:8080, or off`},
		{"on, name taken", toggleOn, []ProviderSettings{{Name: "dev"}}, local, false, `--dev-provider ` +
			`(KEYTURN_DEV_PROVIDER): ` +
			`a provider of the file is named dev too; allowed: another name for it, or off`},
		{"off, named dev", toggleAuto, []ProviderSettings{{Name: "dev"}}, local, false, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			on, err := Settings{DevProvider: c.toggle, Providers: c.providers}.devProviderOn(c.base)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if on != c.want || text != c.err {
				t.Errorf("got  %t %s\nwant %t %s", on, text, c.want, c.err)
			}
		})
	}
}

// The embedded provider is asked for the scopes of the settings, and has settings of its own.
func TestOnlyWhatHasNoEffectIsSaidToBeUnused(t *testing.T) {
	t.Parallel()
	const scopes = "--scopes (KEYTURN_SCOPES): is not used without an issuer"
	const lifetime = "--dev-token-lifetime (KEYTURN_DEV_TOKEN_LIFETIME): is not used without the embedded provider"
	const reuse = "--dev-reuse-interval (KEYTURN_DEV_REUSE_INTERVAL): is not used without the embedded provider"
	issuer := []string{"--issuer=https://id.example", "--client-id=x"}
	set := []string{"--scopes=openid", "--dev-token-lifetime=1m", "--dev-reuse-interval=0s"}
	for _, c := range []struct{ args, want []string }{
		{nil, nil},
		{[]string{"--no-dev-provider"}, []string{lifetime, reuse, scopes}},
		{[]string{"--base-url=https://keyturn.example"}, []string{lifetime, reuse, scopes}},
		{issuer, []string{lifetime, reuse}},
		{append([]string{"--dev-provider"}, issuer...), nil},
		{[]string{"--config", tempFile(t, "k.yaml", "providers:\n  - {type: github, client_id: x, client_secret: s}\n")}, []string{lifetime, reuse, scopes}},
	} {
		if got := mustParse(t, slices.Concat(set, c.args), nil).Warnings; !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q", c.args, got)
		}
	}
	want := `--scopes (KEYTURN_SCOPES): "profile" lacks openid; allowed: scopes with openid among them, such as ` + defaultScopes()
	if _, err := parseWith([]string{"--scopes=profile"}, nil); err == nil || err.Error() != want {
		t.Errorf("for the embedded provider: got %v\nwant %s", err, want)
	}
}

func TestDeriveBaseURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		addr   string
		opened int
		want   string
	}{
		{"localhost:8080", 8080, "http://localhost:8080"},
		{"127.0.0.1:8080", 8080, "http://127.0.0.1:8080"},
		{"[::1]:8080", 8080, "http://[::1]:8080"},
		{"[::1%lo]:8080", 8080, "http://[::1]:8080"},
		{":8080", 8080, "http://localhost:8080"},
		{"0.0.0.0:8080", 8080, "http://localhost:8080"},
		{"[::]:8080", 8080, "http://localhost:8080"},
		{"localhost:0", 34567, "http://localhost:34567"},
		{":80", 80, "http://localhost"},
		{"keyturn.example:443", 443, "http://keyturn.example:443"},
	} {
		if got := deriveBaseURL(c.addr, &net.TCPAddr{Port: c.opened}); got != c.want {
			t.Errorf("%s: got %s, want %s", c.addr, got, c.want)
		}
	}
	if got := deriveBaseURL(":8081", nil); got != "http://localhost:8081" {
		t.Errorf("before listening: got %s", got)
	}
}

func TestTheEmbeddedProviderIsRenewedAtAsOftenAsIsSet(t *testing.T) {
	t.Parallel()
	settings, err := parseWith([]string{"--renew-concurrency=3", "--data-dir", t.TempDir()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	client, err := devClient(settings, "http://localhost:8080")
	if err != nil || client == nil || client.Concurrency != 3 {
		t.Errorf("%+v, %v", client, err)
	}
}
