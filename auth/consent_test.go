package auth_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keyturn/auth"
	"keyturn/auth/authtest"
)

// shared is a vault of one person's grants, whose tokens are called as they are.
type shared struct {
	debts
	mu    sync.Mutex
	left  []string
	fault error // of reading
}

func (s *shared) End(_ context.Context, id string, wait time.Duration) (*auth.Grant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = slices.DeleteFunc(s.left, func(other string) bool { return other == id })
	g := s.grant(id)
	s.add(g, wait)
	return g, nil
}

func (s *shared) grant(id string) *auth.Grant {
	return &auth.Grant{
		ID: id, Identity: auth.Identity{Provider: "work", Subject: "alice"}, Tokens: auth.TokenSet{Access: "a", Refresh: auth.Secret(id)},
	}
}

func (s *shared) Person(_ context.Context, provider, subject string) (list []*auth.Grant, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if provider != "work" || subject != "alice" || s.fault != nil {
		return nil, s.fault
	}
	for _, id := range s.left {
		list = append(list, s.grant(id))
	}
	return list, nil
}

func (s *shared) All(_ context.Context, _ auth.Person, after string, _ int) (list []*auth.Grant, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range s.left {
		if id > after {
			list = append(list, s.grant(id))
		}
	}
	return list, nil
}

// To Google, Apple and Discord all sign-ins of a person are one consent, which a revocation withdraws: a sign-out at the telephone would end
// the session at the desk.
func TestASignOutCostsNoOtherSession(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		consents bool
		fault    error
		want     []string // what has been revoked when the telephone, the desk and the last have signed out
	}{
		"each grant for itself":            {want: []string{"1", "2", "3"}},
		"a revocation is of the consent":   {consents: true, want: []string{"3"}},
		"nobody knows of further sessions": {consents: true, fault: errors.New("the database is away")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var revoked []string
				providers := revokers{"work": {consents: c.consents, revoke: func(_ context.Context, tokens auth.TokenSet) error {
					mu.Lock()
					defer mu.Unlock()
					revoked = append(revoked, tokens.Refresh.Reveal())
					return nil
				}}}
				vault, log := &shared{left: []string{"1", "2", "3"}, fault: c.fault}, slog.New(slog.DiscardHandler)
				grants := auth.NewGrants(vault, providers, auth.Callbacks{}, &auth.Events{}, time.Now, log)
				for _, id := range []string{"1", "2", "3"} {
					if _, err := grants.End(t.Context(), id); err != nil {
						t.Error(err)
					}
				}
				if !slices.Equal(revoked, c.want) {
					t.Errorf("signing out revoked %q", revoked)
				}

				revoked, vault.left = nil, []string{"1", "2", "3"}
				revocations := auth.NewRevocations(vault, providers, log)
				ended, err := grants.EndFor(t.Context(), auth.Person{}, func(context.Context, string) error { return nil }, revocations.Begin)
				left := revocations.Wait()
				well := c.fault == nil
				if err != nil || ended != 3 || slices.Contains(revoked, "3") != well || (len(left) == 0) != well {
					t.Errorf("the operator ended %d and revoked %q; %v, %v", ended, revoked, left, err)
				}
			})
		})
	}
}

// Whoever has signed out at the telephone has said what is to become of the consent when the session at the desk ends by itself.
func TestAConsentIsWithdrawnWhenTheOtherSessionIdlesAway(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		desk    time.Duration // how long its session lasts yet
		again   bool          // they have signed in once more by then
		revoked bool
	}{
		"after an hour":                   {desk: time.Hour, revoked: true},
		"after two days":                  {desk: 2 * auth.OwedFor},
		"while they are signed in anew":   {desk: time.Hour, again: true},
		"together with the one that ends": {revoked: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var revoked atomic.Int32
				providers := revokers{"work": {consents: true, revoke: func(context.Context, auth.TokenSet) error {
					revoked.Add(1)
					return nil
				}}}
				vault, buffer := &shared{left: []string{"desk", "phone"}}, &authtest.Buffer{}
				log := slog.New(slog.NewTextHandler(buffer, nil))
				grants := auth.NewGrants(vault, providers, auth.Callbacks{}, &auth.Events{}, time.Now, log)
				end := runs(t, grants)
				if c.desk == 0 {
					revocations := auth.NewRevocations(vault, providers, log)
					gone, _ := vault.End(t.Context(), "phone", time.Hour)
					revocations.Begin(t.Context(), gone)
					if left := revocations.Wait(); len(left) != 0 {
						t.Errorf("the operator is told of %v", left)
					}
				} else if _, err := grants.End(t.Context(), "phone"); err != nil {
					t.Error(err)
				}
				time.Sleep(c.desk)
				if n := revoked.Load(); n != 0 || (vault.count() == 1) != (c.desk < auth.OwedFor) {
					t.Errorf("%d revoked, %d owed while the desk is signed in", n, vault.count())
				}
				vault.set(nil)
				if c.again {
					vault.set([]string{"again"})
				}
				time.Sleep(2*auth.OwedFor - c.desk)
				said := buffer.String()
				if err := end(); err != nil || vault.count() != 0 || (revoked.Load() == 1) != c.revoked || strings.Contains(said, "level=WARN") ||
					strings.Count(said, "not revoked yet") > 1 || strings.Contains(said, "left to run out") == c.revoked {
					t.Errorf("%d revoked, %d owed; %v; %s", revoked.Load(), vault.count(), err, said)
				}
			})
		})
	}
}

// set makes these the person's sessions.
func (s *shared) set(left []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = left
}

// Many that are spared keep nobody's revocation waiting.
func TestWhatIsSparedKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var revoked atomic.Int32
		providers := revokers{"work": {consents: true, revoke: func(context.Context, auth.TokenSet) error {
			revoked.Add(1)
			return nil
		}}}
		vault := &shared{left: []string{"desk"}}
		for i := range 1000 {
			vault.add(vault.grant(fmt.Sprint("phone ", i)), 0)
		}
		grants := auth.NewGrants(vault, providers, auth.Callbacks{}, &auth.Events{}, time.Now, slog.New(slog.DiscardHandler))
		end := runs(t, grants)
		time.Sleep(time.Second)
		if owing, err := vault.Owing(t.Context()); err != nil || len(owing) != 0 {
			t.Errorf("turns have come still at %v; %v", owing, err)
		}
		if err := end(); err != nil || revoked.Load() != 0 || vault.count() != 1000 {
			t.Errorf("%d revoked, %d owed; %v", revoked.Load(), vault.count(), err)
		}
	})
}

// A sign-in that comes to nothing, at the desk, ends no session at the telephone either. Whose tokens are of nobody knows may be anybody's.
func TestARefusedSignInCostsNoOtherSession(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		subject  string
		separate bool // each grant for itself
		fault    error
		revokes  bool
	}{
		"of somebody who is signed in":     {subject: "alice"},
		"each grant for itself":            {subject: "alice", separate: true, revokes: true},
		"of somebody who is not":           {subject: "bob", revokes: true},
		"of nobody knows whom":             {},
		"nobody knows of further sessions": {subject: "bob", fault: errors.New("the database is away")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var revoked atomic.Bool
			providers := revokers{"work": {consents: !c.separate, revoke: func(context.Context, auth.TokenSet) error {
				revoked.Store(true)
				return nil
			}}}
			vault := &shared{left: []string{"1"}, fault: c.fault}
			grants := auth.NewGrants(vault, providers, auth.Callbacks{}, &auth.Events{}, time.Now, slog.New(slog.DiscardHandler))
			grants.Discard(t.Context(), auth.SignedIn{
				Identity: auth.Identity{Provider: "work", Subject: c.subject}, Answer: auth.Answer{Access: "a", Refresh: "r"},
			})
			if revoked.Load() != c.revokes {
				t.Errorf("revoked: %t", revoked.Load())
			}
		})
	}
}
