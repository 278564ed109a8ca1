package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// leaseTTL is how soon after its holder's death a grant is free again. A running call extends its lease well before.
	leaseTTL    = 6 * time.Second
	leaseExtend = 2 * time.Second
	// afterglow is how long an ended call is remembered for requests that had arrived before it ended.
	afterglow = 2 * time.Second
	// waitSlack lets a call that ends at its own time-out still answer those who wait just as long.
	waitSlack = 500 * time.Millisecond
)

// RotatorConfig is what a Rotator is made of. All fields are needed.
type RotatorConfig struct {
	Vault        Vault
	Providers    Providers
	Grants       *Grants // revokes tokens that arrive for a grant that is gone
	Callbacks    Callbacks
	RenewTimeout time.Duration // bound on one token endpoint call
	Now          func() time.Time
	Log          *slog.Logger
}

// Rotator renews grants, one call of the token endpoint at a time for a grant, and lets everybody who comes meanwhile
// share the answer. A call outlives the request that asked for it. It is safe for concurrent use.
type Rotator struct {
	RotatorConfig
	owner string // of leases: this process

	mu       sync.Mutex
	flights  map[string]*flight
	checking map[string]time.Time // grants whose pending id token is being checked, and when that may be tried again
	draining bool
	running  sync.WaitGroup
}

// flight is one renewal that runs in this process, or has just ended.
type flight struct {
	done   chan struct{}
	ended  time.Time // with a monotonic reading; set before done is closed
	result Result
	err    error
}

// View is a grant and what it is good for now.
type View struct {
	Grant   *Grant
	State   State
	NextAt  time.Time // next automatic renewal; zero: never
	Running bool      // a renewal runs beside this answer

	Renewable bool
}

// Result is the answer to a wish for renewal.
type Result struct {
	View
	Outcome Outcome // empty: no renewal was needed
	Failure Failure // when the outcome is kept or refused
	Took    time.Duration
}

// NewRotator returns a Rotator.
func NewRotator(config RotatorConfig) *Rotator {
	return &Rotator{
		RotatorConfig: config, owner: rand.Text(),
		flights: map[string]*flight{}, checking: map[string]time.Time{},
	}
}

// Fresh reads a grant and renews it if it is due. While its access token is valid the renewal runs beside and Fresh
// does not wait; once it has expired Fresh waits for the renewal, at most RenewTimeout. The view may be of an expired
// grant all the same: its State says so. The error is the vault's.
func (r *Rotator) Fresh(ctx context.Context, id string) (View, error) {
	asked := time.Now()
	g, err := r.Vault.Get(ctx, id)
	if err != nil {
		return View{}, err
	}
	provider, ok := r.Providers.Lookup(g.Identity.Provider)
	if !ok {
		return r.view(g), nil
	}
	now := r.Now()
	policy := provider.Policy()
	r.checkPending(ctx, provider, g)
	if struck := !g.PresentingAt.IsZero() && policy.Renewable(g); !struck && !policy.Due(g, now) {
		return r.view(g), nil
	}
	f := r.join(ctx, id, TriggerAutomatic, asked)
	if f == nil || g.Tokens.ValidAt(now) {
		return r.view(g), nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.RenewTimeout+waitSlack)
	defer cancel()
	select {
	case <-f.done:
	case <-ctx.Done():
		return r.view(g), nil
	}
	if errors.Is(f.err, ErrNotFound) {
		return View{}, f.err
	}
	if f.err != nil || f.result.Grant == nil {
		return r.view(g), nil
	}
	return r.view(f.result.Grant), nil
}

// Renew renews a grant now, or only if it is due when the trigger is not a forced one, and waits for the answer, at most
// RenewTimeout. asked is when the request arrived, with a monotonic reading: a renewal that ended after that is its answer. A
// failed renewal is a Result, not an error; the error is the vault's.
func (r *Rotator) Renew(ctx context.Context, id string, trigger Trigger, asked time.Time) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, r.RenewTimeout+waitSlack)
	defer cancel()
	for {
		f := r.join(ctx, id, trigger, asked)
		if f == nil {
			return r.unanswered(ctx, id, Failure{Code: CodeShuttingDown, Party: PartyKeyturn})
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return r.unanswered(context.WithoutCancel(ctx), id, Failure{Code: CodeTimeout, Party: PartyProvider})
		}
		// A flight that found nothing due has not answered somebody who wants a renewal in any case.
		if f.err == nil && trigger.Forced() && f.result.Outcome == "" {
			asked = f.ended
			continue
		}
		result := f.result
		if f.err == nil {
			result.View = r.view(result.Grant)
		}
		return result, f.err
	}
}

// unanswered is the result when the renewal did not end in time: the existing tokens, and why.
func (r *Rotator) unanswered(ctx context.Context, id string, why Failure) (Result, error) {
	g, err := r.Vault.Get(ctx, id)
	if err != nil {
		return Result{}, err
	}
	return Result{View: r.view(g), Outcome: OutcomeKept, Failure: why}, nil
}

// Drain lets running renewals finish and begins no new ones. It returns when none runs any more, or ctx is done.
func (r *Rotator) Drain(ctx context.Context) error {
	r.mu.Lock()
	r.draining = true
	r.mu.Unlock()
	if err := waitGroup(ctx, &r.running); err != nil {
		return fmt.Errorf("renewals still running: %w", err)
	}
	return nil
}

// view is what the grant is good for now, without a look at the vault.
func (r *Rotator) view(g *Grant) View {
	r.mu.Lock()
	f := r.flights[g.ID]
	running := f != nil && f.ended.IsZero()
	r.mu.Unlock()
	v := View{Grant: g, Running: running}
	if provider, ok := r.Providers.Lookup(g.Identity.Provider); ok {
		policy := provider.Policy()
		v.NextAt, v.Renewable = policy.NextAt(g), policy.Renewable(g)
		v.State = policy.State(g, r.Now(), running)
		return v
	}
	v.State = StateFresh
	if !g.Tokens.ValidAt(r.Now()) {
		v.State = StateExpired
	}
	return v
}

// join returns the flight that answers a request that arrived at asked: the one that runs, one that ended later than
// that, or a new one. It is nil when the process drains.
func (r *Rotator) join(ctx context.Context, id string, trigger Trigger, asked time.Time) *flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.flights[id]; f != nil && (f.ended.IsZero() || f.ended.After(asked)) {
		return f
	}
	if r.draining {
		return nil
	}
	f := &flight{done: make(chan struct{})}
	r.flights[id] = f
	r.running.Go(func() {
		f.result, f.err = r.fly(context.WithoutCancel(ctx), id, trigger)
		r.mu.Lock()
		f.ended = time.Now()
		r.mu.Unlock()
		close(f.done)
		time.AfterFunc(afterglow, func() { r.forget(id, f) })
	})
	return f
}

func (r *Rotator) forget(id string, f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.flights[id] == f {
		delete(r.flights, id)
	}
}

// fly runs one renewal under the grant's lease, and turns a panic into an error so that nobody waits for ever.
func (r *Rotator) fly(ctx context.Context, id string, trigger Trigger) (result Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("renew grant: panic: %v", p)
			_ = r.Vault.Release(ctx, id, r.owner)
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			r.Log.ErrorContext(ctx, "renewal could not run", "grant", id, "trigger", trigger, "error", err)
		}
	}()
	g, leased, err := r.acquire(ctx, id)
	if err != nil || !leased {
		return Result{View: View{Grant: g}, Outcome: outcomeOf(g)}, err
	}
	defer r.keepLease(ctx, id)()
	return r.renew(ctx, g, trigger)
}

func outcomeOf(g *Grant) Outcome {
	if g == nil {
		return ""
	}
	return g.Standing.Outcome
}

// acquire takes the grant's lease. While another process holds it, acquire waits; a newer generation that appears
// meanwhile is the answer, and then leased is false.
func (r *Rotator) acquire(ctx context.Context, id string) (g *Grant, leased bool, err error) {
	g, err = r.Vault.Lease(ctx, id, r.owner, leaseTTL)
	if !errors.Is(err, ErrLeased) {
		return g, err == nil, err
	}
	before, err := r.Vault.Get(ctx, id)
	if err != nil {
		return nil, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*r.RenewTimeout+leaseTTL)
	defer cancel()
	for delay := 20 * time.Millisecond; ; delay = min(2*delay, 250*time.Millisecond) {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, false, fmt.Errorf("renew grant: %w", ErrLeased)
		}
		g, err = r.Vault.Lease(ctx, id, r.owner, leaseTTL)
		switch {
		case err == nil && g.Generation == before.Generation:
			return g, true, nil
		case err == nil:
			return g, false, r.Vault.Release(ctx, id, r.owner)
		case !errors.Is(err, ErrLeased):
			return nil, false, err
		}
		if g, err = r.Vault.Get(ctx, id); err != nil || g.Generation > before.Generation {
			return g, false, err
		}
	}
}

// keepLease extends the lease until the returned function is called.
func (r *Rotator) keepLease(ctx context.Context, id string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var extending sync.WaitGroup
	extending.Go(func() {
		ticker := time.NewTicker(leaseExtend)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if err := r.Vault.Extend(ctx, id, r.owner, leaseTTL); errors.Is(err, ErrStale) {
				return
			}
		}
	})
	return func() { cancel(); extending.Wait() }
}
