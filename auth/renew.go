package auth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"time"
)

const (
	storeTimeout = time.Minute     // how long a new token set is offered to a database that will not take it
	checkTimeout = 5 * time.Second // bound on the verification of a new id token, keys included
	checkAgain   = 30 * time.Second
)

// attempt is one renewal under way, under the grant's lease.
type attempt struct {
	before   *Grant
	provider Provider
	policy   Policy
	trigger  Trigger
	began    time.Time
	replay   string // CodeReplayed… when the refresh token was presented a second time
}

// renew runs one renewal of a leased grant and ends the lease.
func (r *Rotator) renew(ctx context.Context, g *Grant, trigger Trigger) (Result, error) {
	a := attempt{before: g, trigger: trigger, began: r.Now()}
	var ok bool
	if a.provider, ok = r.Providers.Lookup(g.Identity.Provider); !ok {
		return r.decline(ctx, g, OutcomeKept, Failure{Code: CodeProviderUnavailable, Party: PartyOperator})
	}
	a.policy = a.provider.Policy()
	struck := !g.PresentingAt.IsZero()
	switch {
	case g.Standing.Refused:
		return r.decline(ctx, g, OutcomeRefused, g.Standing.Failure)
	case !a.policy.Renewable(g):
		return r.decline(ctx, g, OutcomeKept, Failure{Code: CodeNotRenewable, Party: PartyPerson})
	case !trigger.Forced() && !struck && !a.policy.Due(g, a.began):
		return r.decline(ctx, g, "", Failure{})
	}
	if struck {
		a.replay = CodeReplayedAfterCrash
		if !trigger.Forced() {
			a.trigger = TriggerRecovery
			if a.provider.OnUnknown() == RetryAtExpiry && g.Tokens.ValidAt(a.began) {
				return r.failed(ctx, a, &ProviderError{Delivery: DeliveryUnknown, Failure: Failure{Code: CodeOutcomeUnknown}})
			}
		}
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
	default:
		return Result{}, err
	}
}

// decline ends the lease of a grant that there is nothing to do for.
func (r *Rotator) decline(ctx context.Context, g *Grant, outcome Outcome, why Failure) (Result, error) {
	return Result{View: View{Grant: g}, Outcome: outcome, Failure: why}, r.Vault.Release(ctx, g.ID, r.owner)
}

// adopt answers with what another process stored meanwhile.
func (r *Rotator) adopt(ctx context.Context, id string) (Result, error) {
	g, err := r.Vault.Get(ctx, id)
	if err != nil {
		return Result{}, err
	}
	return Result{View: View{Grant: g}, Outcome: g.Standing.Outcome, Failure: g.Standing.Failure}, nil
}

// present calls the token endpoint: once, and once more when nobody can know what became of the first call (spec
// promise 6) or the provider refused the scope parameter. The mark in the vault comes before the call, so that whoever
// comes after a crash knows.
func (r *Rotator) present(ctx context.Context, a *attempt) (Answer, error) {
	for withScope := true; ; {
		if err := r.Vault.Present(ctx, a.before.ID, r.owner, r.Now()); err != nil {
			return Answer{}, err
		}
		call, cancel := context.WithTimeout(ctx, r.RenewTimeout)
		answer, err := a.provider.Renew(call, a.before.Tokens, withScope)
		cancel()
		var refusal *ProviderError
		if err == nil || !errors.As(err, &refusal) || refusal.Salvage != nil {
			return answer, err
		}
		switch {
		case refusal.Delivery == DeliveryAnswered && withScope && judge(refusal.Failure, 0).again:
			withScope = false
		case refusal.Delivery == DeliveryUnknown && a.replay == "" && r.replayNow(*a):
			a.replay = CodeReplayed
			if stored, err := r.Vault.Get(ctx, a.before.ID); err == nil && stored.Generation != a.before.Generation {
				return Answer{}, ErrStale
			}
		default:
			return answer, err
		}
	}
}

// replayNow says whether to present the refresh token once more at once. With retry_at_expiry that has to wait as long as
// the access token is of use, unless a person asks.
func (r *Rotator) replayNow(a attempt) bool {
	return a.provider.OnUnknown() != RetryAtExpiry || !a.before.Tokens.ValidAt(r.Now())
}

// succeeded stores the new token set before anything else is judged, then checks what came with it.
func (r *Rotator) succeeded(ctx context.Context, a attempt, answer Answer) (Result, error) {
	now := r.Now()
	g := *a.before
	g.Generation++
	g.Tokens = answer.TokenSet(a.before.Tokens, a.policy.Assumed)
	g.Pending = answer.ID
	g.PresentingAt = time.Time{}
	g.Standing = Standing{Outcome: OutcomeRenewed, TriedAt: now, AutomaticAt: a.before.Standing.AutomaticAt}
	if g.Tokens.Refresh != a.before.Tokens.Refresh {
		g.Standing.Outcome = OutcomeRotated
	}
	if !a.trigger.Forced() {
		g.Standing.AutomaticAt = now
	}
	g.DueAt = a.policy.NextAt(&g)
	record := a.record(&g, now)
	record.Warning = a.replay
	err := r.store(ctx, &g, &record)
	switch {
	case errors.Is(err, ErrNotFound):
		// Ending wins: the tokens that arrive for an ended grant are revoked.
		r.Grants.Revoke(ctx, g.Identity.Provider, g.ID, g.Tokens)
		return Result{}, err
	case errors.Is(err, ErrStale):
		return r.adopt(ctx, g.ID)
	case err != nil:
		return Result{}, err
	}
	if err := r.settle(ctx, a.provider, &g, &record); err != nil {
		return Result{}, err
	}
	r.logged(ctx, &record)
	return Result{View: View{Grant: &g}, Outcome: record.Outcome, Failure: g.Standing.Failure, Took: record.Duration}, nil
}

// failed records a try that brought no tokens; the existing ones stay.
func (r *Rotator) failed(ctx context.Context, a attempt, refusal *ProviderError) (Result, error) {
	now := r.Now()
	g := *a.before
	g.PresentingAt = time.Time{}
	st := &g.Standing
	v := judge(refusal.Failure, st.InvalidRequests)
	if v.outcome == OutcomeRefused {
		// Somebody else may have renewed the grant with the very token that was refused to us.
		if stored, err := r.Vault.Get(ctx, g.ID); err == nil && stored.Generation > g.Generation {
			return r.adopt(ctx, g.ID)
		}
	}
	if refusal.Salvage != nil && refusal.Salvage.Refresh != "" {
		salvaged := refusal.Salvage.TokenSet(g.Tokens, a.policy.Assumed)
		g.Tokens.Refresh, g.Tokens.RefreshExpiresAt = salvaged.Refresh, salvaged.RefreshExpiresAt
		g.Tokens.RefreshNeverExpires = salvaged.RefreshNeverExpires
		v.outcome, st.InvalidRequests = OutcomeKept, 0
	}
	st.Outcome, st.TriedAt, st.Failure = v.outcome, now, refusal.Failure
	st.Failure.Party, st.Failure.Replay = v.party, a.replay
	st.Failures++
	st.Refused = v.outcome == OutcomeRefused
	if refusal.Failure.Code == "invalid_request" {
		st.InvalidRequests++
	} else {
		st.InvalidRequests = 0
	}
	wait := max(v.wait, min(refusal.RetryAfter, maxRetryAfter))
	if v.wait == 0 {
		wait = backoff(st.Failures, refusal.RetryAfter)
	}
	st.NextTry = now.Add(wait)
	if st.Refused {
		st.NextTry = time.Time{}
	}
	if refusal.Delivery == DeliveryUnknown && a.provider.OnUnknown() == RetryAtExpiry && g.Tokens.ExpiresAt.After(st.NextTry) {
		st.NextTry = g.Tokens.ExpiresAt
	}
	if !a.trigger.Forced() {
		st.AutomaticAt = now
	}
	g.DueAt = a.policy.NextAt(&g)
	record := a.record(&g, now)
	record.Code, record.Detail, record.Warning = st.Failure.Code, st.Failure.Detail, a.replay
	err := r.store(ctx, &g, &record)
	if errors.Is(err, ErrStale) {
		return r.adopt(ctx, g.ID)
	}
	if err != nil {
		return Result{}, err
	}
	r.logged(ctx, &record)
	return Result{View: View{Grant: &g}, Outcome: v.outcome, Failure: st.Failure, Took: record.Duration}, nil
}

// store writes what a renewal left. New tokens are offered to a failing database for a while: they exist nowhere else.
func (r *Rotator) store(ctx context.Context, g *Grant, record *Renewal) error {
	deadline := time.Now().Add(storeTimeout)
	for delay := 50 * time.Millisecond; ; delay = min(2*delay, 2*time.Second) {
		err := r.Vault.Replace(ctx, r.owner, g, record)
		if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrStale) {
			return err
		}
		if !record.Outcome.Succeeded() || time.Now().After(deadline) {
			return fmt.Errorf("store renewal: %w", err)
		}
		r.Log.ErrorContext(ctx, "new tokens cannot be stored yet", "grant", g.ID, "error", err)
		time.Sleep(delay)
	}
}

// settle checks the id token that came with stored tokens, runs the Token callback and stores what follows.
func (r *Rotator) settle(ctx context.Context, provider Provider, g *Grant, record *Renewal) error {
	stored := *g
	if g.Pending != "" {
		r.verify(ctx, provider, g, record)
	}
	if !g.Standing.Refused {
		r.Callbacks.token(ctx, r.Log, TokenEvent{Trigger: record.Trigger, Grant: g})
	}
	if reflect.DeepEqual(&stored, g) {
		return nil
	}
	err := r.Vault.Amend(ctx, g, record)
	if errors.Is(err, ErrStale) {
		return nil // a newer generation brings its own id token
	}
	return err
}

// verify judges the pending id token of a grant (spec section 5.1, last paragraph).
func (r *Rotator) verify(ctx context.Context, provider Provider, g *Grant, record *Renewal) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	claims, err := provider.VerifyIDToken(ctx, g, g.Pending)
	switch {
	case err == nil:
		g.Tokens.ID, g.Pending = g.Pending, ""
		g.Identity = g.Identity.updated(claims)
	case errors.Is(err, ErrKeysUnavailable):
		r.Log.WarnContext(ctx, "new id token not checked yet", "grant", g.ID, "error", err)
	case errors.Is(err, ErrOtherIdentity):
		r.Log.ErrorContext(ctx, "security: renewal brought another identity; grant ended", "grant", g.ID, "provider", g.Identity.Provider)
		r.Grants.Revoke(ctx, g.Identity.Provider, g.ID, g.Tokens)
		g.Tokens = TokenSet{IssuedAt: g.Tokens.IssuedAt, ExpiresAt: g.Tokens.IssuedAt}
		g.Pending, g.DueAt = "", time.Time{}
		why := Failure{Code: CodeIdentityChanged, Party: PartyPerson}
		g.Standing.Outcome, g.Standing.Refused, g.Standing.Failure = OutcomeRefused, true, why
		record.Outcome, record.Code = OutcomeRefused, CodeIdentityChanged
	default:
		r.Log.ErrorContext(ctx, "security: new id token rejected; the old one stays", "grant", g.ID, "provider", g.Identity.Provider, "error", err)
		g.Pending = ""
		record.Warning = CodeIDTokenRejected
	}
}

// checkPending repeats, beside the request, a verification for which the keys were out of reach.
func (r *Rotator) checkPending(ctx context.Context, provider Provider, g *Grant) {
	if g.Pending == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.flights[g.ID]; r.draining || f != nil && f.ended.IsZero() || time.Now().Before(r.checking[g.ID]) {
		return
	}
	r.checking[g.ID] = time.Now().Add(checkAgain)
	ctx, id := context.WithoutCancel(ctx), g.ID
	r.running.Go(func() {
		err := r.recheck(ctx, provider, id)
		if err != nil {
			r.Log.ErrorContext(ctx, "pending id token could not be settled", "grant", id, "error", err)
		}
	})
	time.AfterFunc(checkAgain, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.checking, id)
	})
}

func (r *Rotator) recheck(ctx context.Context, provider Provider, id string) error {
	g, err := r.Vault.Get(ctx, id)
	if err != nil || g.Pending == "" {
		return err
	}
	latest, err := r.Vault.History(ctx, id, 0, 1)
	if err != nil || len(latest) == 0 {
		return err
	}
	r.verify(ctx, provider, g, &latest[0])
	if err := r.Vault.Amend(ctx, g, &latest[0]); err != nil && !errors.Is(err, ErrStale) {
		return err
	}
	return nil
}

// updated is the identity with newer claims about the same person.
func (i Identity) updated(claims map[string]any) Identity {
	merged := maps.Clone(i.Claims)
	if merged == nil {
		merged = map[string]any{}
	}
	maps.Copy(merged, claims)
	i.Claims = merged
	for name, field := range map[string]*string{"name": &i.Name, "email": &i.Email, "picture": &i.Picture} {
		if value, ok := claims[name].(string); ok && value != "" {
			*field = value
		}
	}
	return i
}

// record is the history's row for the renewal that turned a.before into g.
func (a attempt) record(g *Grant, now time.Time) Renewal {
	before, after := a.before.Tokens, g.Tokens
	return Renewal{
		GrantID: g.ID, Generation: g.Generation, At: a.began, Trigger: a.trigger, Outcome: g.Standing.Outcome,
		Duration: now.Sub(a.began),
		OldToken: before.Access.Fingerprint(), NewToken: after.Access.Fingerprint(),
		OldRefresh: before.Refresh.Fingerprint(), NewRefresh: after.Refresh.Fingerprint(),
		OldScope: before.Scope, NewScope: after.Scope, OldExpiry: before.ExpiresAt, NewExpiry: after.ExpiresAt,
	}
}

// logged writes the event; what an operator must mend is an error.
func (r *Rotator) logged(ctx context.Context, record *Renewal) {
	log := r.Log.InfoContext
	switch {
	case record.Outcome.Succeeded():
	case judge(Failure{Code: record.Code}, 0).party == PartyOperator:
		log = r.Log.ErrorContext
	default:
		log = r.Log.WarnContext
	}
	log(ctx, "renewal", "grant", record.GrantID, "generation", record.Generation, "trigger", record.Trigger,
		"outcome", record.Outcome, "took", record.Duration, "code", record.Code, "detail", record.Detail, "warning", record.Warning)
}
