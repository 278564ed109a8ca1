package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"keyturn/auth/authtest"
	"keyturn/auth/provider/scripted"
)

// classes are the ways in which real authorization servers rotate.
func classes() []scripted.Class {
	return []scripted.Class{scripted.Static, scripted.SameSuccessor, scripted.Sibling, scripted.Strict, scripted.FamilyRevoked}
}

func ofClass(class scripted.Class, then ...func(*scripted.Provider)) func(*scripted.Provider) {
	return func(idp *scripted.Provider) {
		idp.Class, idp.Interval = class, 10*time.Second
		for _, set := range then {
			set(idp)
		}
	}
}

func slowly(d time.Duration) func(*scripted.Provider) {
	return func(idp *scripted.Provider) {
		idp.Token = func(http.ResponseWriter, *http.Request, func() map[string]any) bool {
			time.Sleep(d)
			return false
		}
	}
}

// twin starts a second process on the same data dir.
func (p *program) twin(t *testing.T) *program {
	t.Helper()
	return launch(t, &program{dir: p.dir, args: p.args, log: &authtest.Buffer{}}, "localhost:0")
}

// at is the same browser at another process; a cookie does not know ports.
func (b *person) at(p *program) *person { return &person{Client: b.Client, base: p.base} }

func onceEach(t *testing.T, idp *scripted.Provider) {
	t.Helper()
	if most := idp.MostPresented(); most != 1 && idp.Class != scripted.Static {
		t.Errorf("a refresh token was presented %d times", most)
	}
}

// askAtOnce sends n requests of one session whose token has expired: one token call, everybody is signed in.
func askAtOnce(t *testing.T, idp *scripted.Provider, n int, who func(n int) *person) {
	t.Helper()
	before := idp.TokenCalls()
	var all sync.WaitGroup
	for n := range n {
		all.Go(func() {
			a, err := who(n).try(t.Context(), "GET", "/api/session", nil)
			if err != nil || a.status != http.StatusOK || a.json(t)["token"].(map[string]any)["generation"] != 2.0 {
				t.Errorf("%v, %d %s", err, a.status, a.body)
			}
		})
	}
	all.Wait()
	if calls := idp.TokenCalls() - before; calls != 1 {
		t.Errorf("%d token calls, want 1", calls)
	}
	onceEach(t, idp)
}

// A thousand requests at once on one session at expiry, spread over two processes: one token call.
func TestAThousandRequestsOverTwoProcesses(t *testing.T) {
	t.Parallel()
	for _, class := range classes() {
		t.Run(fmt.Sprint("class ", class), func(t *testing.T) {
			t.Parallel()
			idp, one := atScripted(t, ofClass(class, slowly(200*time.Millisecond), func(idp *scripted.Provider) { idp.Lifetime = 2 * time.Second }), "--renew-mode=on-demand")
			two := one.twin(t)
			alice := one.person()
			alice.do(t, "GET", "/auth/oidc", nil)
			idp.Change(func() { idp.Lifetime = time.Hour }) // so that it is not due again while they ask
			time.Sleep(2100 * time.Millisecond)
			askAtOnce(t, idp, authtest.Soak(200, 1000, 1000), func(n int) *person { return alice.at([]*program{one, two}[n%2]) })
		})
	}
}

// A renewal that fails is shared as one that succeeds is: two processes do not present one refresh token after the other.
func TestTwoProcessesShareARenewalThatFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		answer script
		calls  int
	}{
		{"refused for now", oauthError(http.StatusInternalServerError, "server_error"), 1},
		{"cut off, and presented once more", resets, 2},
	} {
		for _, wish := range []string{"POST /api/renew-token", "GET /api/session"} {
			t.Run(c.name+", "+wish, func(t *testing.T) {
				t.Parallel()
				idp, one := atScripted(t, func(idp *scripted.Provider) { idp.Lifetime = 2 * time.Second }, "--renew-mode=on-demand")
				two := one.twin(t)
				alice := one.person().staying()
				alice.signInScripted(t)
				idp.Change(func() {
					idp.Token = func(w http.ResponseWriter, r *http.Request, grant func() map[string]any) bool {
						time.Sleep(time.Second)
						c.answer(w, r, grant)
						return true
					}
				})
				time.Sleep(2100 * time.Millisecond)
				method, path, _ := strings.Cut(wish, " ")
				var all sync.WaitGroup
				for n := range 8 {
					all.Go(func() {
						a, err := alice.at([]*program{one, two}[n%2]).try(t.Context(), method, path, nil)
						if err != nil || method == "POST" && (a.status != http.StatusBadGateway || a.json(t)["outcome"] != "kept") {
							t.Errorf("%v, %d %s", err, a.status, a.body)
						}
					})
				}
				all.Wait()
				// The next try may have begun already: what stands open is tried again by itself, and the history is asked for.
				if calls := idp.TokenCalls(); calls != c.calls && calls != c.calls+1 {
					t.Errorf("%d token calls, want %d", calls, c.calls)
				}
				list, _ := alice.do(t, "GET", "/api/rotations", nil).json(t)["rotations"].([]any)
				if len(list) == 0 || list[len(list)-1].(map[string]any)["shared"] != 7.0 {
					t.Errorf("the history has %v", list)
				}
			})
		}
	}
}

// 200 sessions, each with 20 requests at once at expiry: 200 token calls.
func TestManySessionsWithManyRequests(t *testing.T) {
	t.Parallel()
	const requests = 20
	sessions := authtest.Soak(40, 200, 200)
	idp, p := atScripted(t, func(idp *scripted.Provider) { idp.Lifetime = 4 * time.Second },
		"--renew-mode=on-demand", "--renew-timeout=60s", "--log-level=info")
	people := make([]*person, sessions)
	for i := range people {
		people[i] = p.person()
		people[i].staying().signInScripted(t)
	}
	idp.Change(func() { idp.Lifetime = time.Hour })
	time.Sleep(4100 * time.Millisecond)
	var all sync.WaitGroup
	for _, b := range people {
		for range requests {
			all.Go(func() {
				a, err := b.try(t.Context(), "GET", "/api/session", nil)
				if err != nil || a.status != 200 || a.json(t)["token"].(map[string]any)["generation"] != 2.0 {
					t.Errorf("%v, %d %s", err, a.status, a.body)
				}
			})
		}
	}
	all.Wait()
	if calls := idp.TokenCalls(); calls != sessions {
		t.Errorf("%d token calls, want %d", calls, sessions)
	}
	onceEach(t, idp)
}

// signInScripted signs in without looking at the dashboard, which would meet a due token.
func (b *person) signInScripted(t *testing.T) {
	t.Helper()
	callback := b.do(t, "GET", b.do(t, "GET", "/auth/oidc", nil).header.Get("Location"), nil)
	if a := b.do(t, "GET", callback.header.Get("Location"), nil); a.status != http.StatusSeeOther {
		t.Fatalf("sign-in: %d %s", a.status, a.body)
	}
}

// Clients that hang up at random moments of a renewal: no session lost, no token call repeated.
func TestClientsThatHangUp(t *testing.T) {
	t.Parallel()
	for _, class := range classes() {
		t.Run(fmt.Sprint("class ", class), func(t *testing.T) {
			t.Parallel()
			idp, p := atScripted(t, ofClass(class, slowly(10*time.Millisecond)), "--log-level=info")
			alice := p.person()
			alice.do(t, "GET", "/auth/oidc", nil)
			for range authtest.Soak(60, 500, 500) {
				ctx, hangUp := context.WithTimeout(t.Context(), time.Duration(rand.IntN(20000))*time.Microsecond)
				_, _ = alice.try(ctx, "POST", "/api/renew-token", nil)
				hangUp()
			}
			a := alice.do(t, "POST", "/api/renew-token", nil)
			if got := a.json(t); got["error"] != nil {
				t.Errorf("after %d token calls: %s", idp.TokenCalls(), a.body)
			}
			// A request that was given up may be read, and renew, behind the last one.
			eventually(t, "a generation for each token call", func() bool { return alice.generation(t) == float64(idp.TokenCalls()+1) })
			onceEach(t, idp)
		})
	}
}

// An answer that takes longer than a lease lives, with renew-timeout raised: one call, and pages with a valid token do not
// wait for it.
func TestAProviderSlowerThanALease(t *testing.T) {
	t.Parallel()
	answers := time.Duration(authtest.Soak(8, 8, 30)) * time.Second
	idp, one := atScripted(t, slowly(answers), "--renew-timeout=40s")
	two := one.twin(t)
	alice := one.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	done := make(chan answer, 2)
	for _, p := range []*program{one, two} {
		go func() {
			a, _ := alice.at(p).try(t.Context(), "POST", "/api/renew-token", nil)
			done <- a
		}()
	}
	eventually(t, "the token call", func() bool { return idp.TokenCalls() == 1 })
	for until := time.Now().Add(answers * 3 / 4); time.Now().Before(until); time.Sleep(answers / 60) {
		for _, p := range []*program{one, two} {
			if state := alice.at(p).token(t)["state"]; state != "due" {
				t.Errorf("state %v while it renews", state)
			}
		}
	}
	for range 2 {
		if a := <-done; a.status != 200 || a.json(t)["outcome"] != "rotated" || a.json(t)["generation"] != 2.0 {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if idp.TokenCalls() != 1 {
		t.Errorf("%d token calls, want 1", idp.TokenCalls())
	}
}
