package vaulttest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"keyturn/auth"
)

// owed is the part of the suite about revocations that a provider has not answered yet.
func owed(test func(name string, run func(t *testing.T, f fixture))) {
	test("a grant that ends leaves its revocation, whose turn comes", func(t *testing.T, f fixture) {
		gone, err := f.End(t.Context(), f.grant.ID, time.Minute)
		must(t, err)
		if gone.Tokens.Refresh != "refresh-1" {
			t.Errorf("the ended grant has refresh token %v", gone.Tokens.Refresh)
		}
		_, err = f.Get(t.Context(), f.grant.ID)
		is(t, err, auth.ErrNotFound)
		_, err = f.End(t.Context(), f.grant.ID, time.Minute)
		is(t, err, auth.ErrNotFound)
		f.owing(t)
		if list := f.take(t, "work", 10); len(list) != 0 {
			t.Errorf("before its turn: %v", list)
		}
		f.clock.Advance(time.Minute)
		f.owing(t, "work")
		if list := f.take(t, "other", 10); len(list) != 0 {
			t.Errorf("at another provider: %v", list)
		}
		list := f.take(t, "work", 10)
		if len(list) != 1 || list[0].For != time.Minute {
			t.Fatalf("in its turn: %+v", list)
		}
		g := list[0].Grant
		if g.ID != f.grant.ID || g.Identity.Issuer != f.grant.Identity.Issuer || g.Identity.Subject != "alice" ||
			g.Tokens.Refresh != "refresh-1" || g.Tokens.Access != "access-1" || g.Tokens.ClientAuth != "client_secret_post" {
			t.Errorf("it is %v of %v", g.Tokens, g.Identity)
		}
	})
	test("whoever takes a revocation has it until its next turn, and it goes when it is settled", func(t *testing.T, f fixture) {
		_, err := f.End(t.Context(), f.grant.ID, 0)
		must(t, err)
		if list := f.take(t, "work", 10); len(list) != 1 {
			t.Errorf("at once: %v", list)
		}
		f.clock.Advance(takenFor - time.Second)
		if f.owing(t); len(f.take(t, "work", 10)) != 0 {
			t.Error("two have it")
		}
		must(t, f.PutOff(t.Context(), f.grant.ID, time.Hour))
		f.clock.Advance(time.Hour - time.Second)
		if len(f.take(t, "work", 10)) != 0 {
			t.Error("it was not put off")
		}
		f.clock.Advance(time.Second)
		if list := f.take(t, "work", 10); len(list) != 1 || list[0].For != takenFor-time.Second+time.Hour {
			t.Errorf("in the end: %+v", list)
		}
		must(t, f.Settle(t.Context(), f.grant.ID))
		must(t, f.Settle(t.Context(), f.grant.ID))
		must(t, f.PutOff(t.Context(), f.grant.ID, 0))
		f.clock.Advance(time.Hour)
		if f.owing(t); len(f.take(t, "work", 10)) != 0 {
			t.Error("it is owed still")
		}
	})
	test("many take revocations, and each gets others", func(t *testing.T, f fixture) {
		want := []string{}
		for i := range 40 {
			g := Grant(f.clock.Now())
			must(t, f.Owe(t.Context(), g, time.Duration(40-i)*time.Second))
			want = append(want, g.ID)
		}
		f.clock.Advance(10 * time.Second)
		var first []string
		for _, one := range f.take(t, "work", 4) {
			first = append(first, one.Grant.ID)
			must(t, f.PutOff(t.Context(), one.Grant.ID, time.Hour))
		}
		if slices.Sort(first); !slices.Equal(first, slices.Sorted(slices.Values(want[36:]))) {
			t.Error("those come first whose turn came last")
		}
		f.clock.Advance(30 * time.Second)
		var mu sync.Mutex
		var all sync.WaitGroup
		for range 12 {
			all.Go(func() {
				list, err := f.TakeOwed(t.Context(), "work", time.Hour, 3)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, one := range list {
					first = append(first, one.Grant.ID)
				}
			})
		}
		all.Wait()
		if slices.Sort(first); !slices.Equal(first, slices.Sorted(slices.Values(want))) {
			t.Errorf("%d were taken, %d of them once", len(first), len(slices.Compact(slices.Clone(first))))
		}
	})
	test("a grant that is deleted owes nothing", func(t *testing.T, f fixture) {
		_, err := f.Delete(t.Context(), f.grant.ID)
		must(t, err)
		f.clock.Advance(time.Hour)
		f.owing(t)
	})
	test("a grant that does not open owes as much as is known of it", func(t *testing.T, f fixture) {
		must(t, f.Owe(t.Context(), Grant(f.clock.Now()), time.Hour))
		must(t, f.SQL(`UPDATE grants SET sealed = (SELECT sealed FROM owed_revocations)`))
		gone, err := f.End(t.Context(), f.grant.ID, 0)
		must(t, err)
		list := f.take(t, "work", 10)
		if len(list) != 1 || list[0].Grant.ID != f.grant.ID || list[0].Grant.Tokens != (auth.TokenSet{}) || gone.Tokens != (auth.TokenSet{}) {
			t.Errorf("%+v, %+v", gone, list)
		}
	})
	test("a revocation that was put off before the clock was set back has its turn", func(t *testing.T, f fixture) {
		_, err := f.End(t.Context(), f.grant.ID, time.Minute)
		must(t, err)
		f.clock.Set(-auth.OwedFor)
		if f.owing(t, "work"); len(f.take(t, "work", 10)) != 1 {
			t.Error("it waits for the clock to come to where it was")
		}
	})
	test("what is owed is sealed anew", func(t *testing.T, f fixture) {
		_, err := f.End(t.Context(), f.grant.ID, 0)
		must(t, err)
		must(t, f.Create(t.Context(), Grant(f.clock.Now())))
		_, err = f.Keys.Rotate()
		must(t, err)
		resealed, unreadable, err := f.Reseal(t.Context())
		must(t, err)
		if resealed != 2 || unreadable != 0 {
			t.Errorf("%d sealed anew, %d do not open", resealed, unreadable)
		}
		retired, err := f.Keys.Retire(func(uint32) bool { return false })
		must(t, err)
		if list := f.take(t, "work", 10); len(retired) != 1 || len(list) != 1 || list[0].Grant.Tokens.Refresh != "refresh-1" {
			t.Errorf("%d keys retired; %+v", len(retired), list)
		}
	})
}

// takenFor is the wait with which the suite takes revocations.
const takenFor = 16 * time.Second

func (f fixture) take(t *testing.T, provider string, limit int) []auth.Owed {
	t.Helper()
	list, err := f.TakeOwed(t.Context(), provider, takenFor, limit)
	must(t, err)
	return list
}

// owing checks at which providers the turn of a revocation has come.
func (f fixture) owing(t *testing.T, want ...string) {
	t.Helper()
	names, err := f.Owing(t.Context())
	if must(t, err); fmt.Sprint(names) != fmt.Sprint(want) {
		t.Errorf("turns have come at %v, want %v", names, want)
	}
}
