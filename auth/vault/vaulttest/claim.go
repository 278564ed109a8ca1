package vaulttest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth"
)

// claim is the part of the suite about taking a grant, from its holder too.
func claim(test func(name string, run func(t *testing.T, f fixture))) {
	test("a claim is a lease and a mark, of a grant that is as it was seen", func(t *testing.T, f fixture) {
		at := f.clock.Now()
		seen, err := f.Get(t.Context(), f.grant.ID)
		must(t, err)
		must(t, f.Claim(t.Context(), seen, "me", time.Minute, at))
		_, err = f.Lease(t.Context(), seen.ID, "other", time.Minute)
		is(t, err, auth.ErrLeased)
		got, err := f.Get(t.Context(), seen.ID)
		must(t, err)
		if !got.PresentingAt.Equal(at) || !got.LeasedAt(f.clock.Now()) {
			t.Errorf("presenting at %v, leased until %v", got.PresentingAt, got.LeasedUntil)
		}
		is(t, f.Claim(t.Context(), seen, "other", time.Minute, at), auth.ErrStale) // it is leased
		is(t, f.Claim(t.Context(), seen, "me", time.Minute, at), auth.ErrStale)    // and marked
		next, record := Renewed(seen, at)
		must(t, f.Replace(t.Context(), "me", next, record))

		is(t, f.Claim(t.Context(), seen, "me", time.Minute, at), auth.ErrStale) // it is another by now
		now, err := f.Get(t.Context(), seen.ID)
		must(t, err)
		if !now.PresentingAt.IsZero() || !now.LeasedUntil.IsZero() {
			t.Errorf("a claim that failed has left presenting %v, leased until %v", now.PresentingAt, now.LeasedUntil)
		}
		must(t, f.Claim(t.Context(), now, "me", time.Minute, at))
		is(t, f.Claim(t.Context(), &auth.Grant{ID: "nobody"}, "me", time.Minute, at), auth.ErrStale)
	})
	test("a clock that is set ends no lease", func(t *testing.T, f fixture) {
		for _, by := range []time.Duration{time.Hour, -2 * time.Hour} {
			f.lease(t, "holder", time.Minute)
			f.clock.Set(by)
			_, err := f.Lease(t.Context(), f.grant.ID, "other", time.Minute)
			is(t, err, auth.ErrLeased)
			must(t, f.Extend(t.Context(), f.grant.ID, "holder", time.Minute))
			f.clock.Advance(2 * time.Minute)
			f.lease(t, "other", time.Minute)
			must(t, f.Release(t.Context(), f.grant.ID, "other"))
		}
	})
	test("leases are held many at a time", func(t *testing.T, f fixture) {
		other := Grant(f.clock.Now())
		must(t, f.Create(t.Context(), other))
		f.lease(t, "first", 10*time.Second)
		_, err := f.Lease(t.Context(), other.ID, "another", 10*time.Second)
		must(t, err)
		f.clock.Advance(9 * time.Second)
		hold := func(want int) {
			t.Helper()
			held, err := f.Hold(t.Context(), map[string]int64{other.ID: 1, "gone": 1, f.grant.ID: 1}, "first", 10*time.Second)
			if must(t, err); held != want {
				t.Errorf("held %d, want %d", held, want)
			}
		}
		hold(1)
		f.clock.Advance(9 * time.Second)
		_, err = f.Lease(t.Context(), f.grant.ID, "second", 10*time.Second)
		is(t, err, auth.ErrLeased)
		hold(2) // the other's has run out
		_, err = f.Lease(t.Context(), other.ID, "another", 10*time.Second)
		is(t, err, auth.ErrLeased)
		must(t, f.Release(t.Context(), f.grant.ID, "first"))
		hold(1)
	})
	test("a lease is held for no other generation than the grant's", func(t *testing.T, f fixture) {
		f.lease(t, "holder", time.Minute)
		f.clock.Advance(2 * time.Minute)
		for _, owner := range []string{"other", "holder"} {
			for _, generation := range []int64{0, 2} {
				held, err := f.Hold(t.Context(), map[string]int64{f.grant.ID: generation}, owner, time.Minute)
				if must(t, err); held != 0 {
					t.Errorf("%s holds it for generation %d", owner, generation)
				}
			}
		}
		must(t, f.Extend(t.Context(), f.grant.ID, "holder", time.Minute))
	})
	test("of many who claim a grant one has it", func(t *testing.T, f fixture) {
		seen, err := f.Get(t.Context(), f.grant.ID)
		must(t, err)
		var held atomic.Int32
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				err := f.Claim(t.Context(), seen, fmt.Sprint("owner ", i), time.Minute, f.clock.Now())
				if err == nil {
					held.Add(1)
				} else if !errors.Is(err, auth.ErrStale) {
					t.Errorf("claim: %v", err)
				}
			})
		}
		all.Wait()
		if n := held.Load(); n != 1 {
			t.Errorf("%d owners hold it", n)
		}
	})
}
