package vaulttest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
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
	test("everybody's grants are listed page by page", func(t *testing.T, f fixture) {
		ids := []string{f.grant.ID}
		for n := range 4 {
			g := Grant(f.clock.Now())
			g.Identity.Subject, g.SessionHash = fmt.Sprint("person ", n), fmt.Sprint("hash ", n)
			must(t, f.Create(t.Context(), g))
			ids = append(ids, g.ID)
		}
		slices.Sort(ids)
		var got []string
		for after := ""; ; after = got[len(got)-1] {
			list, err := f.Everyone(t.Context(), after, 2)
			must(t, err)
			if len(list) == 0 {
				break
			}
			for _, g := range list {
				got = append(got, g.ID)
				if g.ID != f.grant.ID && g.SessionHash != "hash "+strings.TrimPrefix(g.Identity.Subject, "person ") ||
					g.Identity.Provider != "work" || g.UserAgent != "Browser/1" || !g.CreatedAt.Equal(f.grant.CreatedAt) {
					t.Errorf("%+v", g)
				}
			}
		}
		if !slices.Equal(got, ids) {
			t.Errorf("got %v\nwant %v", got, ids)
		}
	})
	test("sessions and grants are counted, those of nobody aside", func(t *testing.T, f fixture) {
		SignIn(t, f.Sessions, f.grant, "h", f.clock.Now().Add(time.Hour))
		must(t, f.Sessions.CommitCtx(t.Context(), "anonymous", []byte("{}"), f.clock.Now().Add(time.Hour)))
		must(t, f.Create(t.Context(), Grant(f.clock.Now())))
		census, err := f.Stats.Census(t.Context())
		must(t, err)
		if census.Sessions != 1 || census.Grants != 2 {
			t.Errorf("counted %+v, want 1 session and 2 grants", census)
		}
		if pool := f.Stats.Pool(); pool.Most == 0 {
			t.Errorf("the pool is %+v", pool)
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
