package main

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth/authtest"
	"keyturn/auth/provider/scripted"
	"keyturn/auth/vault/postgres/pgtest"
)

// crowd is people who renew all the time, each as soon as the last answer has come.
type crowd struct {
	people     []*person
	generation []atomic.Int64 // highest seen
	answers    atomic.Int64
}

func gather(t *testing.T, p *program, n int) *crowd {
	t.Helper()
	c := &crowd{people: make([]*person, n), generation: make([]atomic.Int64, n)}
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			c.people[i] = p.person()
			c.people[i].signIn(t, []string{"alice", "bob", "carol"}[i%3])
		})
	}
	all.Wait()
	return c
}

// renew renews until ctx is done. A generation that falls is an error, and so is a session that is nobody's.
func (c *crowd) renew(ctx context.Context, t *testing.T) {
	var all sync.WaitGroup
	for i, b := range c.people {
		all.Go(func() {
			for ctx.Err() == nil {
				a, err := b.try(ctx, "POST", "/api/trigger-renew-token?query=update-token-data", nil)
				if err != nil {
					time.Sleep(5 * time.Millisecond) // it is being killed, or restarted
					continue
				}
				c.answers.Add(1)
				if a.status != http.StatusOK {
					if !strings.Contains(a.body, "generation") {
						t.Errorf("person %d: %d %s", i, a.status, a.body)
						return
					}
					continue
				}
				g := int64(a.json(t)["generation"].(float64))
				if before := c.generation[i].Swap(g); g < before {
					t.Errorf("person %d: generation %d after %d", i, g, before)
				}
			}
		})
	}
	all.Wait()
}

// killedAtRandom kills and restarts the program while the crowd renews.
func killedAtRandom(t *testing.T, kills, people int, args ...string) (*program, *crowd) {
	t.Helper()
	takeTurn(t)
	p := startProgram(t, args...)
	c := gather(t, p, people)
	ctx, stop := context.WithCancel(t.Context())
	var renewing sync.WaitGroup
	renewing.Go(func() { c.renew(ctx, t) })
	for kill := range kills {
		// On a loaded machine nothing would get done between two kills, for longer than any reuse interval; every other
		// kill therefore waits for answers.
		if before := c.answers.Load(); kill%2 == 0 {
			eventually(t, "answers between two kills", func() bool { return c.answers.Load() >= before+10 })
		}
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
		p.kill(t)
		p.again(t)
	}
	time.Sleep(time.Second)
	stop()
	renewing.Wait()
	return p, c
}

// kill -9 at random moments, each followed by a restart: no session is signed out, none is stuck, generations only grow.
func TestKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	// A loaded machine may need longer than the default of 10 s between two moments at which it gets anything done.
	interval := time.Duration(authtest.Soak(60, 60, 10)) * time.Second
	_, c := killedAtRandom(t, authtest.Soak(5, 60, 200), 50, "--log-level=info", "--dev-reuse-interval="+interval.String())
	for i, b := range c.people {
		token := b.token(t)
		if token["state"] == "needs_sign_in" || token["generation"].(float64) < float64(c.generation[i].Load()) {
			t.Errorf("person %d: %v, highest generation seen %d", i, token, c.generation[i].Load())
		}
		if a := b.do(t, "POST", "/api/renew-token", nil); a.json(t)["outcome"] != "rotated" {
			t.Errorf("person %d is stuck: %s", i, a.body)
		}
	}
	t.Logf("%d answers", c.answers.Load())
}

// Without a reuse interval only sessions whose answer was on the wire may be lost, and their pages say what happened.
func TestKilledAtRandomMomentsWithoutReuseInterval(t *testing.T) {
	t.Parallel()
	kills := authtest.Soak(5, 30, 100)
	_, c := killedAtRandom(t, kills, 20, "--dev-reuse-interval=0s", "--log-level=info")
	lost := 0
	for i, b := range c.people {
		// A renewal that the last kill cut off may be taken up by this very click.
		a := b.do(t, "POST", "/api/renew-token", nil)
		renewed := a.json(t)
		if renewed["outcome"] == "rotated" {
			continue
		}
		failure, _ := renewed["error"].(map[string]any)
		if failure == nil || failure["code"] != "invalid_grant" {
			t.Errorf("person %d is stuck: %s", i, a.body)
			continue
		}
		lost++
		if a := b.do(t, "GET", "/api/rotations", nil); !strings.Contains(a.body, `"warning":"replayed_after_crash"`) {
			t.Errorf("person %d is lost without a crash: %s", i, a.body)
		}
		const words = "was stopped in the middle of a renewal"
		if !strings.Contains(failure["message"].(string), words) || !strings.Contains(b.do(t, "GET", "/dashboard", nil).body, words) {
			t.Errorf("person %d is lost and does not learn why: %v", i, failure)
		}
	}
	t.Logf("%d of %d sessions lost by %d kills, %d answers", lost, len(c.people), kills, c.answers.Load())
}

// The process that starts in the place of a killed one takes up what that had begun first thing: before the lease runs out, and within
// a reuse interval that is shorter than that.
func TestARestartTakesUpAtOnceWhatWasBegun(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"SQLite", "PostgreSQL"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			var args []string
			if engine == "PostgreSQL" {
				args = append(args, "KEYTURN_DATABASE="+pgtest.Database(t))
			}
			presented := make(chan bool, 10)
			idp, p := atScripted(t, ofClass(scripted.SameSuccessor, func(idp *scripted.Provider) { idp.Interval = time.Minute }), args...)
			b := p.person()
			b.do(t, "GET", "/auth/oidc", nil)
			idp.Change(func() {
				idp.Token = func(w http.ResponseWriter, _ *http.Request, grant func() map[string]any) bool {
					tokens := grant() // it has rotated; the first answer comes too late
					if presented <- true; idp.TokenCalls() == 1 {
						time.Sleep(2 * time.Second)
					}
					writeJSON(w, tokens)
					return true
				}
			})
			go func() { _, _ = b.try(t.Context(), "POST", "/api/renew-token", nil) }()
			<-presented
			killed := time.Now()
			p.kill(t)
			p.runs(t, "sessions", "list", "--all") // a command in between changes nothing
			p.again(t)
			idp.Change(func() { idp.Interval = time.Since(killed) + 3*time.Second })
			eventually(t, "the grant to be taken up", func() bool { return b.generation(t) == 2 })
			if a := b.do(t, "POST", "/api/renew-token", nil); a.json(t)["outcome"] != "rotated" {
				t.Errorf("afterwards: %d %s", a.status, a.body)
			}
		})
	}
}
