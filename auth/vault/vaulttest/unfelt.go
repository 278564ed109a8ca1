package vaulttest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"keyturn/auth/vault"
)

// unfelt is the part of the suite about who goes on while much is removed.
func unfelt(test func(name string, run func(t *testing.T, f fixture))) {
	test("grants are renewed while many others are removed", func(t *testing.T, f fixture) {
		lives := Grant(f.clock.Now())
		must(t, f.Create(t.Context(), lives))
		SignIn(t, f.Sessions, lives, "live", f.clock.Now().Add(24*time.Hour))
		// If each waited for all that is removed, one would end before and one after. On a machine that is busy so few may come to
		// their turn by chance, but not each time.
		const least, tries = 4, 5
		for try := 1; ; try++ {
			renewed := f.renewWhileTidying(t, lives.ID)
			if renewed >= least {
				break
			}
			if try == tries {
				t.Fatalf("%d renewals at most while %d batches were removed", least-1, tidied)
			}
		}
		left, err := f.Stats.Census(t.Context())
		must(t, err)
		if left.Grants != 2 { // that which is renewed, and that of every test, whose sign-in may be under way
			t.Errorf("%d grants are left", left.Grants)
		}
	})
}

// tidied is how many batches renewWhileTidying has removed.
const tidied = 50

// renewWhileTidying stores renewals of the grant, one after the other, while tidied batches of others are removed, and returns how many
// it stored.
func (f fixture) renewWhileTidying(t *testing.T, id string) (renewed int) {
	t.Helper()
	f.fill(t, tidied*vault.TidyGrants)
	f.clock.Advance(2 * time.Minute)
	ended := make(chan error, 1)
	go func() { ended <- f.Tidy(t.Context()) }()
	for {
		select {
		case err := <-ended:
			must(t, err)
			return renewed
		default:
			f.renew(t, id)
			renewed++
		}
	}
}

// fill stores grants with sessions that end in a minute.
func (f fixture) fill(t *testing.T, grants int) {
	t.Helper()
	var all sync.WaitGroup
	numbers := make(chan int)
	for range 8 {
		all.Go(func() {
			for n := range numbers {
				g := Grant(f.clock.Now())
				if err := f.Create(t.Context(), g); err != nil {
					t.Error(err)
				}
				SignIn(t, f.Sessions, g, fmt.Sprint("ends ", n), f.clock.Now().Add(time.Minute))
			}
		})
	}
	for n := range grants {
		numbers <- n
	}
	close(numbers)
	all.Wait()
}

// renew stores a renewal of the grant, as a process called me.
func (f fixture) renew(t *testing.T, id string) {
	t.Helper()
	seen, err := f.Get(t.Context(), id)
	if err == nil {
		err = f.Claim(t.Context(), seen, "me", time.Minute, f.clock.Now())
	}
	if err == nil {
		seen, err = f.Get(t.Context(), id)
	}
	if err == nil {
		next, record := Renewed(seen, f.clock.Now())
		err = f.Replace(t.Context(), "me", next, record)
	}
	if err != nil {
		t.Error(err)
	}
}
