package vaulttest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"keyturn/auth"
)

// stats is the part of the suite about what operators ask.
func stats(test func(name string, run func(t *testing.T, f fixture))) {
	test("a person's grants beyond the newest are listed, the newest of them first", func(t *testing.T, f fixture) {
		var ids []string
		for n := range 4 {
			f.clock.Advance(time.Minute)
			g := Grant(f.clock.Now())
			g.SessionHash = fmt.Sprint("hash ", n)
			must(t, f.Create(t.Context(), g))
			ids = append(ids, g.ID)
		}
		other := Grant(f.clock.Now())
		other.Identity.Subject = "bob"
		must(t, f.Create(t.Context(), other))
		for _, c := range []struct{ keep, limit, want int }{{1, 10, 4}, {2, 10, 3}, {2, 1, 1}, {5, 10, 0}, {9, 10, 0}} {
			list, err := f.Beyond(t.Context(), "work", "alice", c.keep, c.limit)
			must(t, err)
			if len(list) != c.want {
				t.Errorf("beyond %d, at most %d: %d grants, want %d", c.keep, c.limit, len(list), c.want)
			}
		}
		list, err := f.Beyond(t.Context(), "work", "alice", 2, 10)
		must(t, err)
		if list[0].ID != ids[1] || list[0].SessionHash != "hash 1" || list[2].ID != f.grant.ID {
			t.Error("they are not in the order of their sign-in")
		}
	})
	test("grants are listed page by page, everybody's or a person's", func(t *testing.T, f fixture) {
		everybodys, bobs := []string{f.grant.ID}, []string(nil)
		for n := range 6 {
			g := Grant(f.clock.Now())
			g.SessionHash = "hash of " + g.ID
			if n%2 == 0 {
				g.Identity.Subject = "bob"
				bobs = append(bobs, g.ID)
			}
			must(t, f.Create(t.Context(), g))
			everybodys = append(everybodys, g.ID)
		}
		for whose, want := range map[auth.Person][]string{
			{}: everybodys, {Provider: "work", Subject: "bob"}: bobs, {Provider: "other", Subject: "bob"}: nil,
		} {
			got := pages(t, f.All, whose)
			if !slices.Equal(idsOf(got), slices.Sorted(slices.Values(want))) {
				t.Errorf("of %+v: got %v\nwant %v", whose, idsOf(got), want)
			}
			for _, g := range got {
				if g.ID != f.grant.ID && g.SessionHash != "hash of "+g.ID || g.Identity.Provider != "work" || g.UserAgent != "Browser/1" ||
					!g.CreatedAt.Equal(f.grant.CreatedAt) {
					t.Errorf("%+v", g)
				}
			}
		}
	})
	test("live sessions are listed page by page, everybody's or a person's", func(t *testing.T, f fixture) {
		lasting := f.clock.Now().Add(48 * time.Hour)
		signIn := func(subject string, ends time.Time) string {
			g := Grant(f.clock.Now())
			g.Identity.Subject, g.SessionHash = subject, "hash of "+g.ID
			must(t, f.Create(t.Context(), g))
			SignIn(t, f.Sessions, g, g.SessionHash, ends)
			return g.ID
		}
		signIn("bob", lasting) // idles away
		f.clock.Advance(IdleLimit - time.Minute)
		signIn("bob", f.clock.Now().Add(time.Minute))
		bobs, everybodys := []string{}, []string{}
		for n := range 6 {
			id := signIn([]string{"bob", "carol"}[n%2], lasting)
			if everybodys = append(everybodys, id); n%2 == 0 {
				bobs = append(bobs, id)
			}
		}
		must(t, f.Sessions.CommitCtx(t.Context(), "anonymous", []byte("{}"), lasting))
		ended, err := f.Get(t.Context(), signIn("bob", lasting))
		must(t, err)
		ended.Standing = auth.Standing{Outcome: auth.OutcomeRefused, Refused: true, Failure: auth.Failure{Code: auth.CodeIdentityChanged}}
		must(t, f.Amend(t.Context(), ended, &auth.Renewal{}))
		f.clock.Advance(2 * time.Minute)
		for whose, want := range map[auth.Person][]string{
			{}: everybodys, {Provider: "work", Subject: "bob"}: bobs, {Provider: "other", Subject: "bob"}: nil,
		} {
			if got := pages(t, f.Stats.Live, whose); !slices.Equal(idsOf(got), slices.Sorted(slices.Values(want))) {
				t.Errorf("of %+v: got %v\nwant %v", whose, idsOf(got), want)
			}
		}
		list, err := f.Person(t.Context(), "work", "bob")
		must(t, err)
		if got := idsOf(list); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(bobs))) {
			t.Errorf("bob has %v\nwant %v", got, bobs)
		}
		if live := pages(t, f.Stats.Live, auth.Person{}); live[0].UserAgent != "Browser/1" || live[0].SeenAt.IsZero() {
			t.Errorf("%+v", live[0])
		}
	})
	test("sessions are listed that hold something", func(t *testing.T, f fixture) {
		for hash, data := range map[string]string{"empty": "1790000000000000", "pending": `1790000000000000{"pending":"x"}`} {
			must(t, f.Sessions.CommitCtx(t.Context(), hash, []byte(data), f.clock.Now().Add(time.Hour)))
		}
		list, err := f.Stats.SessionValues(t.Context())
		must(t, err)
		if len(list) != 1 || string(list[0]) != `1790000000000000{"pending":"x"}` {
			t.Errorf("%q", list)
		}
	})
	test("sessions, grants and owed revocations are counted, those of nobody aside", func(t *testing.T, f fixture) {
		SignIn(t, f.Sessions, f.grant, "h", f.clock.Now().Add(time.Hour))
		must(t, f.Sessions.CommitCtx(t.Context(), "anonymous", []byte("{}"), f.clock.Now().Add(time.Hour)))
		must(t, f.Create(t.Context(), Grant(f.clock.Now())))
		for range 3 {
			must(t, f.Owe(t.Context(), Grant(f.clock.Now()), time.Hour))
		}
		census, err := f.Stats.Census(t.Context())
		must(t, err)
		if census.Sessions != 1 || census.Grants != 2 || census.Owed != 3 {
			t.Errorf("counted %+v, want 1 session, 2 grants and 3 owed revocations", census)
		}
		if pool := f.Stats.Pool(); pool.Most == 0 {
			t.Errorf("the pool is %+v", pool)
		}
	})
	test("due grants of live sessions are overdue, whoever holds their leases", func(t *testing.T, f fixture) {
		overdue := func(provider string, limit int) (ids []string) {
			list, err := f.Stats.Overdue(t.Context(), provider, f.clock.Now(), limit)
			must(t, err)
			for _, c := range list {
				ids = append(ids, c.ID)
			}
			return ids
		}
		later := Grant(f.clock.Now())
		later.DueAt = f.grant.DueAt.Add(time.Minute)
		must(t, f.Create(t.Context(), later))
		ends := f.clock.Now().Add(20 * time.Hour)
		SignIn(t, f.Sessions, later, "later", ends)
		f.clock.Advance(time.Hour)
		if got := overdue("work", 10); !slices.Equal(got, []string{later.ID}) {
			t.Errorf("%v are overdue besides one without a session", got)
		}
		SignIn(t, f.Sessions, f.grant, "hash", ends)
		f.lease(t, "me", time.Minute)
		if got := overdue("work", 10); !slices.Equal(got, []string{f.grant.ID, later.ID}) {
			t.Errorf("%v are overdue, want the leased one first, and the other", got)
		}
		if got := overdue("work", 1); !slices.Equal(got, []string{f.grant.ID}) {
			t.Errorf("%v is overdue the longest", got)
		}
		if got := overdue("other", 10); len(got) != 0 {
			t.Errorf("%v are overdue at a provider that has none", got)
		}
	})
	test("a database that lacks a migration is told from one that has a newer one", func(t *testing.T, f fixture) {
		must(t, f.Stats.Migrated(t.Context()))
		must(t, f.SQL(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)`))
		must(t, f.Stats.Migrated(t.Context()))
		must(t, f.SQL(`DELETE FROM goose_db_version WHERE version_id > 1`))
		if err := f.Stats.Migrated(t.Context()); err == nil {
			t.Error("the lack of a migration is not noticed")
		}
	})
}

// pages reads a list two at a time.
func pages(
	t *testing.T, list func(ctx context.Context, whose auth.Person, after string, limit int) ([]*auth.Grant, error), whose auth.Person,
) (all []*auth.Grant) {
	t.Helper()
	for after := ""; ; after = all[len(all)-1].ID {
		page, err := list(t.Context(), whose, after, 2)
		must(t, err)
		if all = append(all, page...); len(page) < 2 {
			return all
		}
	}
}

func idsOf(grants []*auth.Grant) (ids []string) {
	for _, g := range grants {
		ids = append(ids, g.ID)
	}
	return ids
}
