package vaulttest

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth"
)

// logout is the part of the suite about what back-channel logout asks.
func logout(test func(name string, run func(t *testing.T, f fixture))) {
	test("grants are found by the provider's session, and by the person", func(t *testing.T, f fixture) {
		add := func(provider, subject, sid string) string {
			g := Grant(f.clock.Now())
			g.Identity.Provider, g.Identity.Subject, g.SessionHash = provider, subject, "hash of "+sid
			g.Identity.Claims = map[string]any{"sid": sid}
			must(t, f.Create(t.Context(), g))
			return g.ID
		}
		one, two := add("work", "alice", "s1"), add("work", "alice", "s2")
		bob, elsewhere := add("work", "bob", "s1"), add("other", "alice", "s1")
		unnamed := f.grant.ID
		for _, c := range []struct {
			name string
			at   auth.ProviderSession
			want []string
		}{
			{"sid", auth.ProviderSession{Provider: "work", SID: "s1"}, []string{one, bob}},
			{"sid and sub", auth.ProviderSession{Provider: "work", SID: "s1", Subject: "alice"}, []string{one, unnamed}},
			{"unknown sid and sub", auth.ProviderSession{Provider: "work", SID: "s3", Subject: "alice"}, []string{unnamed}},
			{"sid of somebody else", auth.ProviderSession{Provider: "work", SID: "s2", Subject: "bob"}, nil},
			{"sub", auth.ProviderSession{Provider: "work", Subject: "alice"}, []string{unnamed, one, two}},
			{"another provider", auth.ProviderSession{Provider: "other", SID: "s1"}, []string{elsewhere}},
			{"unknown", auth.ProviderSession{Provider: "work", SID: "s3"}, nil},
			{"neither", auth.ProviderSession{Provider: "work"}, nil},
		} {
			list, err := f.Concerned(t.Context(), c.at, 10)
			must(t, err)
			var got []string
			for _, g := range list {
				got = append(got, g.ID)
				if g.ID == two && g.SessionHash != "hash of s2" {
					t.Errorf("by %s: session %q", c.name, g.SessionHash)
				}
			}
			if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(c.want))) {
				t.Errorf("by %s: %d grants, want %d", c.name, len(got), len(c.want))
			}
		}
		if list, err := f.Concerned(t.Context(), auth.ProviderSession{Provider: "work", Subject: "alice"}, 2); err != nil || len(list) != 2 {
			t.Errorf("with a limit of 2: %d, %v", len(list), err)
		}
	})
	test("a grant is found by the session that its latest id token names", func(t *testing.T, f fixture) {
		next, record := Renewed(f.lease(t, "me", time.Minute), f.clock.Now())
		next.Identity.Claims = map[string]any{"sid": "of the renewal"}
		must(t, f.Replace(t.Context(), "me", next, record))
		found := func(sid string) int {
			list, err := f.Concerned(t.Context(), auth.ProviderSession{Provider: "work", SID: sid}, 10)
			must(t, err)
			return len(list)
		}
		if found("of the renewal") != 1 {
			t.Error("not found after a renewal")
		}
		next.Identity.Claims = map[string]any{"sid": "of the amendment"}
		must(t, f.Amend(t.Context(), next, record))
		if found("of the renewal") != 0 || found("of the amendment") != 1 {
			t.Error("not found after an amendment")
		}
	})
	test("a grant is stored whose session the provider gives a name that is no identifier", func(t *testing.T, f fixture) {
		long := make([]byte, 1<<12)
		_, _ = rand.Read(long) // what does not compress
		leased := f.lease(t, "me", time.Minute)
		for _, sid := range []string{"s\x001", "s\xff", hex.EncodeToString(long)} {
			next, record := Renewed(leased, f.clock.Now())
			next.Identity.Claims = map[string]any{"sid": sid}
			must(t, f.Replace(t.Context(), "me", next, record))
			leased = f.lease(t, "me", time.Minute)
			other := Grant(f.clock.Now())
			other.Identity.Claims = next.Identity.Claims
			must(t, f.Create(t.Context(), other))
		}
	})
	test("a token is used once, until it is forgotten", func(t *testing.T, f fixture) {
		until := f.clock.Now().Add(time.Minute)
		var firsts atomic.Int32
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				first, err := f.Use(t.Context(), "one", until)
				if err != nil {
					t.Error(err)
				}
				if first {
					firsts.Add(1)
				}
			})
		}
		all.Wait()
		if firsts.Load() != 1 {
			t.Errorf("%d were the first", firsts.Load())
		}
		for fingerprint, want := range map[string]bool{"one": true, "another": false} {
			if used, err := f.Used(t.Context(), fingerprint); err != nil || used != want {
				t.Errorf("%s is used: %v, %v", fingerprint, used, err)
			}
		}
		for beyond, want := range map[time.Time]bool{until.Add(-time.Millisecond): true, until: false} {
			if lasts, err := f.Lasts(t.Context(), "one", beyond); err != nil || lasts != want {
				t.Errorf("it is remembered beyond %v: %v, %v", beyond, lasts, err)
			}
		}
		f.clock.Advance(time.Minute)
		used, err := f.Used(t.Context(), "one")
		must(t, err)
		first, err := f.Use(t.Context(), "one", f.clock.Now().Add(time.Minute))
		if must(t, err); used || !first {
			t.Errorf("afterwards it is used: %v, and used again: %v", used, first)
		}
		must(t, f.Unuse(t.Context(), "one"))
		must(t, f.Unuse(t.Context(), "never used"))
		if first, err = f.Use(t.Context(), "one", f.clock.Now().Add(time.Minute)); err != nil || !first {
			t.Errorf("once its use is forgotten it is used again: %v, %v", first, err)
		}
	})
	test("what is used is remembered for longer, unless that is over", func(t *testing.T, f fixture) {
		if kept, err := f.Keep(t.Context(), "one", f.clock.Now().Add(time.Minute)); err != nil || kept {
			t.Errorf("what was never used is kept: %v, %v", kept, err)
		}
		for _, kept := range []bool{true, false} {
			first, err := f.Use(t.Context(), "one", f.clock.Now().Add(time.Minute))
			if must(t, err); !first {
				t.Error("it is used already")
			}
			if !kept {
				f.clock.Advance(time.Minute)
			}
			got, err := f.Keep(t.Context(), "one", f.clock.Now().Add(time.Hour))
			must(t, err)
			f.clock.Advance(30 * time.Minute)
			used, err := f.Used(t.Context(), "one")
			if must(t, err); got != kept || used != kept {
				t.Errorf("kept: %v, and used: %v; want %v", got, used, kept)
			}
			f.clock.Advance(30 * time.Minute)
		}
	})
}
