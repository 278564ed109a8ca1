package provider_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyturn/auth/provider"
)

func TestBrandSettings(t *testing.T) {
	t.Parallel()
	apple := func(file string) map[string]string {
		return map[string]string{"team_id": "T", "key_id": "K", "key_file": file}
	}
	for want, config := range map[string]provider.Config{
		`"domain" is not set, and Auth0 needs it`:                  {Type: "auth0"},
		`"user_pool" is not set, and Amazon Cognito needs it`:      {Type: "cognito", Extra: map[string]string{"region": "eu-central-1"}},
		`"issuer": "https://x" is not used by GitHub; allowed: w`:  {Type: "github", ClientID: "c", Issuer: "https://x"},
		`"domain": "x" is not used by GitHub; allowed of such`:     {Type: "github", Extra: map[string]string{"domain": "x"}},
		`"type": "gihub" is not known; allowed: oidc, amazon`:      {Type: "gihub"},
		`"state" cannot be set`:                                    {Type: "github", AuthParams: map[string]string{"state": "x"}},
		`"scopes": "email" lacks openid`:                           {Type: "xero", Scopes: []string{"email"}},
		`"client_secret" is not used by type apple`:                {Type: "apple", ClientSecret: "hush", Extra: apple("/nowhere")},
		`"key_file": "/nowhere" cannot be read (no such file`:      {Type: "apple", Extra: apple("/nowhere")},
		`"key_file": "/dev/zero" is no regular file`:               {Type: "apple", Extra: apple("/dev/zero")},
		`"key_file": "brand_test.go" is open to others than its`:   {Type: "apple", Extra: apple("brand_test.go")},
		`holds no PEM block; allowed: the path of the .p8 file of`: {Type: "apple", Extra: apple(noKey(t))},
	} {
		config.Name, config.ClientID = "x", "x"
		if _, err := provider.New([]provider.Config{config}, provider.Options{}); err == nil || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "hush") {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := provider.CheckBrand(provider.Config{Type: "box"}); err == nil || !strings.Contains(err.Error(), `"client_id" is not set`) {
		t.Errorf("no client id: %v", err)
	}
	if doubt, err := provider.CheckBrand(provider.Config{Type: "steam", ClientSecret: "s"}); doubt != nil || err != nil {
		t.Errorf("Steam, which knows no client ids: %v, %v", doubt, err)
	}
}

// noKey is a file that could hold a key and does not.
func noKey(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.p8")
	if err := os.WriteFile(file, []byte("hush"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// What becomes part of a URL makes no other host or path of it.
func TestSettingsThatWouldLeadElsewhere(t *testing.T) {
	t.Parallel()
	with := func(kind, name, value string) error {
		extra := map[string]map[string]string{
			"cognito": {"region": "eu-central-1", "user_pool": "eu-central-1_Abc"}, "wecom": {"agent_id": "1"},
		}[kind]
		extra = maps.Clone(extra)
		if extra == nil {
			extra = map[string]string{}
		}
		extra[name] = value
		_, err := provider.CheckBrand(provider.Config{Type: kind, ClientID: "x", Extra: extra})
		return err
	}
	for _, c := range []struct{ kind, name, good string }{
		{"cognito", "region", "eu-central-1"}, {"cognito", "user_pool", "eu-central-1_AbCdEfGhI"}, {"azureadv2", "tenant", "acme.onmicrosoft.com"},
		{"shopify", "shop", "acme-1"}, {"wecom", "agent_id", "1000002"}, {"auth0", "domain", "https://acme.eu.auth0.com/"},
		{"salesforce", "domain", "acme.my.salesforce.com"}, {"influxcloud", "domain", "influx.acme.example:8443"}, {"okta", "org_url", "acme.okta.com"},
		{"nextcloud", "base_url", "https://acme.example/cloud/"}, {"gitea", "base_url", "http://localhost:3000"},
	} {
		if err := with(c.kind, c.name, c.good); err != nil {
			t.Errorf("%s, %s: %v", c.kind, c.good, err)
		}
		for _, evil := range []string{
			"evil.example/", "x/../y", "..", "a..b", "x@evil.example", "a b", "a\\b", "x?y", "x#y", "x%2fy", "x/./y", "ftp://x.example", "x:y",
		} {
			var wrong *provider.SettingError
			alone := (c.name == "base_url" || c.name == "domain" || c.name == "org_url") && evil == "evil.example/"
			if err := with(c.kind, c.name, evil); !alone && (!errors.As(err, &wrong) || wrong.Key != c.name || wrong.Value != evil) {
				t.Errorf("%s takes %s: %q (%v)", c.kind, c.name, evil, err)
			}
		}
	}
	if err := with("github", "base_url", "http://ghe.acme.example"); err == nil {
		t.Error("an address in the clear is taken")
	}
}

// Third-party initiated login names an issuer: a brand's is the one that it was built with.
func TestABrandIsFoundByItsIssuer(t *testing.T) {
	t.Parallel()
	set, err := provider.New([]provider.Config{
		{Name: "a", Type: "google", ClientID: "c", ClientSecret: "s", Scopes: []string{"openid"}, CallbackURL: "http://rp.example/auth/a/callback"},
		{Name: "b", Type: "github", ClientID: "c", ClientSecret: "s", CallbackURL: "http://rp.example/auth/b/callback"},
	}, provider.Options{RenewTimeout: time.Second, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := set.ByIssuer("https://accounts.google.com"); !ok || p.Name() != "a" {
		t.Errorf("found %v", ok)
	}
	if _, ok := set.ByIssuer(""); ok {
		t.Error("one without an issuer is found")
	}
}

// Google's is known by its issuer, too, and however people sign in there.
func TestWhereARevocationWithdrawsTheConsent(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		config provider.Config
		want   bool
	}{
		{provider.Config{Type: "google", Scopes: []string{"openid"}}, true},
		{provider.Config{Type: "google", Scopes: []string{"email"}}, true},
		{provider.Config{Type: "oidc", Issuer: "https://accounts.google.com"}, true},
		{provider.Config{Type: "apple", Scopes: []string{"openid"}, Extra: extraFor(t, shape{kind: "apple"}, key)}, true},
		{provider.Config{Type: "discord"}, true},
		{provider.Config{Type: "gitlab"}, false},
		{provider.Config{Type: "oidc", Issuer: "https://id.example.com"}, false},
	} {
		c.config.Name, c.config.ClientID = "x", "x"
		set, err := provider.New([]provider.Config{c.config}, provider.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if p, _ := set.Lookup("x"); p.RevokesConsent() != c.want {
			t.Errorf("%s %s %v: %v", c.config.Type, c.config.Issuer, c.config.Scopes, !c.want)
		}
	}
}
