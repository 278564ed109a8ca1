package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

const (
	// waitSlack lets a call that ends at its own time-out still answer those who wait just as long.
	waitSlack = 100 * time.Millisecond
	// storeSlack is how much longer they wait for tokens that have come and are being stored. A database that takes longer is slow.
	storeSlack = 500 * time.Millisecond
)

// RotatorConfig is what a Rotator is made of. All fields are needed but the last two.
type RotatorConfig struct {
	Vault        Vault
	Spool        Spool
	Providers    Providers
	Grants       *Grants // revokes tokens that arrive for a grant that is gone
	Callbacks    Callbacks
	Events       *Events
	RenewTimeout time.Duration // bound on one token endpoint call
	Now          func() time.Time
	Log          *slog.Logger
	Called       func(provider string, took time.Duration) // after each call of a token endpoint
	Tracer       trace.Tracer                              // of the spans of renewals
}

// Rotator renews grants, one call of the token endpoint at a time for a grant, and lets everybody who comes meanwhile
// share the answer. A call outlives the request that asked for it. It is safe for concurrent use.
type Rotator struct {
	RotatorConfig
	Counters *Counters

	unbegun   Complaint       // about renewals that could not begin
	unstored  Complaint       // about those that the database does not take at once
	unspooled Complaint       // about those that are in memory only
	nonces    Complaint       // about id tokens that carry another sign-in's nonce
	leaving   atomic.Bool     // the process ends soon
	owner     string          // of leases: this process
	quit      context.Context // ends when draining begins
	endQuit   context.CancelFunc

	mu        sync.Mutex
	flights   map[string]*flight
	lanes     map[string]*lane
	shelf     map[string]shelved
	storing   bool                     // somebody keeps trying to empty the shelf
	settling  map[string]chan struct{} // grants whose renewal is stored while its Token callback still runs
	undecided undecided
	checking  map[string]time.Time // grants whose pending id token is being checked, and when that may be tried again
	draining  bool
	running   sync.WaitGroup
}

// View is a grant and what it is good for now.
type View struct {
	Grant   *Grant
	State   State
	RipeAt  time.Time // when the token set becomes due
	NextAt  time.Time // from when on a request renews it by itself; zero: never
	PlanAt  time.Time // when it is renewed if no request comes: NextAt, or a little later, see Policy.PlanAt
	Running bool      // a renewal runs beside this answer
	Problem Failure   // why it is not renewed, if it is not: the latest try's failure, or the provider's state

	Renewable bool
	OnRequest bool // nobody renews it before a request comes
}

// Result is the answer to a wish for renewal.
type Result struct {
	View
	Outcome Outcome // empty: no renewal was needed
	Failure Failure // when the outcome is kept or refused
	Warning string  // something odd about a renewal that succeeded; a Code… constant
	Took    time.Duration
}

// NewRotator returns a Rotator. It takes up what an earlier process left in the spool.
func NewRotator(config RotatorConfig) *Rotator {
	if config.Called == nil {
		config.Called = func(string, time.Duration) {}
	}
	if config.Tracer == nil {
		config.Tracer = noop.Tracer{}
	}
	r := &Rotator{
		RotatorConfig: config, Counters: &Counters{}, owner: rand.Text(),
		flights: map[string]*flight{}, lanes: map[string]*lane{}, shelf: map[string]shelved{}, checking: map[string]time.Time{},
		settling: map[string]chan struct{}{}, nonces: Complaint{Every: time.Hour},
	}
	for _, c := range []*Complaint{&r.unbegun, &r.unstored, &r.unspooled} {
		c.Every = storeSaid
	}
	r.quit, r.endQuit = context.WithCancel(context.Background())
	r.restore()
	return r
}

// Look reads a grant and renews nothing. The error is the vault's.
func (r *Rotator) Look(ctx context.Context, id string) (View, error) {
	g, err := r.read(ctx, id)
	if err != nil {
		return View{}, err
	}
	return r.view(g), nil
}

// Fresh reads a grant and renews it if it is due. While its access token is valid the renewal runs beside and Fresh
// does not wait; once it has expired Fresh waits for the renewal, at most RenewTimeout. The view may be of an expired
// grant all the same: its State says so. The error is the vault's.
func (r *Rotator) Fresh(ctx context.Context, id string) (View, error) {
	asked := time.Now()
	g, err := r.read(ctx, id)
	if err != nil {
		return View{}, err
	}
	provider, ok := r.Providers.Of(g.Identity)
	if !ok {
		return r.view(g), nil
	}
	now := r.Now()
	policy := r.policy(provider, g)
	r.checkPending(ctx, provider, g)
	if struck := g.StruckAt(now) && policy.Renewable(g); !struck && !policy.Due(g, now) {
		return r.view(g), nil
	}
	valid := g.Tokens.ValidAt(now)
	var leave func()
	if valid {
		// Nobody waits: what is renewed already is not tried, and without a free place at the provider a later request, or the
		// Scheduler, does it.
		if r.spares(g, asked) || g.takenAt(now) {
			return r.view(g), nil
		}
		if leave, ok = r.lane(g.Identity.Provider).try(g.ID, g.Tokens.ExpiresAt.Sub(now)); !ok {
			return r.view(g), nil
		}
	}
	f, joined := r.join(ctx, id, TriggerAutomatic, asked, leave)
	if f == nil || valid {
		return r.view(g), nil
	}
	ctx, cancel := withPatience(ctx, r.RenewTimeout+waitSlack)
	defer cancel()
	f, ended := r.await(ctx, id, TriggerAutomatic, f, joined)
	switch {
	case f == nil:
		return r.view(g), nil
	case !ended:
		if result, err := r.unanswered(context.WithoutCancel(ctx), id, f); err == nil || errors.Is(err, ErrNotFound) {
			return result.because(result.Failure), err
		}
		return r.view(g).because(f.unended(r.RenewTimeout)), nil
	case errors.Is(f.err, ErrNotFound):
		return View{}, f.err
	case f.err != nil:
		return r.view(g).because(Failure{Code: CodeStorage, Party: PartyKeyturn}), nil
	case f.result.Grant == nil:
		return r.view(g), nil
	default:
		return r.view(f.result.Grant).because(f.result.Failure), nil
	}
}

// sayUnbegun says, now and then while that goes on, that the database does not let renewals begin.
func (r *Rotator) sayUnbegun(ctx context.Context, id string, trigger Trigger, err error) {
	r.unbegun.Make(func(times int) {
		r.Log.ErrorContext(ctx, "renewals cannot begin", "grant", id, "trigger", trigger, "renewals", times, "error", err)
	})
}

// because adds why the renewal that was waited for brought no token, where the grant itself does not say so.
func (v View) because(why Failure) View {
	if v.State == StateExpired && v.Problem.Code == "" {
		v.Problem = why
	}
	return v
}

// Renew renews a grant now, or only if it is due when the trigger is not a forced one, and waits for the answer, at most
// RenewTimeout. asked is when the request arrived, with a monotonic reading: a renewal that ended after that is its answer. A
// failed renewal is a Result, not an error; the error is the vault's.
func (r *Rotator) Renew(ctx context.Context, id string, trigger Trigger, asked time.Time) (Result, error) {
	ctx, cancel := withPatience(ctx, r.RenewTimeout+waitSlack)
	defer cancel()
	if r.leaving.Load() {
		if g, err := r.read(ctx, id); err == nil && r.spares(g, asked) && r.wouldRenew(g, trigger) {
			return Result{View: r.view(g), Outcome: OutcomeKept, Failure: Failure{Code: CodeShuttingDown, Party: PartyKeyturn}}, nil
		}
	}
	for {
		f, joined := r.join(ctx, id, trigger, asked, nil)
		f, ended := r.await(ctx, id, trigger, f, joined)
		if !ended {
			return r.unanswered(context.WithoutCancel(ctx), id, f)
		}
		// A flight that tried nothing has not answered somebody who wants a renewal in any case; nor one in which a program's wish has
		// to wait, a person's.
		waits := trigger == TriggerManual && f.result.Failure.Code == CodeOutcomeUnknown && !f.calling.Load()
		if f.err == nil && trigger.Forced() && (f.idle || waits) {
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

// await waits for a flight that was joined, or begun. One that passed what another process renews is no answer to somebody who
// waits: the next follows it. f is nil when the process drains; ended is false when ctx was done first.
func (r *Rotator) await(ctx context.Context, id string, trigger Trigger, f *flight, joined bool) (_ *flight, ended bool) {
	for f != nil {
		if joined {
			f.sharers.Add(1)
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			if !f.endsSoon(ctx.Err()) {
				return f, false
			}
		}
		if !f.passed {
			return f, true
		}
		f, joined = r.join(ctx, id, trigger, f.ended, nil)
	}
	return nil, false
}

// unanswered is the result when a renewal did not end in time, or, without a flight, was not begun because the process drains: the
// existing tokens, and why. What has been stored since the flight began is its answer: another process may have been just in time.
func (r *Rotator) unanswered(ctx context.Context, id string, f *flight) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, storageWait)
	defer cancel()
	g, err := r.read(ctx, id)
	if err != nil {
		return Result{}, err
	}
	kept := Result{View: r.view(g), Outcome: OutcomeKept, Failure: f.unended(r.RenewTimeout)}
	if f != nil {
		if from := f.from.Load(); from != nil && g.triedSince(from) {
			kept.Outcome, kept.Failure = g.Standing.Outcome, g.Standing.Failure
		}
	}
	return kept, nil
}

// Leave says that the process ends soon: from now on no renewal begins but those without which somebody would be left with an access
// token that has expired. Whoever asks for another is told so; other replicas, or the next process, will renew.
func (r *Rotator) Leave() { r.leaving.Store(true) }

// spares says that no renewal of the grant is to begin for a request that arrived at asked, because the process ends soon and the access
// token serves on.
func (r *Rotator) spares(g *Grant, asked time.Time) bool {
	if !r.leaving.Load() || !g.Tokens.ValidAt(r.Now()) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.flights[g.ID]
	return f == nil || !f.ended.IsZero() && !f.ended.After(asked)
}

// wouldRenew says whether the trigger would have the grant renewed.
func (r *Rotator) wouldRenew(g *Grant, trigger Trigger) bool {
	provider, ok := r.Providers.Of(g.Identity)
	return ok && provider.Policy().Renewable(g) && (trigger.Forced() || r.policy(provider, g).Due(g, r.Now()))
}

// Drain lets running renewals finish and begins no new ones. It returns when none runs any more, or ctx is done.
func (r *Rotator) Drain(ctx context.Context) error {
	r.mu.Lock()
	r.draining = true
	r.mu.Unlock()
	r.endQuit()
	if err := waitGroup(ctx, &r.running); err != nil {
		return fmt.Errorf("renewals still running: %w", err)
	}
	return nil
}

// view is what the grant is good for now, without a look at the vault.
func (r *Rotator) view(g *Grant) View {
	now := r.Now()
	r.mu.Lock()
	f := r.flights[g.ID]
	running := f != nil && f.renews(g)
	r.mu.Unlock()
	v := View{Grant: g, Running: running || g.LeasedAt(now), Problem: g.Standing.Failure}
	provider, ok := r.Providers.Of(g.Identity)
	if !ok {
		v.State, v.Problem = StateFresh, Failure{Code: CodeProviderUnavailable, Party: PartyOperator}
		if !g.Tokens.ValidAt(now) {
			v.State = StateNeedsSignIn
		}
		return v
	}
	policy := r.policy(provider, g)
	v.RipeAt, v.NextAt, v.Renewable = policy.RipeAt(g.Tokens), policy.NextAt(g), policy.Renewable(g)
	v.OnRequest = !policy.Spread && g.Standing.Open == ""
	v.State = policy.State(g, now, v.Running)
	if v.Renewable && (v.State == StateDue || v.State == StateExpired || g.Standing.Open != "") {
		why, until, ailing := r.lane(g.Identity.Provider).ailing(g.ID, g.Tokens.ExpiresAt.Sub(now))
		if ailing && v.Problem.Code == "" {
			v.Problem = why
		}
		if until.After(v.NextAt) {
			v.NextAt = until
		}
	}
	v.PlanAt = v.NextAt
	if policy.Spread && !v.NextAt.IsZero() && g.DueAt.After(v.NextAt) {
		v.PlanAt = g.DueAt
	}
	return v
}

// policy is when a grant is due. What the operator had to mend is mended, too, when its provider has served others since.
func (r *Rotator) policy(provider Provider, g *Grant) Policy {
	policy := provider.Policy()
	if g.Standing.Failure.Party == PartyOperator {
		if mended := r.lane(g.Identity.Provider).mendedAt(g.ID); mended.After(policy.Since) {
			policy.Since = mended
		}
	}
	return policy
}

// lane is where the calls at a provider queue.
func (r *Rotator) lane(name string) *lane {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lanes[name]
	if l == nil {
		most := DefaultConcurrency
		if provider, ok := r.Providers.Lookup(name); ok && provider.Policy().Concurrency > 0 {
			most = provider.Policy().Concurrency
		}
		l = newLane(most, time.Now)
		r.lanes[name] = l
	}
	return l
}
