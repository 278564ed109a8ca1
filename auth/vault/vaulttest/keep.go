package vaulttest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/session"
	"keyturn/auth/vault"
)

// keep is the part of the suite about sessions, and about what becomes of grants as time goes by.
func keep(test func(name string, run func(t *testing.T, f fixture))) {
	test("a session lives until it idles away", func(t *testing.T, f fixture) {
		SignIn(t, f.Sessions, f.grant, "h", f.clock.Now().Add(24*time.Hour))
		for _, step := range []struct {
			wait  time.Duration
			lives bool
		}{{0, true}, {7 * time.Hour, true}, {7 * time.Hour, true}, {9 * time.Hour, false}} {
			f.clock.Advance(step.wait)
			if f.found(t, "h") != step.lives {
				t.Fatalf("after another %v it lives: %v", step.wait, !step.lives)
			}
			must(t, f.Mark(t.Context()))
		}
	})
	test("a session ends when it expires, however lately it was seen", func(t *testing.T, f fixture) {
		must(t, f.Sessions.CommitCtx(t.Context(), "h", []byte("{}"), f.clock.Now().Add(time.Hour)))
		f.clock.Advance(59 * time.Minute)
		if !f.found(t, "h") {
			t.Error("gone before it expires")
		}
		must(t, f.Mark(t.Context()))
		f.clock.Advance(2 * time.Minute)
		if f.found(t, "h") {
			t.Error("it outlives its expiry")
		}
	})
	test("a request too soon for a new mark keeps a session alive all the same", func(t *testing.T, f fixture) {
		SignIn(t, f.Sessions, f.grant, "h", f.clock.Now().Add(24*time.Hour))
		for _, wait := range []time.Duration{vault.TouchEvery(IdleLimit) - time.Second, IdleLimit - time.Second} {
			f.clock.Advance(wait)
			if !f.found(t, "h") {
				t.Fatalf("it is gone %v after its latest request", wait)
			}
			must(t, f.Mark(t.Context()))
		}
	})
	test("a session in which somebody is about to sign in does not idle away", func(t *testing.T, f fixture) {
		ctx := session.NewContext(t.Context())
		must(t, f.Sessions.CommitCtx(ctx, "h", []byte("{}"), f.clock.Now().Add(IdleLimit+time.Hour)))
		f.clock.Advance(IdleLimit + 30*time.Minute)
		must(t, f.Tidy(t.Context()))
		if !f.found(t, "h") {
			t.Error("it has idled away before it expires")
		}
		must(t, f.Sessions.CommitCtx(ctx, "h", []byte("{}"), f.clock.Now().Add(IdleLimit+time.Hour)))
		f.clock.Advance(IdleLimit + 30*time.Minute)
		if !f.found(t, "h") {
			t.Error("it has idled away after it was written again")
		}
		f.clock.Advance(time.Hour)
		if f.found(t, "h") {
			t.Error("it outlives its expiry")
		}
	})
	test("asking whether a session lives does not keep it alive", func(t *testing.T, f fixture) {
		SignIn(t, f.Sessions, f.grant, "h", f.clock.Now().Add(24*time.Hour))
		f.clock.Advance(7 * time.Hour)
		ctx := session.NewContext(t.Context())
		session.FromContext(ctx).Passive = true
		if _, ok, err := f.Sessions.FindCtx(ctx, "h"); !ok || err != nil {
			t.Fatal(ok, err)
		}
		must(t, f.Mark(t.Context()))
		f.clock.Advance(2 * time.Hour)
		if f.found(t, "h") {
			t.Error("it lives on")
		}
	})
	test("a request that loaded a session before it was ended does not bring it back", func(t *testing.T, f fixture) {
		ends := f.clock.Now().Add(time.Hour)
		must(t, f.Sessions.CommitCtx(t.Context(), "h", []byte("{}"), ends))
		inFlight := session.NewContext(t.Context())
		if _, ok, err := f.Sessions.FindCtx(inFlight, "h"); !ok || err != nil {
			t.Fatal(ok, err)
		}
		must(t, f.Sessions.DeleteCtx(t.Context(), "h"))
		must(t, f.Sessions.CommitCtx(inFlight, "h", []byte("{}"), ends))
		if f.found(t, "h") {
			t.Error("the ended session is back")
		}
	})
	test("of two requests that change a session at once both are kept", func(t *testing.T, f fixture) {
		ends := f.clock.Now().Add(time.Hour)
		data := func(values string) []byte { return []byte("1790000000000000" + values) }
		load := func(want string) context.Context {
			ctx := session.NewContext(t.Context())
			got, ok, err := f.Sessions.FindCtx(ctx, "h")
			if err != nil || !ok || want != "" && string(got) != string(data(want)) {
				t.Fatalf("%s, %v %v; want %s", got, ok, err, data(want))
			}
			return ctx
		}
		must(t, f.Sessions.CommitCtx(t.Context(), "h", data(`{"a":"1","b":"1"}`), ends))
		one, other := load(""), load("")
		must(t, f.Sessions.CommitCtx(one, "h", data(`{"a":"1","b":"1","c":"1"}`), ends))
		must(t, f.Sessions.CommitCtx(other, "h", data(`{"b":"2"}`), ends))
		third := load(`{"b":"2","c":"1"}`)
		must(t, f.Sessions.CommitCtx(load(""), "h", data(`{"b":"2","c":"1","d":"1"}`), ends))

		// It gets another token, as at a sign-in, and takes along what came meanwhile.
		session.FromContext(third).Former = "h"
		must(t, f.Sessions.DeleteCtx(third, "h"))
		if !f.found(t, "h") {
			t.Error("it is gone before it is stored under its new token")
		}
		must(t, f.Sessions.CommitCtx(third, "new", data(`{"c":"2"}`), ends))
		got, _, err := f.Sessions.FindCtx(session.NewContext(t.Context()), "new")
		if err != nil || string(got) != string(data(`{"c":"2","d":"1"}`)) {
			t.Errorf("%s, %v", got, err)
		}
		must(t, f.Sessions.CommitCtx(third, "new", data(`{"c":"3"}`), ends)) // the request stores once more, and has not seen the other's
		if got, _, err = f.Sessions.FindCtx(session.NewContext(t.Context()), "new"); err != nil || string(got) != string(data(`{"c":"3","d":"1"}`)) {
			t.Errorf("stored once more: %s, %v", got, err)
		}
		must(t, f.Sessions.CommitCtx(other, "h", data(`{"b":"3"}`), ends))
		if f.found(t, "h") || !session.FromContext(other).Gone {
			t.Errorf("the former token: found %v, gone %v", f.found(t, "h"), session.FromContext(other).Gone)
		}
	})
	test("a session knows its person, who sees their live ones", func(t *testing.T, f fixture) {
		SignIn(t, f.Sessions, f.grant, "h", f.clock.Now().Add(time.Hour))
		ctx := session.NewContext(t.Context())
		if _, ok, err := f.Sessions.FindCtx(ctx, "h"); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if p := session.FromContext(ctx).Owner; p != (session.Owner{GrantID: f.grant.ID, Provider: "work", Subject: "alice"}) {
			t.Errorf("the session is %+v's", p)
		}
		for _, live := range []int{1, 0} {
			list, err := f.Person(t.Context(), "work", "alice")
			must(t, err)
			if len(list) != live || live == 1 && (list[0].ID != f.grant.ID || list[0].UserAgent != "Browser/1") {
				t.Errorf("%d live grants, want %d", len(list), live)
			}
			f.clock.Advance(2 * time.Hour)
		}
	})
	test("what has ended is removed, in any number", func(t *testing.T, f fixture) {
		lives := Grant(f.clock.Now())
		must(t, f.Create(t.Context(), lives))
		SignIn(t, f.Sessions, lives, "live", f.clock.Now().Add(time.Hour))
		SignIn(t, f.Sessions, f.grant, "short", f.clock.Now().Add(time.Minute))
		for n := range 250 { // more than one batch
			must(t, f.Sessions.CommitCtx(t.Context(), fmt.Sprint("other ", n), []byte("{}"), f.clock.Now().Add(time.Minute)))
		}
		for mark, until := range map[string]time.Duration{"is over": time.Minute, "lasts": time.Hour} {
			_, err := f.Use(t.Context(), mark, f.clock.Now().Add(until))
			must(t, err)
		}
		var ended []string
		for range 2*vault.TidyGrants + 1 {
			g := Grant(f.clock.Now())
			must(t, f.Create(t.Context(), g))
			ended = append(ended, g.ID)
		}
		f.clock.Advance(20 * time.Minute)
		must(t, f.Tidy(t.Context()))
		for _, id := range ended {
			_, err := f.Get(t.Context(), id)
			is(t, err, auth.ErrNotFound)
		}
		_, err := f.Get(t.Context(), lives.ID)
		must(t, err)
		_, err = f.Get(t.Context(), f.grant.ID)
		is(t, err, auth.ErrNotFound)
		f.clock.Advance(-20 * time.Minute)
		if f.found(t, "short") || f.found(t, "other 249") || !f.found(t, "live") {
			t.Error("the sessions that are left are not the live ones")
		}
		for mark, want := range map[string]bool{"is over": false, "lasts": true} {
			left, err := f.Used(t.Context(), mark)
			if must(t, err); left != want {
				t.Errorf("a mark whose time %s is left: %v", mark, left)
			}
		}
	})
	test("a grant goes with its session, and without one when no sign-in can be under way any more", func(t *testing.T, f fixture) {
		SignIn(t, f.Sessions, f.grant, "short", f.clock.Now().Add(time.Minute))
		alone, stays := Grant(f.clock.Now()), Grant(f.clock.Now())
		must(t, f.Create(t.Context(), alone))
		must(t, f.Create(t.Context(), stays))
		SignIn(t, f.Sessions, stays, "long", f.clock.Now().Add(24*time.Hour))
		remain := func(after time.Duration, want ...string) {
			t.Helper()
			f.clock.Advance(after)
			must(t, f.Tidy(t.Context()))
			for _, id := range []string{f.grant.ID, alone.ID, stays.ID} {
				if _, err := f.Get(t.Context(), id); (err == nil) != slices.Contains(want, id) {
					t.Errorf("%v later: %v", after, err)
				}
			}
		}
		remain(2*time.Minute, alone.ID, stays.ID)
		remain(vault.OrphanAge, stays.ID)
		must(t, f.Sessions.DeleteCtx(t.Context(), "long")) // and the process ended before the grant did
		remain(2 * time.Hour)
	})
	test("a blob in another row does not open, and its grant can be removed", func(t *testing.T, f fixture) {
		other := Grant(f.clock.Now())
		must(t, f.Create(t.Context(), other))
		must(t, f.SQL(fmt.Sprintf(`UPDATE grants SET sealed = (SELECT sealed FROM grants WHERE id = '%s') WHERE id = '%s'`,
			f.grant.ID, other.ID)))
		_, err := f.Get(t.Context(), other.ID)
		is(t, err, auth.ErrUnreadable)
		g, err := f.Delete(t.Context(), other.ID)
		must(t, err)
		if g.ID != other.ID || g.Identity.Provider != other.Identity.Provider || g.Tokens != (auth.TokenSet{}) {
			t.Errorf("what was removed comes back as %v", g)
		}
		_, err = f.Get(t.Context(), other.ID)
		is(t, err, auth.ErrNotFound)
	})
	test("grants open after a rotation of the keyset, and are sealed anew", func(t *testing.T, f fixture) {
		_, err := f.Keys.Rotate()
		must(t, err)
		_, err = f.Get(t.Context(), f.grant.ID)
		must(t, err)
		must(t, f.Create(t.Context(), Grant(f.clock.Now())))
		resealed, unreadable, err := f.Reseal(t.Context())
		if resealed != 2 || unreadable != 0 || err != nil {
			t.Errorf("resealed %d, unreadable %d, %v; want 2, 0, nil", resealed, unreadable, err)
		}
		g, err := f.Get(t.Context(), f.grant.ID)
		must(t, err)
		if g.Tokens.Refresh != f.grant.Tokens.Refresh {
			t.Errorf("resealed, it has refresh token %v", g.Tokens.Refresh)
		}
	})
}

func (f fixture) found(t *testing.T, hash string) bool {
	t.Helper()
	_, ok, err := f.Sessions.FindCtx(t.Context(), hash)
	must(t, err)
	return ok
}
