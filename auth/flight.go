package auth

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// afterglow is how long an ended call is remembered for requests that had arrived before it ended.
const afterglow = 2 * time.Second

// flight is one renewal that runs in this process, or has just ended.
type flight struct {
	calling  atomic.Bool           // the token endpoint is being called, or was
	answered atomic.Bool           // it has answered, and what that left is being stored
	sharers  atomic.Int32          // who waited besides the one that began it
	from     atomic.Pointer[Grant] // what it renews; nil: it has only begun

	awaited bool // from the beginning: what another process renews is waited for

	turn   *turn     // at the provider
	turnAt time.Time // when that came

	done   chan struct{}
	ended  time.Time // with a monotonic reading; set before done is closed, as is what follows
	result Result
	idle   bool // nothing was tried
	passed bool // another process has the grant, and its renewal was not waited for
	err    error
}

// renews says whether the grant is being renewed as it is in g. A flight goes on for a moment when its outcome is stored already, and
// pages are told of it.
func (f *flight) renews(g *Grant) bool {
	from := f.from.Load()
	return f.ended.IsZero() && (from == nil || !g.triedSince(from))
}

// join returns the flight that answers a request that arrived at asked: the one that runs, one that ended later than
// that, or a new one; joined tells which. It is nil when the process drains. leave ends the turn that the caller, who does
// not wait, has taken in the provider's lane; nil: the flight takes its own.
func (r *Rotator) join(ctx context.Context, id string, trigger Trigger, asked time.Time, leave func()) (f *flight, joined bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f = r.flights[id]
	if f != nil {
		f.turn.hasten(trigger.urgency()) // somebody may ask, who may have what is kept free for that
	}
	if joined = f != nil && (f.ended.IsZero() || f.ended.After(asked)); joined || r.draining {
		if leave != nil {
			leave()
		}
		if !joined {
			f = nil
		}
		return f, joined
	}
	f = &flight{done: make(chan struct{}), awaited: leave == nil, turn: newTurn(id, trigger.urgency())}
	r.flights[id] = f
	r.running.Go(func() {
		r.fly(context.WithoutCancel(ctx), f, id, trigger, leave)
		r.mu.Lock()
		f.ended = time.Now()
		r.mu.Unlock()
		close(f.done)
		time.AfterFunc(afterglow, func() { r.forget(id, f) })
	})
	return f, false
}

func (r *Rotator) forget(id string, f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flights[id] == f {
		delete(r.flights, id)
	}
}

// fly runs one renewal, and turns a panic into an error so that nobody waits for ever.
func (r *Rotator) fly(ctx context.Context, f *flight, id string, trigger Trigger, leave func()) {
	ctx, span := r.Tracer.Start(ctx, "renewal")
	defer func() {
		if leave != nil {
			leave()
		}
		if p := recover(); p != nil {
			// The lease and the mark stay: whoever comes when the lease has run out takes the call for a struck one.
			f.err = fmt.Errorf("renew grant: panic: %v", p)
		}
		if f.err != nil && !errors.Is(f.err, ErrNotFound) {
			r.Log.ErrorContext(ctx, "renewal could not run", "grant", id, "trigger", trigger, "error", f.err)
		}
		r.noteUndecided(id, f)
		f.describe(span, trigger)
		span.End()
	}()
	r.awaitCallback(id)
	g, err := r.read(ctx, id)
	if err != nil {
		f.err = err
		return
	}
	if r.onShelf(id) {
		f.stays(g, trigger, Failure{Code: CodeStorage, Party: PartyKeyturn})
		return
	}
	if no := r.prepare(&attempt{before: g, trigger: trigger, began: r.Now()}); no != nil {
		// Before anything is written, since the Scheduler comes by again and again, and whatever is the matter with the provider.
		f.result = Result{View: View{Grant: g}, Outcome: no.outcome, Failure: no.why}
		f.idle = f.untried(trigger)
		return
	}
	if leave == nil {
		if leave, err = r.queue(ctx, g, f.turn); err != nil {
			f.stays(g, trigger, r.whyNot(g, err))
			return
		}
		if f.turn.waited {
			// What has ended meanwhile is no answer to somebody who came after that.
			if g, f.err = r.read(ctx, id); f.err != nil {
				return
			}
		}
	}
	f.turnAt = time.Now()
	f.from.Store(g)
	r.leaseAndRenew(ctx, f, g, trigger)
}

// leaseAndRenew renews a grant under its lease. What another process has tried since the grant was read is the answer, whether or not it
// brought tokens, unless those have run out by now.
func (r *Rotator) leaseAndRenew(ctx context.Context, f *flight, g *Grant, trigger Trigger) {
	leasing, gotLease := r.step(ctx, "lease")
	a := attempt{flight: f, before: g, trigger: trigger, began: r.Now()}
	leased, held, err := g, true, r.claim(leasing, &a)
	if errors.Is(err, ErrStale) {
		answered := func(now *Grant) bool {
			return now.triedSince(g) && (now.Tokens.ValidAt(r.Now()) || !now.Standing.Outcome.Succeeded())
		}
		if f.awaited {
			// A call that begins while the process drains would hold it up.
			leased, held, err = r.acquire(leasing, g.ID, answered, r.quit.Done())
		} else {
			leased, held, err = r.take(leasing, g.ID, answered)
		}
		if a.before, a.began = leased, r.Now(); held {
			f.from.Store(leased)
		}
	}
	gotLease(err)
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrUnreadable):
		f.err = err
	case errors.Is(err, ErrLeased):
		f.passed = !f.awaited
		why := Failure{Code: CodeBusy, Party: PartyKeyturn}
		if r.quit.Err() != nil {
			why.Code = CodeShuttingDown
		}
		f.stays(g, trigger, why)
	case err != nil:
		// Without the lease and the mark no refresh token is presented.
		r.sayUnbegun(ctx, g.ID, trigger, err)
		f.stays(g, trigger, Failure{Code: CodeStorage, Party: PartyKeyturn})
	case !held:
		r.Counters.shared(1 + int(f.sharers.Load()))
		f.result = Result{View: View{Grant: leased}, Outcome: leased.Standing.Outcome, Failure: leased.Standing.Failure}
		if err := r.Vault.Shared(ctx, g.ID, leased.Generation, 1+int(f.sharers.Load())); err != nil {
			r.Log.WarnContext(ctx, "shared renewal not noted", "grant", g.ID, "error", err)
		}
	default:
		defer r.keepLease(ctx, g.ID)()
		r.renew(ctx, a)
	}
}

// queue waits for a turn at the grant's provider, as long as the process does not drain.
func (r *Rotator) queue(ctx context.Context, g *Grant, t *turn) (leave func(), err error) {
	ctx, queued := r.step(ctx, "queue")
	defer func() { queued(err) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.quit, cancel)()
	return r.lane(g.Identity.Provider).enter(ctx, t)
}

// whyNot is why a renewal got no turn.
func (r *Rotator) whyNot(g *Grant, err error) Failure {
	if errors.Is(err, errResting) {
		why, _, _ := r.lane(g.Identity.Provider).ailing(g.ID, 0)
		return why
	}
	return Failure{Code: CodeShuttingDown, Party: PartyKeyturn}
}

// endsSoon waits a moment more for a flight whose provider has answered, unless whoever waits has hung up, and says whether it has ended.
func (f *flight) endsSoon(over error) bool {
	if !f.answered.Load() || !errors.Is(over, context.DeadlineExceeded) {
		return false
	}
	select {
	case <-f.done:
		return true
	case <-time.After(storeSlack):
		return false
	}
}

// unended is why a flight has no answer in time; nil is one that could not begin. bound is how long a provider may take: one that was asked
// late, because others came first, may have time left.
func (f *flight) unended(bound time.Duration) Failure {
	switch {
	case f == nil:
		return Failure{Code: CodeShuttingDown, Party: PartyKeyturn}
	case f.answered.Load():
		return Failure{Code: CodeStorage, Party: PartyKeyturn}
	case f.calling.Load() && (!f.turn.waited || time.Since(f.turnAt) >= bound): // both are set before it calls
		return Failure{Code: CodeTimeout, Party: PartyProvider}
	}
	return Failure{Code: CodeBusy, Party: PartyKeyturn}
}

// stays ends a flight that tried nothing.
func (f *flight) stays(g *Grant, trigger Trigger, why Failure) {
	f.result = Result{View: View{Grant: g}, Outcome: OutcomeKept, Failure: why}
	f.idle = f.untried(trigger)
}

// untried says whether the result is of nothing that was tried. A wish for renewal in any case has been tried by what kept it.
func (f *flight) untried(trigger Trigger) bool {
	return f.result.Outcome == "" || f.result.Outcome == OutcomeKept && !trigger.Forced() && !f.calling.Load()
}
