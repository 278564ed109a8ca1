package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth/authtest"
	"keyturn/auth/provider/scripted"
	"keyturn/auth/vault/postgres/pgtest"
)

// A thousand requests at once on one session at expiry, spread over three replicas: one token call.
func TestAThousandRequestsOverThreeReplicas(t *testing.T) {
	t.Parallel()
	tried := classes()[authtest.Soak(len(classes())-1, len(classes())-1, 0):]
	for _, class := range tried {
		t.Run(fmt.Sprint("class ", class), func(t *testing.T) {
			t.Parallel()
			idp := scripted.New(t)
			ofClass(class, slowly(300*time.Millisecond), func(idp *scripted.Provider) { idp.Lifetime = 2 * time.Second })(idp)
			r := startReplicas(t, idp, "", "--renew-mode=on-demand")
			alice := r.people(t, 1)[0]
			idp.Change(func() { idp.Lifetime = time.Hour }) // so that it is not due again while they ask
			time.Sleep(2100 * time.Millisecond)
			askAtOnce(t, idp, 1000, func(int) *person { return alice })
		})
	}
}

// Sessions that three replicas renew in the background, with nobody watching: each once per due time, never twice.
func TestThreeReplicasRenewEachGrantOncePerDueTime(t *testing.T) {
	t.Parallel()
	sessions := authtest.Soak(20, 100, 300)
	lifetime := time.Duration(authtest.Soak(4, 6, 12)) * time.Second
	lasts := time.Duration(authtest.Soak(9, 30, 120)) * time.Second
	idp := scripted.New(t)
	idp.Lifetime = lifetime
	r := startReplicas(t, idp, "")
	people := r.people(t, sessions)
	time.Sleep(lasts)
	idp.Change(func() { idp.Lifetime = time.Hour })
	due := lifetime * 3 / 4 // a quarter of the lifetime is the leeway
	eventually(t, "the last renewals", func() bool {
		for _, b := range people {
			if b.token(t)["expires_in"].(float64) < 1000 {
				return false
			}
		}
		return true
	})
	stored := 0
	for i, b := range people {
		var page struct {
			Rotations []rotation `json:"rotations"`
		}
		body := b.do(t, "GET", "/api/rotations", nil).body
		if err := json.Unmarshal([]byte(body), &page); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		stored += len(page.Rotations)
		if least := int(lasts / lifetime / 2); len(page.Rotations) < least {
			t.Errorf("session %d was renewed %d times in %v", i, len(page.Rotations), lasts)
		}
		for n, later := range page.Rotations[:len(page.Rotations)-1] {
			earlier := page.Rotations[n+1]
			if later.Generation != earlier.Generation+1 || later.At.Sub(earlier.At) < due.Truncate(time.Second) {
				t.Errorf("session %d: generation %d at %v, %d at %v", i, earlier.Generation, earlier.At, later.Generation, later.At)
			}
		}
	}
	if calls := idp.TokenCalls(); calls != stored {
		t.Errorf("%d token calls for %d renewals", calls, stored)
	}
	onceEach(t, idp)
}

// rotation is a row of the history.
type rotation struct {
	Generation int       `json:"generation"`
	At         time.Time `json:"at"`
	Warning    string    `json:"warning"`
}

// A replica is killed in the middle of renewals: another takes over within the lease's time, and no session is lost.
func TestAReplicaIsKilledInTheMiddleOfRenewals(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	ofClass(scripted.SameSuccessor, func(idp *scripted.Provider) { idp.Interval = time.Minute })(idp)
	r := startReplicas(t, idp, "")
	people := r.people(t, 12)
	var calls atomic.Int64
	idp.Change(func() {
		idp.Token = func(w http.ResponseWriter, _ *http.Request, grant func() map[string]any) bool {
			tokens := grant() // it has rotated; the answer comes too late
			if calls.Add(1) <= int64(len(people)) {
				time.Sleep(2 * time.Second)
			}
			writeJSON(w, tokens)
			return true
		}
	})
	for _, b := range people {
		go func() { _, _ = b.at(r.programs[0]).try(t.Context(), "POST", "/api/renew-token", nil) }()
	}
	eventually(t, "all the calls", func() bool { return int(calls.Load()) >= len(people) })
	r.programs[0].kill(t)
	killed := time.Now()
	for i, b := range people {
		eventually(t, "another replica to take over", func() bool { return b.generation(t) == 2 })
		if i == 0 {
			t.Logf("taken over after %v", time.Since(killed))
		}
		if history := b.do(t, "GET", "/api/rotations", nil).body; !strings.Contains(history, `"warning":"replayed_after_crash"`) {
			t.Errorf("session %d: %s", i, history)
		}
		// A replica that waits for the lease still shares what has been stored with whoever comes.
		eventually(t, "a renewal afterwards", func() bool {
			a := b.do(t, "POST", "/api/renew-token", nil)
			if a.status != http.StatusOK || a.json(t)["error"] != nil {
				t.Errorf("session %d afterwards: %d %s", i, a.status, a.body)
			}
			return a.json(t)["generation"] == 3.0
		})
	}
	if most := idp.MostPresented(); most != 2 {
		t.Errorf("a refresh token was presented %d times, want 2: once, and once after the crash", most)
	}
}

// load is people who ask and renew all the time at the round-robin.
type load struct {
	people  []*person
	answers atomic.Int64
	stop    context.CancelFunc
	running sync.WaitGroup
}

// begin lets people ask until end; each answer other than those that were cut on the wire is judged.
func begin(t *testing.T, people []*person, judge func(a answer)) *load {
	ctx, stop := context.WithCancel(t.Context())
	l := &load{people: people, stop: stop}
	for _, b := range people {
		l.running.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				method, path := "GET", "/api/session"
				if n%4 == 3 {
					method, path = "POST", "/api/trigger-renew-token?query=update-token-data"
				}
				a, err := b.try(ctx, method, path, nil)
				if err != nil || a.header.Get(wasCut) != "" {
					continue
				}
				l.answers.Add(1)
				judge(a)
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	return l
}

// end stops the load, and then everybody must be able to renew.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.running.Wait()
	for i, b := range l.people {
		eventually(t, "a renewal of everybody", func() bool {
			a := b.do(t, "POST", "/api/renew-token", nil)
			if a.status != http.StatusOK || a.json(t)["outcome"] == "refused" {
				t.Fatalf("session %d is lost: %d %s", i, a.status, a.body)
			}
			return a.json(t)["outcome"] == "rotated"
		})
	}
	t.Logf("%d answers", l.answers.Load())
}

// One replica after the other is stopped and started again under load: no request fails, no session is lost.
func TestRollingRestartUnderLoad(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	ofClass(scripted.FamilyRevoked, slowly(50*time.Millisecond), func(idp *scripted.Provider) { idp.Interval = 0 })(idp)
	r := startReplicas(t, idp, "")
	l := begin(t, r.people(t, 10), func(a answer) {
		if a.status != http.StatusOK {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	for _, p := range r.programs {
		time.Sleep(time.Second)
		if err := p.stop(t); err != nil {
			t.Errorf("exit: %v\n%s", err, p.log)
		}
		time.Sleep(500 * time.Millisecond)
		r.start(t, p)
	}
	time.Sleep(time.Second)
	l.end(t)
	onceEach(t, idp)
	t.Logf("%d requests were cut on the wire:\n%s", r.cut.Load(), &r.why)
}

// PostgreSQL is away under load for longer than a lease lasts: clear answers meanwhile, and everything right by itself
// after. What the provider answered meanwhile is stored, and no refresh token is presented twice.
func TestPostgreSQLIsAwayUnderLoad(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t)
	idp := scripted.New(t)
	ofClass(scripted.FamilyRevoked, slowly(100*time.Millisecond), func(idp *scripted.Provider) { idp.Interval = 0 })(idp)
	r := startReplicas(t, idp, server.Database(t))
	people := r.people(t, 10)
	alice := people[0]
	var away atomic.Int64
	l := begin(t, people[1:], func(a answer) {
		switch {
		case a.status == http.StatusServiceUnavailable && containsAll(a.body, `"storage_unavailable"`, "cannot reach its database"):
			away.Add(1)
		case a.status != http.StatusOK:
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	time.Sleep(time.Second)
	gone := make(chan struct{})
	idp.Change(func() {
		idp.Token = func(w http.ResponseWriter, _ *http.Request, grant func() map[string]any) bool {
			tokens := grant()
			<-gone
			writeJSON(w, tokens)
			return true
		}
	})
	late := make(chan answer, 1)
	before := idp.TokenCalls()
	go func() {
		a, _ := alice.try(t.Context(), "POST", "/api/renew-token", nil)
		late <- a
	}()
	eventually(t, "renewals under way", func() bool { return idp.TokenCalls() >= before+5 })
	server.Stop()
	close(gone)
	idp.Change(func() { idp.Token = nil })
	<-late
	time.Sleep(8 * time.Second) // longer than a lease
	if a := r.person().do(t, "GET", "/readyz", nil); a.status != http.StatusServiceUnavailable {
		t.Errorf("/readyz while it is away: %d", a.status)
	}
	if a := r.person().do(t, "GET", "/readyz?exclude=database&exclude=migrations", nil); a.status != http.StatusOK {
		t.Errorf("for a balancer, which has no better replica: %d", a.status)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "every replica to be ready", func() bool {
		for _, p := range r.programs {
			if p.person().do(t, "GET", "/readyz", nil).status != http.StatusOK {
				return false
			}
		}
		return true
	})
	eventually(t, "what came meanwhile to be stored", func() bool { return alice.generation(t) == 2 })
	time.Sleep(time.Second)
	l.end(t)
	eventually(t, "nothing to wait for the database", func() bool { // under load something does where it is slow
		for _, p := range r.programs {
			if left, _ := filepath.Glob(filepath.Join(p.dir, "spool", "*.json")); len(left) > 0 {
				return false
			}
		}
		return true
	})
	onceEach(t, idp)
	if away.Load() == 0 {
		t.Error("nobody was told that the database is away")
	}
	for _, p := range r.programs {
		if strings.Contains(p.log.String(), pgtest.Password) {
			t.Error("the log holds the database's password")
		}
	}
}

// A replica that was killed in an outage of the database, with renewals in its spool, starts again when the database is back: what it has
// is stored, and nobody presents the refresh tokens again that they replace.
func TestAReplicaThatWasKilledInAnOutageStoresFirst(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t)
	idp := scripted.New(t)
	ofClass(scripted.FamilyRevoked, func(idp *scripted.Provider) { idp.Interval = 0 })(idp)
	r := startReplicas(t, idp, server.Database(t))
	people := r.people(t, 8)
	first, away := r.programs[0], make(chan struct{})
	idp.Change(func() {
		idp.Token = func(w http.ResponseWriter, _ *http.Request, grant func() map[string]any) bool {
			tokens := grant()
			<-away
			writeJSON(w, tokens)
			return true
		}
	})
	for _, b := range people {
		go func() { _, _ = b.at(first).try(t.Context(), "POST", "/api/renew-token", nil) }()
	}
	eventually(t, "renewals under way", func() bool { return idp.TokenCalls() >= len(people) })
	server.Stop()
	close(away)
	idp.Change(func() { idp.Token = nil })
	spooled := func() int {
		left, _ := filepath.Glob(filepath.Join(first.dir, "spool", "*.json"))
		return len(left)
	}
	eventually(t, "all are in the spool", func() bool { return spooled() == len(people) })
	time.Sleep(6 * time.Second) // the leases run out
	first.kill(t)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	eventually(t, "the others to have the database again", func() bool { return people[0].at(r.programs[1]).signedIn(t) })
	for _, b := range people {
		go func() {
			for t.Context().Err() == nil {
				_, _ = b.at(r.programs[1]).try(t.Context(), "GET", "/api/session", nil)
				time.Sleep(10 * time.Millisecond)
			}
		}()
	}
	r.start(t, first)
	if took := time.Since(back); took > 8*time.Second {
		t.Skipf("it took %v to start again: for so long the others wait for nobody", took)
	}
	eventually(t, "what came meanwhile to be stored", func() bool { return spooled() == 0 })
	for i, b := range people {
		if g := b.generation(t); g != 2 {
			t.Errorf("session %d has generation %v", i, g)
		}
		if a := b.do(t, "POST", "/api/renew-token", nil); a.json(t)["outcome"] != "rotated" {
			t.Errorf("session %d is stuck: %s", i, a.body)
		}
	}
	onceEach(t, idp)
}

// What one replica does to a grant shows on the pages that another serves.
func TestARenewalOnOneReplicaShowsAtAnother(t *testing.T) {
	t.Parallel()
	r := startReplicas(t, scripted.New(t), "", "--renew-mode=on-demand")
	alice := r.people(t, 1)[0]
	s := alice.at(r.programs[0]).listen(t)
	s.next()
	for n := range 5 {
		began := time.Now()
		alice.at(r.programs[1+n%2]).do(t, "POST", "/api/renew-token", nil)
		if renewal, _ := s.next(); renewal.event != "renewal" || time.Since(began) > missed {
			t.Errorf("%+v after %v", renewal, time.Since(began))
		}
		s.next()
	}
	began := time.Now()
	alice.at(r.programs[2]).staying().do(t, "POST", "/auth/signout", nil)
	if end, _ := s.next(); end.event != "signedout" || time.Since(began) > missed {
		t.Errorf("%+v after %v", end, time.Since(began))
	}
}

func containsAll(text string, parts ...string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}
