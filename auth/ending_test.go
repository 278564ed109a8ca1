package auth_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
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

// many is a vault with as many grants of a person at each provider as are left to end.
type many struct {
	debts
	left map[string]int
	bare bool // they have no refresh tokens
}

func (m *many) Concerned(_ context.Context, at auth.ProviderSession, limit int) (list []*auth.Grant, err error) {
	for ; m.left[at.Provider] > 0 && len(list) < limit; m.left[at.Provider]-- {
		list = append(list, &auth.Grant{ID: at.Provider})
	}
	return list, nil
}

func (m *many) Used(context.Context, string) (bool, error)           { return false, nil }
func (m *many) Use(context.Context, string, time.Time) (bool, error) { return true, nil }

func (m *many) End(_ context.Context, provider string, wait time.Duration) (*auth.Grant, error) {
	g := &auth.Grant{
		ID: auth.NewGrantID(time.Now()), Identity: auth.Identity{Provider: provider}, Tokens: auth.TokenSet{Access: "a", Refresh: "r"},
	}
	if m.bare {
		g.Tokens.Refresh = ""
	}
	m.add(g, wait)
	return g, nil
}

// One logout token may end a thousand grants. Their provider is not asked for all at once, and nobody waits for them: not who says so, not
// a person who signs out, and not another provider's.
func TestManyRevocationsQueueAndASignOutDoesNot(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]time.Duration{"well": 0, "away for a while": 20 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var running crowd
				var revoked, elsewhere atomic.Int32
				began := time.Now()
				providers := revokers{"work": {revoke: func(context.Context, auth.TokenSet) error {
					defer running.enter()()
					time.Sleep(time.Second)
					if time.Since(began) < away {
						return errors.New("not reachable")
					}
					revoked.Add(1)
					return nil
				}}, "home": {revoke: func(context.Context, auth.TokenSet) error { elsewhere.Add(1); return nil }}}
				vault := &many{left: map[string]int{"work": 1000, "home": 5}}
				grants := auth.NewGrants(vault, providers, auth.Callbacks{}, &auth.Events{}, time.Now, slog.New(slog.DiscardHandler))
				end := runs(t, grants)
				for _, name := range []string{"work", "home"} {
					over := auth.Logout{Session: auth.ProviderSession{Provider: name, Subject: "alice"}}
					if _, err := grants.EndAll(t.Context(), over, func(context.Context, string) error { return nil }); err != nil {
						t.Error(err)
					}
				}
				if took := time.Since(began); took != 0 {
					t.Errorf("who says that it is over waits %v", took)
				}
				if _, err := grants.End(t.Context(), "work"); err != nil || time.Since(began) != time.Second || elsewhere.Load() != 5 {
					t.Errorf("a sign-out took %v, %d are revoked elsewhere; %v", time.Since(began), elsewhere.Load(), err)
				}
				time.Sleep(5 * time.Minute)
				if err := end(); err != nil || revoked.Load() != 1001 || running.most.Load() > 33 {
					t.Errorf("%d revoked, %d at once; %v", revoked.Load(), running.most.Load(), err)
				}
			})
		})
	}
}

// accessOnly is a vault of a person's grants at a provider that gives no refresh tokens.
type accessOnly struct {
	debts
}

func (a *accessOnly) End(_ context.Context, id string, wait time.Duration) (*auth.Grant, error) {
	g := &auth.Grant{ID: id, Identity: auth.Identity{Provider: "work"}, Tokens: auth.TokenSet{Access: "access"}}
	a.add(g, wait)
	return g, nil
}

func (*accessOnly) Beyond(context.Context, string, string, int, int) ([]*auth.Grant, error) {
	return []*auth.Grant{{ID: "oldest"}}, nil
}

// Without a refresh token it is the access token that has to be revoked, however many sessions end and whoever has stopped waiting for that.
func TestAccessTokensAreRevokedWhereThereAreNoOthers(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(ctx context.Context, grants *auth.Grants) error{
		"in time": func(ctx context.Context, grants *auth.Grants) error { _, err := grants.End(ctx, "one"); return err },
		"late": func(ctx context.Context, grants *auth.Grants) error {
			late, cancel := context.WithCancel(ctx)
			cancel()
			_, err := grants.End(late, "one")
			return err
		},
		"the oldest": func(ctx context.Context, grants *auth.Grants) error {
			return grants.EndOldest(ctx, &auth.Grant{ID: "latest"}, 1, func(context.Context, string) error { return nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				revoked := make(chan auth.TokenSet, 2)
				providers := revokers{"work": {revoke: func(_ context.Context, tokens auth.TokenSet) error { revoked <- tokens; return nil }}}
				grants := auth.NewGrants(&accessOnly{}, providers, auth.Callbacks{}, &auth.Events{}, time.Now, slog.New(slog.DiscardHandler))
				stop := runs(t, grants)
				err := end(t.Context(), grants)
				synctest.Wait()
				if err = errors.Join(err, stop()); err != nil {
					t.Fatal(err)
				}
				if tokens := <-revoked; tokens.Access != "access" {
					t.Errorf("revoked is %v", tokens)
				}
			})
		})
	}
}

// Where the provider itself has ended a session, only a refresh token may be good for anything still (OpenID Connect Back-Channel Logout
// section 2.7).
func TestWhatEndedAtItsProviderOwesNoAccessToken(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	providers := revokers{"work": {revoke: func(context.Context, auth.TokenSet) error { calls.Add(1); return nil }}}
	vault := &many{left: map[string]int{"work": 3}, bare: true}
	grants := auth.NewGrants(vault, providers, auth.Callbacks{}, &auth.Events{}, time.Now, slog.New(slog.DiscardHandler))
	over := auth.Logout{Session: auth.ProviderSession{Provider: "work", Subject: "alice"}}
	ended, err := grants.EndAll(t.Context(), over, func(context.Context, string) error { return nil })
	if err != nil || ended != 3 || vault.count() != 0 || calls.Load() != 0 {
		t.Errorf("%d ended, %d are owed, %d were revoked; %v", ended, vault.count(), calls.Load(), err)
	}
}
