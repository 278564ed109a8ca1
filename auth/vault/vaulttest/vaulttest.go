// Package vaulttest is the test suite that every engine of the vault passes.
package vaulttest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tink-crypto/tink-go/v2/tink"

	"keyturn/auth"
	"keyturn/auth/session"
	"keyturn/auth/vault"
	"keyturn/auth/vault/keyset"
)

// Grant returns a grant as a sign-in makes it.
func Grant(now time.Time) *auth.Grant {
	return &auth.Grant{
		ID: auth.NewGrantID(now), SessionHash: "hash", Generation: 1, CreatedAt: now, SeenAt: now, UserAgent: "Browser/1", IP: "192.0.2.1",
		Identity: auth.Identity{
			Provider: "work", Issuer: "https://id.example.com", Subject: "alice", Name: "Alice", Email: "alice@example.com",
			Claims: map[string]any{"sub": "alice", "groups": []any{"a", "b"}},
		},
		Tokens: auth.TokenSet{
			Access: "access-1", Refresh: "refresh-1", ID: "id-1", Type: "Bearer", Scope: "openid offline_access",
			IssuedAt: now, ExpiresAt: now.Add(time.Hour), RefreshExpiresAt: now.Add(24 * time.Hour), ClientAuth: "client_secret_post",
		},
		Kept: map[string]any{"plan": "gold"}, DueAt: now.Add(30 * time.Minute),
	}
}

// Renewed returns the grant and the record that a renewal makes of g.
func Renewed(g *auth.Grant, now time.Time) (*auth.Grant, *auth.Renewal) {
	next := *g
	next.Generation++
	next.Tokens.Access = auth.Secret(fmt.Sprintf("access-%d", next.Generation))
	next.Tokens.Refresh = auth.Secret(fmt.Sprintf("refresh-%d", next.Generation))
	next.Standing = auth.Standing{Outcome: auth.OutcomeRotated, TriedAt: now}
	next.PresentingAt = time.Time{}
	return &next, &auth.Renewal{
		GrantID: g.ID, Generation: next.Generation, At: now, Trigger: auth.TriggerManual, Outcome: auth.OutcomeRotated,
		Duration: 12 * time.Millisecond, OldToken: "aaaaaa", NewToken: "bbbbbb", OldExpiry: g.Tokens.ExpiresAt, NewExpiry: next.Tokens.ExpiresAt,
	}
}

// Engine is what the suite needs of an engine.
type Engine struct {
	auth.Vault
	Sessions session.Store
	Mark     func(context.Context) error // writes the last-seen marks
	Tidy     func(context.Context) error
	Reseal   func(context.Context) (resealed, unreadable int, err error)
	Keys     *keyset.File
	SQL      func(statement string) error
	Stats    interface {
		Census(ctx context.Context) (vault.Census, error)
		Overdue(ctx context.Context, provider string, now time.Time, limit int) ([]auth.Candidate, error)
		Pool() vault.Pool
		Migrated(ctx context.Context) error
		Live(ctx context.Context, whose auth.Person, after string, limit int) ([]*auth.Grant, error)
		SessionValues(ctx context.Context) ([][]byte, error)
	}
}

// Keyset makes a keyset for a test.
func Keyset(t testing.TB) *keyset.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyset.json")
	must(t, keyset.Create(path))
	keys, err := keyset.Open(path)
	must(t, err)
	return keys
}

// CountingKeys counts how often a keyset is asked for: each grant that is sealed or opened asks.
type CountingKeys struct {
	vault.Keys
	asked atomic.Int64
}

// AEAD implements vault.Keys.
func (c *CountingKeys) AEAD(reload bool) tink.AEAD {
	c.asked.Add(1)
	return c.Keys.AEAD(reload)
}

// Asked is how often.
func (c *CountingKeys) Asked() int64 { return c.asked.Load() }

// Run runs the suite. open returns a fresh and empty engine that reads the clock, with the idle limit IdleLimit for sessions.
func Run(t *testing.T, open func(t *testing.T, clock *Clock) Engine) {
	test := func(name string, run func(t *testing.T, f fixture)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := NewClock()
			f := fixture{clock: clock, grant: Grant(clock.Now())}
			f.Engine = open(t, clock)
			must(t, f.Create(t.Context(), f.grant))
			run(t, f)
		})
	}

	test("a grant comes back as it was stored", func(t *testing.T, f fixture) {
		got, err := f.Get(t.Context(), f.grant.ID)
		must(t, err)
		if diff := cmp.Diff(plain(f.grant), plain(got)); diff != "" {
			t.Errorf("grant changed on the way (-stored +read):\n%s", diff)
		}
	})
	test("an unknown grant is not found", func(t *testing.T, f fixture) {
		_, err := f.Get(t.Context(), "nobody")
		is(t, err, auth.ErrNotFound)
		_, err = f.Lease(t.Context(), "nobody", "me", time.Second)
		is(t, err, auth.ErrNotFound)
		_, err = f.Delete(t.Context(), "nobody")
		is(t, err, auth.ErrNotFound)
	})
	test("two owners never hold one grant", func(t *testing.T, f fixture) {
		var held atomic.Int32
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				_, err := f.Lease(t.Context(), f.grant.ID, fmt.Sprint("owner ", i), time.Minute)
				if err == nil {
					held.Add(1)
				} else if !errors.Is(err, auth.ErrLeased) {
					t.Errorf("lease: %v", err)
				}
			})
		}
		all.Wait()
		if held.Load() != 1 {
			t.Errorf("%d owners hold the lease, want 1", held.Load())
		}
	})
	test("a lease is free when it has run out, and not before", func(t *testing.T, f fixture) {
		f.lease(t, "first", 10*time.Second)
		f.clock.Advance(9 * time.Second)
		_, err := f.Lease(t.Context(), f.grant.ID, "second", 10*time.Second)
		is(t, err, auth.ErrLeased)
		must(t, f.Extend(t.Context(), f.grant.ID, "first", 10*time.Second))
		f.clock.Advance(9 * time.Second)
		_, err = f.Lease(t.Context(), f.grant.ID, "second", 10*time.Second)
		is(t, err, auth.ErrLeased)
		f.clock.Advance(2 * time.Second)
		f.lease(t, "second", 10*time.Second)
		is(t, f.Extend(t.Context(), f.grant.ID, "first", 10*time.Second), auth.ErrStale)
		is(t, f.Present(t.Context(), f.grant.ID, "first", f.clock.Now()), auth.ErrStale)
	})
	test("a clock that was set back does not lock a grant for ever", func(t *testing.T, f fixture) {
		f.lease(t, "dead", 10*time.Second)
		f.clock.Advance(-time.Hour)
		f.lease(t, "alive", 10*time.Second)
	})
	test("whoever takes the lease sees that a call was struck", func(t *testing.T, f fixture) {
		f.lease(t, "dead", time.Second)
		at := f.clock.Now()
		must(t, f.Present(t.Context(), f.grant.ID, "dead", at))
		f.clock.Advance(2 * time.Second)
		f.lease(t, "alive", time.Second)
		must(t, f.Present(t.Context(), f.grant.ID, "alive", f.clock.Now()))
		if g := f.lease(t, "alive", time.Second); !g.PresentingAt.Equal(at) {
			t.Errorf("presenting at %v, want %v: the first time counts", g.PresentingAt, at)
		}
		must(t, f.Release(t.Context(), f.grant.ID, "alive"))
		g, err := f.Get(t.Context(), f.grant.ID)
		must(t, err)
		if !g.StruckAt(f.clock.Now()) {
			t.Error("the release hides that a call was struck")
		}
		next, record := Renewed(f.lease(t, "next", time.Second), f.clock.Now())
		must(t, f.Replace(t.Context(), "next", next, record))
		if g := f.lease(t, "last", time.Second); !g.PresentingAt.IsZero() {
			t.Errorf("after a renewal still presenting at %v", g.PresentingAt)
		}
	})
	test("whoever looks sees who renews", func(t *testing.T, f fixture) {
		f.lease(t, "me", time.Second)
		must(t, f.Present(t.Context(), f.grant.ID, "me", f.clock.Now()))
		g, err := f.Get(t.Context(), f.grant.ID)
		must(t, err)
		if now := f.clock.Now(); !g.LeasedAt(now) || g.StruckAt(now) || !g.StruckAt(now.Add(time.Second)) {
			t.Errorf("leased until %v, presenting since %v", g.LeasedUntil, g.PresentingAt)
		}
	})
	test("a renewal replaces its own generation, once, and frees the lease", func(t *testing.T, f fixture) {
		g := f.lease(t, "me", time.Minute)
		next, record := Renewed(g, f.clock.Now())
		must(t, f.Replace(t.Context(), "me", next, record))
		if record.ID == 0 {
			t.Error("the record got no id")
		}
		is(t, f.Replace(t.Context(), "me", next, record), auth.ErrStale)
		got := f.lease(t, "other", time.Minute)
		if diff := cmp.Diff(plain(next), plain(got)); diff != "" {
			t.Errorf("renewed grant changed on the way (-stored +read):\n%s", diff)
		}
		history, err := f.History(t.Context(), f.grant.ID, 0, 10)
		must(t, err)
		if diff := cmp.Diff([]auth.Renewal{*record}, history); diff != "" {
			t.Errorf("history (-want +got):\n%s", diff)
		}
	})
	test("a holder that lost its lease cannot write", func(t *testing.T, f fixture) {
		g := f.lease(t, "paused", time.Second)
		f.clock.Advance(2 * time.Second)
		winner, record := Renewed(f.lease(t, "winner", time.Second), f.clock.Now())
		late, lateRecord := Renewed(g, f.clock.Now())
		is(t, f.Replace(t.Context(), "paused", late, lateRecord), auth.ErrStale)
		must(t, f.Replace(t.Context(), "winner", winner, record))
		is(t, f.Replace(t.Context(), "paused", late, lateRecord), auth.ErrStale)
	})
	test("a holder whose lease ran out cannot write, even if nobody took it", func(t *testing.T, f fixture) {
		late, record := Renewed(f.lease(t, "paused", time.Second), f.clock.Now())
		f.clock.Advance(2 * time.Second)
		is(t, f.Replace(t.Context(), "paused", late, record), auth.ErrStale)
		is(t, f.Present(t.Context(), f.grant.ID, "paused", f.clock.Now()), auth.ErrStale)
		f.lease(t, "paused", time.Second)
		must(t, f.Replace(t.Context(), "paused", late, record))
	})
	test("a failed try stays at its generation and frees the lease", func(t *testing.T, f fixture) {
		g := f.lease(t, "me", time.Minute)
		g.Standing = auth.Standing{Outcome: auth.OutcomeKept, Failures: 1, Failure: auth.Failure{Code: "server_error", Party: auth.PartyProvider}}
		record := &auth.Renewal{GrantID: g.ID, Generation: g.Generation, Outcome: auth.OutcomeKept, Code: "server_error"}
		must(t, f.Replace(t.Context(), "me", g, record))
		if got := f.lease(t, "other", time.Minute); got.Generation != 1 || got.Standing.Failures != 1 {
			t.Errorf("generation %d, failures %d; want 1 and 1", got.Generation, got.Standing.Failures)
		}
	})
	test("an amendment needs no lease, and replaces what it was made from only", func(t *testing.T, f fixture) {
		next, record := Renewed(f.lease(t, "me", time.Minute), f.clock.Now())
		must(t, f.Replace(t.Context(), "me", next, record))
		next.Tokens.ID, record.Warning = "id-2", auth.CodeIDTokenRejected
		must(t, f.Amend(t.Context(), next, record))
		got, err := f.Get(t.Context(), next.ID)
		must(t, err)
		history, err := f.History(t.Context(), next.ID, 0, 1)
		must(t, err)
		if got.Tokens.ID != "id-2" || history[0].Warning != auth.CodeIDTokenRejected {
			t.Errorf("id token %v, warning %q", got.Tokens.ID, history[0].Warning)
		}
		kept := f.lease(t, "me", time.Minute)
		late := *kept
		kept.Tokens.Refresh = "salvaged"
		must(t, f.Replace(t.Context(), "me", kept, &auth.Renewal{GrantID: kept.ID, Generation: kept.Generation, Outcome: auth.OutcomeKept}))
		is(t, f.Amend(t.Context(), &late, record), auth.ErrStale)
		if got, err := f.Get(t.Context(), late.ID); err != nil || got.Tokens.Refresh != "salvaged" {
			t.Errorf("refresh token %v, %v", got.Tokens.Refresh, err)
		}
	})
	test("a grant that has ended is not replaced, whoever holds its lease", func(t *testing.T, f fixture) {
		next, record := Renewed(f.lease(t, "me", time.Minute), f.clock.Now())
		must(t, f.Present(t.Context(), f.grant.ID, "me", f.clock.Now()))
		ended, err := f.Get(t.Context(), f.grant.ID)
		must(t, err)
		ended.Standing = auth.Standing{Outcome: auth.OutcomeRefused, Refused: true, Failure: auth.Failure{Code: auth.CodeIdentityChanged}}
		must(t, f.Amend(t.Context(), ended, &auth.Renewal{}))
		is(t, f.Replace(t.Context(), "me", next, record), auth.ErrStale)
		if got := f.lease(t, "me", time.Minute); !got.Ended() || !got.PresentingAt.IsZero() {
			t.Errorf("it is over: %v, its refresh token is being presented: %v", got.Ended(), !got.PresentingAt.IsZero())
		}
	})
	test("ending wins over a renewal that is under way", func(t *testing.T, f fixture) {
		next, record := Renewed(f.lease(t, "me", time.Minute), f.clock.Now())
		ended, err := f.Delete(t.Context(), f.grant.ID)
		must(t, err)
		if ended.Tokens.Refresh != "refresh-1" {
			t.Errorf("the ended grant has refresh token %v", ended.Tokens.Refresh)
		}
		is(t, f.Replace(t.Context(), "me", next, record), auth.ErrNotFound)
		is(t, f.Amend(t.Context(), next, record), auth.ErrNotFound)
		_, err = f.Get(t.Context(), f.grant.ID)
		is(t, err, auth.ErrNotFound)
		history, err := f.History(t.Context(), f.grant.ID, 0, 10)
		must(t, err)
		if len(history) != 0 {
			t.Errorf("%d renewals outlive their grant", len(history))
		}
	})
	test("the history keeps the newest 200, and pages", func(t *testing.T, f fixture) {
		for range 203 {
			next, record := Renewed(f.lease(t, "me", time.Minute), f.clock.Now())
			must(t, f.Replace(t.Context(), "me", next, record))
		}
		first, err := f.History(t.Context(), f.grant.ID, 0, 150)
		must(t, err)
		rest, err := f.History(t.Context(), f.grant.ID, first[149].ID, 150)
		must(t, err)
		if len(rest) != 50 || first[0].Generation != 204 || rest[49].Generation != 5 {
			t.Errorf("pages of %d and %d, generations %d to %d; want 150, 50, 204 to 5",
				len(first), len(rest), first[0].Generation, rest[len(rest)-1].Generation)
		}
	})
	test("those who shared a renewal are counted", func(t *testing.T, f fixture) {
		next, record := Renewed(f.lease(t, "me", time.Minute), f.clock.Now())
		record.Shared = 2
		must(t, f.Replace(t.Context(), "me", next, record))
		must(t, f.Shared(t.Context(), next.ID, next.Generation, 3))
		must(t, f.Shared(t.Context(), next.ID, 99, 3))
		kept := f.lease(t, "me", time.Minute)
		must(t, f.Replace(t.Context(), "me", kept, &auth.Renewal{GrantID: kept.ID, Generation: kept.Generation, Outcome: auth.OutcomeKept}))
		must(t, f.Shared(t.Context(), next.ID, next.Generation, 4))
		history, err := f.History(t.Context(), next.ID, 0, 2)
		must(t, err)
		if history[0].Shared != 4 || history[1].Shared != 5 {
			t.Errorf("shared by %d and before it by %d, want 4 and 5", history[0].Shared, history[1].Shared)
		}
	})
	test("a renewal is stored, whatever scope a grant or the spool has kept", func(t *testing.T, f fixture) {
		next, record := Renewed(f.lease(t, "me", time.Minute), f.clock.Now())
		record.OldScope, record.NewScope = "openid\x00 old", "openid \xffnew"
		must(t, f.Replace(t.Context(), "me", next, record))
		history, err := f.History(t.Context(), f.grant.ID, 0, 1)
		must(t, err)
		if history[0].OldScope != "openid old" || history[0].NewScope != "openid new" {
			t.Errorf("%q and %q", history[0].OldScope, history[0].NewScope)
		}
	})
	claim(test)
	schedule(test)
	logout(test)
	keep(test)
	unfelt(test)
	stats(test)
	owed(test)
	t.Run("what is returned is the caller's own", func(t *testing.T) {
		t.Parallel()
		clock := NewClock()
		v := open(t, clock)
		g := Grant(clock.Now())
		must(t, v.Create(t.Context(), g))
		one, err := v.Get(t.Context(), g.ID)
		must(t, err)
		one.Identity.Name, one.Tokens.Access, one.Standing.Refused = "mallory", "none", true
		two, err := v.Get(t.Context(), g.ID)
		must(t, err)
		if two.Identity.Name == "mallory" || two.Tokens.Access == "none" || two.Standing.Refused {
			t.Error("a change of one copy shows in another")
		}
	})
}

// fixture is an engine with one grant in it.
type fixture struct {
	Engine
	clock *Clock
	grant *auth.Grant
}

func (f fixture) lease(t *testing.T, owner string, ttl time.Duration) *auth.Grant {
	t.Helper()
	g, err := f.Lease(t.Context(), f.grant.ID, owner, ttl)
	must(t, err)
	return g
}

// plain is a grant whose secrets compare, and whose times are as exact as storage keeps them.
func plain(g *auth.Grant) map[string]any {
	return map[string]any{
		"identity": g.Identity, "kept": g.Kept, "generation": g.Generation, "hash": g.SessionHash, "standing": g.Standing,
		"access": g.Tokens.Access.Reveal(), "refresh": g.Tokens.Refresh.Reveal(), "id": g.Tokens.ID.Reveal(), "pending": g.Pending.Reveal(),
		"pending for": g.PendingFor.Reveal(),
		"type":        g.Tokens.Type, "scope": g.Tokens.Scope, "client auth": g.Tokens.ClientAuth, "issued": g.Tokens.IssuedAt.UnixMicro(), "expires": g.Tokens.ExpiresAt.UnixMicro(),
		"refresh expires": g.Tokens.RefreshExpiresAt.UnixMicro(), "due": g.DueAt.UnixMicro(), "presenting": g.PresentingAt.UnixMicro(),
		"created": g.CreatedAt.UnixMicro(), "seen": g.SeenAt.UnixMicro(), "agent": g.UserAgent, "ip": g.IP,
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}
