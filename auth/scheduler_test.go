package auth_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
)

// schedule runs a Scheduler until the returned function is called.
func (h *house) schedule(t *testing.T, onDemand bool) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &auth.Scheduler{
		Vault: h.config.Vault, Rotator: h.rotator, Providers: h.config.Providers, OnDemand: onDemand, Now: h.config.Now, Log: h.config.Log,
	}
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if err := h.rotator.Drain(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// struckInTheMiddle leaves what a process leaves that dies between the provider's commit and its own.
func (h *house) struckInTheMiddle(t *testing.T) {
	t.Helper()
	if _, err := h.db.Lease(t.Context(), h.grant.ID, "dead", time.Second); err != nil {
		t.Fatal(err)
	}
	if err := h.db.Present(t.Context(), h.grant.ID, "dead", time.Now()); err != nil {
		t.Fatal(err)
	}
	p, _ := h.config.Providers.Lookup("work")
	if _, err := p.Renew(t.Context(), h.grant.Tokens, true); err != nil {
		t.Fatal(err)
	}
	h.diesAndStarts(t, h.config)
}

func (h *house) history(t *testing.T) []auth.Renewal {
	t.Helper()
	list, err := h.db.History(t.Context(), h.grant.ID, 0, 200)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestDueGrantsAreRenewedWithNobodyWatching(t *testing.T) {
	t.Parallel()
	for _, class := range allClasses() {
		t.Run(fmt.Sprint("class ", class), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, options{lifetime: 2 * time.Second, spread: true, idp: func(p *scripted.Provider) { p.Class = class }})
			stop := h.schedule(t, false)
			waitFor(t, "three renewals", func() bool { return h.stored(t).Generation >= 4 })
			stop()
			for _, r := range h.history(t) {
				if r.Trigger != auth.TriggerBackground || !r.Outcome.Succeeded() || !r.At.Before(r.OldExpiry) {
					t.Errorf("%s by %s at %v, the old token lived until %v", r.Outcome, r.Trigger, r.At, r.OldExpiry)
				}
			}
			if most := h.idp.MostPresented(); most != 1 && class != scripted.Static {
				t.Errorf("a refresh token was presented %d times", most)
			}
		})
	}
}

func TestOnDemandRenewsWhatWasStruckOnly(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{lifetime: time.Second, idp: func(p *scripted.Provider) { p.Class, p.Interval = scripted.SameSuccessor, 10*time.Second }})
	due := h.grant
	h.grant = h.signIn(t)
	h.struckInTheMiddle(t)
	h.schedule(t, true)
	waitFor(t, "the recovery", func() bool { return h.stored(t).Generation == 2 })
	time.Sleep(time.Second)
	if r := h.history(t); len(r) != 1 || r[0].Trigger != auth.TriggerRecovery {
		t.Errorf("%+v", r)
	}
	if g, err := h.db.Get(t.Context(), due.ID); err != nil || g.Generation != 1 {
		t.Errorf("a due grant was renewed: generation %d, %v", g.Generation, err)
	}
}

func TestWhatWasStruckIsTakenUpFirst(t *testing.T) {
	t.Parallel()
	for class, want := range map[scripted.Class]auth.Outcome{
		scripted.Static: auth.OutcomeRenewed, scripted.SameSuccessor: auth.OutcomeRotated, scripted.Sibling: auth.OutcomeRotated,
		scripted.Strict: auth.OutcomeRefused, scripted.FamilyRevoked: auth.OutcomeRefused,
	} {
		t.Run(fmt.Sprint("class ", class), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, options{idp: func(p *scripted.Provider) { p.Class, p.Interval = class, 3*time.Second }})
			h.struckInTheMiddle(t)
			h.schedule(t, false)
			waitFor(t, "the recovery", func() bool { return len(h.history(t)) == 1 })
			if r := h.history(t)[0]; r.Outcome != want || r.Trigger != auth.TriggerRecovery || r.Warning != auth.CodeReplayedAfterCrash {
				t.Errorf("%s by %s, warning %q; want %s by recovery", r.Outcome, r.Trigger, r.Warning, want)
			}
			if calls := h.idp.TokenCalls(); calls != 2 {
				t.Errorf("%d token calls, want 2", calls)
			}
			if g := h.stored(t); want == auth.OutcomeRefused && g.Standing.Failure.Replay != auth.CodeReplayedAfterCrash {
				t.Errorf("the page cannot say what happened: %+v", g.Standing)
			}
		})
	}
	t.Run("not before the expiry where a replay ends the access token too", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t, options{lifetime: 3 * time.Second, onUnknown: auth.RetryAtExpiry})
		h.struckInTheMiddle(t)
		h.schedule(t, false)
		waitFor(t, "the note that the outcome is unknown", func() bool { return len(h.history(t)) == 1 })
		if r := h.history(t)[0]; r.Code != auth.CodeOutcomeUnknown || h.idp.TokenCalls() != 1 {
			t.Errorf("%+v after %d calls", r, h.idp.TokenCalls())
		}
		waitFor(t, "the replay", func() bool { return h.idp.TokenCalls() == 2 })
		if left := time.Until(h.grant.Tokens.ExpiresAt); left > 0 {
			t.Errorf("the replay came %v before the expiry", left)
		}
	})
}

// Many grants that are due at once: the provider sees no more calls at once than it may, and what people ask for
// is not held up.
func TestAStorm(t *testing.T) {
	t.Parallel()
	const most, grants = 8, 300
	h := newHouse(t, options{lifetime: time.Minute, most: most})
	ids := []string{h.grant.ID}
	for range grants - 1 {
		ids = append(ids, h.signIn(t).ID)
	}
	// All of them are due: their tokens are as old as one wants.
	later := time.Now().Add(50 * time.Second)
	h.config.Now = func() time.Time { return later }
	h.rotator = auth.NewRotator(h.config)
	h.idp.Change(func() { slow(20 * time.Millisecond)(h.idp) })
	h.schedule(t, false)
	waitFor(t, "the storm", func() bool { return h.idp.TokenCalls() > 20 })
	began := time.Now()
	if result, err := h.rotator.Renew(t.Context(), ids[grants-1], auth.TriggerManual, time.Now()); err != nil || !result.Outcome.Succeeded() {
		t.Errorf("a click in the storm: %s, %v", result.Outcome, err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("a click in the storm took %v", took)
	}
	waitFor(t, "all renewals", func() bool { return h.idp.TokenCalls() >= grants })
	if seen := h.idp.MostAtOnce(); seen > most {
		t.Errorf("%d calls at once, want at most %d", seen, most)
	}
	if twice := h.idp.MostPresented(); twice != 1 {
		t.Errorf("a refresh token was presented %d times", twice)
	}
}

// A provider that is down for everybody is probed, not stormed; it does not hold up another one's grants; and when it is back
// all is fresh soon.
func TestAnOutage(t *testing.T) {
	t.Parallel()
	const grants = 200
	var down atomic.Bool
	h := newHouse(t, options{lifetime: time.Minute, idp: func(p *scripted.Provider) {
		p.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
			if down.Load() {
				w.WriteHeader(http.StatusBadGateway)
			}
			return down.Load()
		}
	}})
	for range grants - 1 {
		h.signIn(t)
	}
	down.Store(true)
	later := time.Now().Add(50 * time.Second)
	h.config.Now = func() time.Time { return later }
	h.rotator = auth.NewRotator(h.config)
	h.schedule(t, false)
	time.Sleep(4 * time.Second)
	if calls := h.idp.TokenCalls(); calls < 3 || calls > 40 {
		t.Errorf("%d calls in 4 s of an outage, want a few", calls)
	}
	view, err := h.rotator.Fresh(t.Context(), h.signIn(t).ID)
	if err != nil || view.State != auth.StateDue || view.Problem.Code != auth.CodeHTTPStatus || view.Problem.Party != auth.PartyProvider {
		t.Errorf("%s, %+v, %v", view.State, view.Problem, err)
	}
	down.Store(false)
	before := h.idp.TokenCalls()
	waitFor(t, "all to be fresh", func() bool { return h.idp.TokenCalls()-before >= grants-40 })
}

// The clock is set an hour ahead or back: one renewal follows and no loop, and no token dies unrenewed.
func TestAClockThatJumps(t *testing.T) {
	t.Parallel()
	for name, jump := range map[string]time.Duration{"ahead": time.Hour, "back": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var offset atomic.Int64
			now := func() time.Time { return time.Now().Add(time.Duration(offset.Load())).Round(0) }
			h := newHouse(t, options{lifetime: 10 * time.Minute, now: now, idp: func(p *scripted.Provider) { p.Class = scripted.Strict }})
			stop := h.schedule(t, false)
			time.Sleep(time.Second)
			if calls := h.idp.TokenCalls(); calls != 0 {
				t.Fatalf("%d calls before the jump", calls)
			}
			offset.Store(int64(jump))
			waitFor(t, "the renewal", func() bool { return h.stored(t).Generation == 2 })
			time.Sleep(2 * time.Second)
			offset.Store(0)
			// What came under the wrong clock is from the future, or dead.
			waitFor(t, "the renewal after the correction", func() bool { return h.stored(t).Generation == 3 })
			time.Sleep(time.Second)
			stop()
			if g := h.stored(t); g.Generation != 3 || !g.Tokens.ValidAt(now().Add(5*time.Minute)) {
				t.Errorf("generation %d, expires %v", g.Generation, g.Tokens.ExpiresAt)
			}
		})
	}
}
