package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// errUnmarked says that the refresh token was not presented, because the vault could not take the mark.
var errUnmarked = errors.New("the refresh token cannot be marked as being presented")

// attempt is one renewal under way, under the grant's lease.
type attempt struct {
	flight   *flight
	before   *Grant
	provider Provider
	policy   Policy
	trigger  Trigger
	began    time.Time
	marked   bool   // the refresh token is marked as being presented
	replay   string // CodeReplayed… when the refresh token was presented a second time
}

// declined is why a grant is not renewed.
type declined struct {
	outcome Outcome
	why     Failure
}

// tokenless is why the grant of a provider without tokens is not renewed.
var tokenless = Failure{Code: CodeNoToken, Party: PartyProvider}

// prepare looks up what the attempt needs. What it returns is nil when there is something to do.
func (r *Rotator) prepare(a *attempt) *declined {
	g := a.before
	var ok bool
	if a.provider, ok = r.Providers.Of(g.Identity); !ok {
		return &declined{OutcomeKept, Failure{Code: CodeProviderUnavailable, Party: PartyOperator}}
	}
	a.policy = r.policy(a.provider, g)
	switch {
	case g.Standing.Refused:
		return &declined{OutcomeRefused, g.Standing.Failure}
	case g.Tokens.None():
		return &declined{OutcomeKept, tokenless}
	case !a.policy.Renewable(g):
		return &declined{OutcomeKept, Failure{Code: CodeNotRenewable, Party: PartyPerson}}
	case a.trigger == TriggerAPI && g.Standing.lost() != "" && a.waitsForExpiry():
		return &declined{OutcomeKept, Failure{Code: CodeOutcomeUnknown, Party: PartyProvider}}
	case !a.trigger.Forced() && g.PresentingAt.IsZero() && !a.policy.Due(g, a.began):
		return &declined{}
	}
	return nil
}

// waitsForExpiry says that a refresh token which may have been used up is not presented again yet, but by a person who wants it so: a
// program asks for a renewal whenever it needs the token.
func (a *attempt) waitsForExpiry() bool {
	return a.provider.OnUnknown() == RetryAtExpiry && a.before.Tokens.ValidAt(a.began)
}

// claim takes the lease and marks the refresh token in one write, where nothing speaks against a renewal of the grant as it was read.
// ErrStale says to take the lease first, and look again.
func (r *Rotator) claim(ctx context.Context, a *attempt) error {
	if !a.before.PresentingAt.IsZero() || r.prepare(a) != nil {
		return ErrStale
	}
	ctx, cancel := context.WithTimeout(ctx, storageWait)
	defer cancel()
	err := r.Vault.Claim(ctx, a.before, r.owner, LeaseTTL, a.began)
	a.marked = err == nil
	return err
}

// renew runs one renewal of a leased grant and ends the lease.
func (r *Rotator) renew(ctx context.Context, a attempt) {
	f := a.flight
	f.result, f.err = r.attempt(ctx, a)
	f.idle = f.err == nil && f.untried(a.trigger)
}

func (r *Rotator) attempt(ctx context.Context, a attempt) (Result, error) {
	g := a.before
	if no := r.prepare(&a); no != nil {
		return r.decline(ctx, g, no.outcome, no.why)
	}
	if !g.PresentingAt.IsZero() {
		u, err := r.Spool.Find(g.ID)
		switch {
		case err == nil && u.follows(g):
			// Whoever was struck has the answer, and could not store it.
			result, err := r.finish(ctx, u.Grant, u.Record)
			if !r.onShelf(g.ID) {
				r.unspool(ctx, u)
			}
			return result, err
		case err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrUnreadable):
			// It may have the answer: too many files are open, perhaps. The next try looks again.
			r.sayUnbegun(ctx, g.ID, a.trigger, err)
			return r.decline(ctx, g, OutcomeKept, Failure{Code: CodeStorage, Party: PartyKeyturn})
		}
		a.replay = CodeReplayedAfterCrash
		if !a.trigger.Forced() {
			a.trigger = TriggerRecovery
		}
		if a.trigger != TriggerManual && a.waitsForExpiry() {
			return r.failed(ctx, a, &ProviderError{Delivery: DeliveryUnknown, Failure: Failure{Code: CodeOutcomeUnknown}})
		}
	}
	if a.replay == "" && (g.Standing.Failure.unknown() || g.Standing.lost() != "") {
		a.replay = cmp.Or(g.Standing.lost(), CodeReplayed) // this time is the one more
	}
	answer, err := r.present(ctx, &a)
	var refusal *ProviderError
	switch {
	case err == nil:
		return r.succeeded(ctx, a, answer)
	case errors.As(err, &refusal):
		return r.failed(ctx, a, refusal)
	case errors.Is(err, ErrStale):
		return r.adopt(ctx, g.ID)
	case errors.Is(err, errUnmarked):
		r.sayUnbegun(ctx, g.ID, a.trigger, err)
		kept, _ := r.decline(ctx, g, OutcomeKept, Failure{Code: CodeStorage, Party: PartyKeyturn}) // unreleased, the lease runs out
		return kept, nil
	default:
		return Result{}, err
	}
}

// decline ends the lease of a grant that there is nothing to do for.
func (r *Rotator) decline(ctx context.Context, g *Grant, outcome Outcome, why Failure) (Result, error) {
	free := *g
	free.LeasedUntil = time.Time{}
	return Result{View: View{Grant: &free}, Outcome: outcome, Failure: why}, r.Vault.Release(ctx, g.ID, r.owner)
}

// adopt answers with what another process stored meanwhile.
func (r *Rotator) adopt(ctx context.Context, id string) (Result, error) {
	g, err := r.Vault.Get(ctx, id)
	if err != nil {
		return Result{}, err
	}
	return Result{View: View{Grant: g}, Outcome: g.Standing.Outcome, Failure: g.Standing.Failure}, nil
}

// present calls the token endpoint: once, and once more when nobody can know whether the provider took the refresh
// token, or when it refused the scope parameter. The mark in the vault comes before the call, so that whoever comes after
// a crash knows.
func (r *Rotator) present(ctx context.Context, a *attempt) (Answer, error) {
	for withScope := true; ; a.marked = false {
		if !a.marked {
			marking, marked := r.step(ctx, "present")
			err := r.Vault.Present(marking, a.before.ID, r.owner, r.Now())
			marked(err)
			switch {
			case errors.Is(err, ErrStale):
				return Answer{}, err
			case err != nil:
				return Answer{}, fmt.Errorf("%w: %w", errUnmarked, err)
			}
		}
		a.flight.calling.Store(true)
		answer, err := r.call(ctx, a, withScope)
		var refusal *ProviderError
		if err != nil && !errors.As(err, &refusal) {
			return answer, err
		}
		r.Counters.presented(a.before.Identity.Provider, a.replay != "" && !refusal.unsent())
		a.flight.answered.Store(err == nil || refusal != nil && refusal.Delivery == DeliveryAnswered)
		if refusal != nil && refusal.Salvage != nil && refusal.Salvage.Refresh == a.before.Tokens.Refresh {
			refusal.Salvage = nil // an echo
		}
		r.lane(a.before.Identity.Provider).report(a.before.ID, a.flight.turnAt, a.trigger.Forced(), refusal)
		if refusal == nil || refusal.Salvage != nil {
			return answer, err
		}
		switch {
		case refusal.Delivery == DeliveryAnswered && withScope && a.againWithoutScope(refusal.Failure):
			withScope = false
		case refusal.Delivery == DeliveryUnknown && r.replayNow(*a):
			a.replay = CodeReplayed
			if stored, err := r.Vault.Get(ctx, a.before.ID); err == nil && stored.Generation != a.before.Generation {
				return Answer{}, ErrStale
			}
		default:
			return answer, err
		}
	}
}

// againWithoutScope says whether to try again at once without scope. With a refresh token there was none, and the provider may only think
// better of it: it is asked once, not in each try of a row, and not after the refresh token has been presented a second time.
func (a *attempt) againWithoutScope(f Failure) bool {
	if a.policy.GrantType != GrantClientCredentials && (a.replay != "" || a.before.Standing.Failure.Code == f.Code) {
		return false
	}
	return judge(f, 0).again
}

// call calls the token endpoint once.
func (r *Rotator) call(ctx context.Context, a *attempt, withScope bool) (Answer, error) {
	ctx, called := r.step(ctx, "token call")
	ctx, cancel := withPatience(ctx, r.RenewTimeout)
	defer cancel()
	began := time.Now()
	answer, err := a.provider.Renew(ctx, a.before.Tokens, withScope)
	r.Called(a.before.Identity.Provider, time.Since(began))
	called(err)
	return answer, err
}

// replayNow says whether to present the refresh token once more at once: not a third time for one event, nor where the
// try before this one has done so. With retry_at_expiry it has to wait as long as the access token is of use.
func (r *Rotator) replayNow(a attempt) bool {
	return a.replay == "" && (a.provider.OnUnknown() != RetryAtExpiry || !a.before.Tokens.ValidAt(r.Now()))
}

// succeeded stores the new token set before anything that came with it is judged against it.
func (r *Rotator) succeeded(ctx context.Context, a attempt, answer Answer) (Result, error) {
	r.bringUpToDate(ctx, &a)
	now := r.Now()
	g := *a.before
	g.Generation++
	g.Tokens = answer.TokenSet(a.before.Tokens, a.policy.Assumed)
	switch {
	case answer.ID != "":
		g.Pending, g.PendingFor = answer.ID, ""
	case g.Pending != "": // it is still to be verified, against what it came with
		g.PendingFor = a.before.PendingAccess()
	}
	g.Former = formerOf(a.before.Tokens)
	g.PresentingAt, g.LeasedUntil = time.Time{}, time.Time{}
	g.Standing = Standing{Outcome: OutcomeRenewed, TriedAt: now, AutomaticAt: a.before.Standing.AutomaticAt}
	if g.Tokens.Refresh != a.before.Tokens.Refresh {
		g.Standing.Outcome = OutcomeRotated
	}
	if !a.trigger.Forced() {
		g.Standing.AutomaticAt = now
	}
	g.DueAt = a.policy.PlanAt(&g)
	record := a.record(&g, now)
	record.Warning = cmp.Or(a.replay, a.before.Standing.lost())
	if !r.verifyAtOnce(ctx, a.provider, &g) && g.Identity.differs(answer.ID) {
		return r.endOther(ctx, a, &g, &record, answer.ID)
	}
	return r.finish(ctx, &g, &record)
}

// bringUpToDate takes up what was settled of an earlier renewal while this one ran.
func (r *Rotator) bringUpToDate(ctx context.Context, a *attempt) {
	if a.before.Pending == "" {
		return
	}
	if stored, err := r.Vault.Get(ctx, a.before.ID); err == nil && stored.Generation == a.before.Generation {
		a.before = stored
	}
}

// finish stores what a renewal left, and answers with it.
func (r *Rotator) finish(ctx context.Context, g *Grant, record *Renewal) (Result, error) {
	switch err := r.store(ctx, g, record); {
	case errors.Is(err, ErrStale):
		return r.adopt(ctx, g.ID)
	case err != nil:
		return Result{}, err
	}
	r.recorded(ctx, g, record)
	return Result{View: View{Grant: g}, Outcome: record.Outcome, Failure: g.Standing.Failure, Warning: record.Warning, Took: record.Duration}, nil
}

// record is the history's row for the renewal that turned a.before into g.
func (a attempt) record(g *Grant, now time.Time) Renewal {
	before, after := a.before.Tokens, g.Tokens
	return Renewal{
		GrantID: g.ID, Generation: g.Generation, At: a.began, Trigger: a.trigger, Outcome: g.Standing.Outcome,
		Duration: now.Sub(a.began), Shared: int(a.flight.sharers.Load()),
		OldToken: before.Access.Fingerprint(), NewToken: after.Access.Fingerprint(),
		OldRefresh: before.Refresh.Fingerprint(), NewRefresh: after.Refresh.Fingerprint(),
		OldScope: before.Scope, NewScope: after.Scope, OldExpiry: before.ExpiresAt, NewExpiry: after.ExpiresAt,
	}
}

// recorded counts a renewal and writes the event; what an operator must mend is an error.
func (r *Rotator) recorded(ctx context.Context, g *Grant, record *Renewal) {
	r.Counters.renewed(g.Identity.Provider, record)
	r.Events.Publish(record.GrantID)
	log := r.Log.InfoContext
	switch {
	case record.Outcome.Succeeded():
	case g.Standing.Failure.Party == PartyOperator:
		log = r.Log.ErrorContext
	default:
		log = r.Log.WarnContext
	}
	line := []any{
		"grant", record.GrantID, "generation", record.Generation, "trigger", record.Trigger,
		"outcome", record.Outcome, "took", record.Duration, "code", record.Code, "detail", record.Detail, "warning", record.Warning,
	}
	if said := g.Standing.Failure.Said; said != "" {
		line = append(line, "said", said)
	}
	log(ctx, "renewal", line...)
}
