package vaulttest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/session"
	"keyturn/auth/vault"
)

// IdleLimit is how long a session may go unseen in the suite.
const IdleLimit = 8 * time.Hour

// SignIn stores a session that owns the grant.
func SignIn(t testing.TB, sessions session.Store, g *auth.Grant, hash string, expiry time.Time) {
	t.Helper()
	ctx := session.NewContext(t.Context())
	session.FromContext(ctx).Owner = session.Owner{GrantID: g.ID, Provider: g.Identity.Provider, Subject: g.Identity.Subject}
	if err := sessions.CommitCtx(ctx, hash, []byte("{}"), expiry); err != nil {
		t.Fatal(err)
	}
}

// schedule is the part of the suite about what the Scheduler asks.
func schedule(test func(name string, run func(t *testing.T, f fixture))) {
	test("due grants of live sessions, the longest due first, page by page", func(t *testing.T, f fixture) {
		var want []string
		for n := range 7 {
			g := Grant(f.clock.Now())
			g.DueAt = f.clock.Now().Add(time.Duration(n) * time.Second)
			must(t, f.Create(t.Context(), g))
			SignIn(t, f.Sessions, g, fmt.Sprint("hash ", n), f.clock.Now().Add(time.Hour))
			want = append(want, g.ID)
		}
		f.clock.Advance(5 * time.Second)
		var got []string
		for after := (auth.Candidate{}); ; {
			page := f.due(t, "work", after, 2)
			if len(page) == 0 {
				break
			}
			for _, c := range page {
				got = append(got, c.ID)
			}
			after = page[len(page)-1]
		}
		if !slices.Equal(got, want[:6]) {
			t.Errorf("due are %d grants, want the first 6 of 7 in their order", len(got))
		}
		if other := f.due(t, "other", auth.Candidate{}, 10); len(other) != 0 {
			t.Errorf("%d are due at a provider that has none", len(other))
		}
	})
	test("a grant without a live session is not due", func(t *testing.T, f fixture) {
		f.clock.Advance(time.Hour)
		if n := len(f.due(t, "work", auth.Candidate{}, 10)); n != 0 {
			t.Errorf("%d due without a session", n)
		}
		SignIn(t, f.Sessions, f.grant, "hash", f.clock.Now().Add(20*time.Hour))
		if n := len(f.due(t, "work", auth.Candidate{}, 10)); n != 1 {
			t.Errorf("%d due with a session, want 1", n)
		}
		f.clock.Advance(IdleLimit + vault.TouchEvery(IdleLimit))
		if n := len(f.due(t, "work", auth.Candidate{}, 10)); n != 0 {
			t.Errorf("%d due of an idle session", n)
		}
	})
	test("a leased grant is not due, and one that is never due neither", func(t *testing.T, f fixture) {
		SignIn(t, f.Sessions, f.grant, "hash", f.clock.Now().Add(20*time.Hour))
		f.clock.Advance(time.Hour)
		g := f.lease(t, "me", time.Minute)
		if n := len(f.due(t, "work", auth.Candidate{}, 10)); n != 0 {
			t.Errorf("%d due while leased", n)
		}
		g.DueAt = time.Time{}
		must(t, f.Replace(t.Context(), "me", g, &auth.Renewal{GrantID: g.ID, Generation: 1, Outcome: auth.OutcomeRefused}))
		if n := len(f.due(t, "work", auth.Candidate{}, 10)); n != 0 {
			t.Errorf("%d due that never are", n)
		}
	})
	test("a token set from the future is due", func(t *testing.T, f fixture) {
		SignIn(t, f.Sessions, f.grant, "hash", f.clock.Now().Add(20*time.Hour))
		f.clock.Advance(-30 * time.Second)
		if n := len(f.due(t, "work", auth.Candidate{}, 10)); n != 0 {
			t.Errorf("%d due after a small correction of the clock", n)
		}
		f.clock.Advance(-time.Hour)
		if n := len(f.due(t, "work", auth.Candidate{}, 10)); n != 1 {
			t.Errorf("%d due after the clock was set back, want 1", n)
		}
	})
	test("struck grants are found when their holder's lease is over", func(t *testing.T, f fixture) {
		SignIn(t, f.Sessions, f.grant, "hash", f.clock.Now().Add(20*time.Hour))
		struck := func() int {
			list, err := f.Struck(t.Context(), "work", 10)
			must(t, err)
			return len(list)
		}
		g := f.lease(t, "me", time.Second)
		must(t, f.Present(t.Context(), g.ID, "me", f.clock.Now()))
		if n := struck(); n != 0 {
			t.Errorf("%d struck while the holder lives", n)
		}
		f.clock.Advance(2 * time.Second)
		if n := struck(); n != 1 {
			t.Errorf("%d struck after the holder's lease, want 1", n)
		}
		next, record := Renewed(f.lease(t, "other", time.Second), f.clock.Now())
		must(t, f.Replace(t.Context(), "other", next, record))
		if n := struck(); n != 0 {
			t.Errorf("%d struck after the recovery", n)
		}
	})
}

func (f fixture) due(t *testing.T, provider string, after auth.Candidate, limit int) []auth.Candidate {
	t.Helper()
	list, err := f.Due(t.Context(), provider, f.clock.Now(), after, limit)
	must(t, err)
	return list
}
