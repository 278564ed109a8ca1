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
	"keyturn/auth/authtest"
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

// looked counts how often a Scheduler looks for grants.
type looked struct {
	auth.Vault
	times atomic.Int32
}

func (l *looked) Struck(ctx context.Context, provider string, limit int) ([]auth.Candidate, error) {
	l.times.Add(1)
	return l.Vault.Struck(ctx, provider, limit)
}

// counting has the house's next Scheduler counted; more waits until that has looked so many times more.
func (h *house) counting() (more func(t *testing.T, times int32)) {
	l := &looked{Vault: h.config.Vault}
	h.config.Vault = l
	return func(t *testing.T, times int32) {
		t.Helper()
		from := l.times.Load()
		waitFor(t, "the Scheduler to look", func() bool { return l.times.Load() > from+times })
	}
}

// struckInTheMiddle leaves what a process leaves that dies between the provider's commit and its own.
func (h *house) struckInTheMiddle(t *testing.T) {
	t.Helper()
	if _, err := h.db.Lease(t.Context(), h.grant.ID, "dead", time.Minute); err != nil {
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
			h := newHouse(t, options{maxAge: time.Second, lifetime: time.Minute, spread: true, idp: func(p *scripted.Provider) { p.Class = class }})
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
	more := h.counting()
	h.schedule(t, true)
	waitFor(t, "the recovery", func() bool { return h.stored(t).Generation == 2 })
	more(t, 3)
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
		waitFor(t, "the end", func() bool { return len(h.history(t)) == 2 })
		if r := h.history(t)[0]; r.Warning != auth.CodeReplayedAfterCrash {
			t.Errorf("it is told as %q", r.Warning)
		}
	})
}

// leases counts how often the vault is asked for one, which is a write, and how often for a grant.
type leases struct {
	auth.Vault
	taken, read atomic.Int32
}

// Get implements auth.Vault.
func (l *leases) Get(ctx context.Context, id string) (*auth.Grant, error) {
	l.read.Add(1)
	return l.Vault.Get(ctx, id)
}

// Lease implements auth.Vault.
func (l *leases) Lease(ctx context.Context, id, owner string, ttl time.Duration) (*auth.Grant, error) {
	l.taken.Add(1)
	return l.Vault.Lease(ctx, id, owner, ttl)
}

// elsewhere are providers of which one has the name of another, whose grants are there still.
type elsewhere struct{ auth.Providers }

// Of implements auth.Providers.
func (elsewhere) Of(auth.Identity) (auth.Provider, bool) { return nil, false }

// A grant for which nothing can be done is looked at now and then, and not written to.
func TestGrantsThatNothingCanBeDoneForAreLeftAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(t *testing.T) (*house, auth.RotatorConfig)
		most    int32
	}{
		"of another issuer": {func(t *testing.T) (*house, auth.RotatorConfig) {
			h := newHouse(t, options{lifetime: time.Second})
			config := h.config
			config.Providers = elsewhere{config.Providers}
			return h, config
		}, 0},
		"while the spool cannot be read": {func(t *testing.T) (*house, auth.RotatorConfig) {
			h, _ := rotatesOntoAFullDisk(t, scripted.FamilyRevoked)
			config, fails := h.config, &atomic.Bool{}
			fails.Store(true)
			config.Vault, config.Spool = h.db, moodySpool{config.Spool, fails}
			return h, config
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, config := c.prepare(t)
			counting := &leases{Vault: config.Vault}
			config.Vault = counting
			h.config = config
			h.diesAndStarts(t, config)
			more := h.counting()
			stop := h.schedule(t, false)
			more(t, 8)
			stop()
			if n, looks := counting.taken.Load(), counting.read.Load(); n > c.most || looks == 0 {
				t.Errorf("leased %d times, read %d times", n, looks)
			}
		})
	}
}

// forgetful is a vault that cannot be read the first times.
type forgetful struct {
	auth.Vault
	times atomic.Int32
}

// Get implements auth.Vault.
func (f *forgetful) Get(ctx context.Context, id string) (*auth.Grant, error) {
	if f.times.Add(-1) >= 0 {
		return nil, context.DeadlineExceeded
	}
	return f.Vault.Get(ctx, id)
}

// A database that could not be read for a moment keeps nobody's token from being renewed for longer.
func TestAGrantThatCouldNotBeReadIsTakenUpSoon(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{lifetime: time.Second})
	vault := &forgetful{Vault: h.config.Vault}
	h.config.Vault = vault
	h.diesAndStarts(t, h.config)
	vault.times.Store(1)
	h.schedule(t, false)
	waitFor(t, "a renewal", func() bool { return h.idp.TokenCalls() > 0 })
}

// A provider that is down for everybody is probed, not stormed; nobody is signed out; and when it is back all is fresh
// soon, without a stampede.
func TestAnOutage(t *testing.T) {
	t.Parallel()
	const most = 8
	grants := authtest.Soak(200, 1000, 1000)
	lasts := time.Duration(authtest.Soak(4, 20, 600)) * time.Second
	var down atomic.Bool
	h := newHouse(t, options{lifetime: 4*lasts + 2*time.Second, leeway: time.Hour, most: most, maxAge: 24 * time.Hour, idp: func(p *scripted.Provider) {
		p.Class = scripted.Strict
		p.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
			if down.Load() {
				w.WriteHeader(http.StatusBadGateway)
			}
			return down.Load()
		}
	}})
	ids := h.crowd(t, grants)
	down.Store(true)
	// The outage begins when all are due, and ends when their tokens are about to.
	ahead := 3*lasts + 1700*time.Millisecond
	h.config.Now = func() time.Time { return time.Now().Add(ahead) }
	h.rotator = auth.NewRotator(h.config)
	h.schedule(t, false)
	time.Sleep(lasts / 2)
	view, err := h.rotator.Fresh(t.Context(), ids[grants-1])
	if err != nil || view.State != auth.StateDue || view.Problem.Code != auth.CodeHTTPStatus || view.Problem.Party != auth.PartyProvider {
		t.Errorf("%s, %+v, %v", view.State, view.Problem, err)
	}
	time.Sleep(lasts / 2)
	calls := h.idp.TokenCalls()
	if gentle := 20 + int(lasts/(5*time.Second)); calls < 3 || calls > gentle {
		t.Errorf("%d calls in %v of an outage, want at most %d", calls, lasts, gentle)
	}
	down.Store(false)
	began := time.Now()
	// Those few that have failed on their own wait for their own next try.
	for h.idp.TokenCalls()-calls < grants-calls && time.Since(began) < 90*time.Second {
		time.Sleep(10 * time.Millisecond)
	}
	if fresh := h.idp.TokenCalls() - calls; fresh < grants-calls {
		t.Errorf("%d of %d renewed in %v after the outage", fresh, grants, time.Since(began))
	}
	if seen := h.idp.MostAtOnce(); seen > most {
		t.Errorf("%d calls at once, want at most %d", seen, most)
	}
	for _, id := range ids {
		if g, err := h.db.Get(t.Context(), id); err != nil || g.Standing.Refused {
			t.Errorf("signed out by an outage: %v", err)
		}
	}
	t.Logf("%d calls in the outage of %v, all fresh %v after it", calls, lasts, time.Since(began).Round(time.Millisecond))
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
