package auth_test

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider"
)

// An operator is told before anybody is signed out: of providers that have another's name, too.
func TestAProviderThatHasAnothersNameIsNotTheOneThatIsConfigured(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{})
	settings := map[string]provider.Config{
		"its own": {Issuer: h.idp.URL}, "another issuer": {Issuer: "https://elsewhere.example"}, "another name": {Name: "home", Issuer: h.idp.URL},
	}
	for name, config := range settings {
		if config.Type = "oidc"; config.Name == "" {
			config.Name = "work"
		}
		set, err := provider.New([]provider.Config{config}, provider.Options{RenewTimeout: time.Second, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		grants := auth.NewGrants(h.db, set, auth.DefaultCallbacks(), &auth.Events{}, time.Now, slog.New(slog.DiscardHandler))
		unknown, err := grants.Unconfigured(t.Context(), auth.Person{})
		if want := name != "its own"; err != nil || slices.Equal(unknown, []string{"work"}) != want || !want && len(unknown) > 0 {
			t.Errorf("%s: not configured are %q, %v", name, unknown, err)
		}
	}
}
