package auth

import (
	"cmp"
	"context"
	"time"
)

// failed records a try that brought no tokens; the existing ones stay.
func (r *Rotator) failed(ctx context.Context, a attempt, refusal *ProviderError) (Result, error) {
	r.bringUpToDate(ctx, &a)
	now := r.Now()
	g := *a.before
	g.PresentingAt, g.LeasedUntil = time.Time{}, time.Time{}
	v := judge(refusal.Failure, g.Standing.InvalidRequests)
	if v.outcome == OutcomeRefused && a.policy.GrantType == GrantClientCredentials {
		v = verdict{outcome: OutcomeKept, party: PartyOperator, wait: backoffCap} // the client's own doing: nothing of the person's was refused
	}
	if v.outcome == OutcomeRefused {
		// Somebody else may have renewed the grant with the very token that was refused to us.
		if stored, err := r.Vault.Get(ctx, g.ID); err == nil && stored.Generation > g.Generation {
			return r.adopt(ctx, g.ID)
		}
	}
	if salvage := refusal.Salvage; salvage != nil {
		salvaged := salvage.TokenSet(g.Tokens, a.policy.Assumed)
		if g.Identity.differs(salvage.ID) {
			g.Tokens = salvaged
			record := a.record(&g, now)
			return r.endOther(ctx, a, &g, &record, salvage.ID)
		}
		g.Tokens.Refresh, g.Tokens.RefreshExpiresAt = salvaged.Refresh, salvaged.RefreshExpiresAt
		g.Tokens.RefreshNeverExpires = salvaged.RefreshNeverExpires
		v.outcome = OutcomeKept
	}
	g.Standing = a.standing(&g, refusal, v, now)
	g.DueAt = a.policy.PlanAt(&g)
	record := a.record(&g, now)
	record.Code, record.Detail = g.Standing.Failure.Code, g.Standing.Failure.Detail
	record.Warning = cmp.Or(a.replayed(refusal), g.Standing.Failure.Replay)
	return r.finish(ctx, &g, &record)
}

// standing is how g, as it was before or with another refresh token that was salvaged, stands after the failed try.
func (a *attempt) standing(g *Grant, refusal *ProviderError, v verdict, now time.Time) Standing {
	st := a.before.Standing
	st.Outcome, st.Refused, st.TriedAt = v.outcome, v.outcome == OutcomeRefused, now
	st.Failure = refusal.Failure
	st.Failure.Party = v.party
	if g.Tokens.Refresh == a.before.Tokens.Refresh {
		st.Failure.Replay = a.replayed(refusal)
		if st.Refused && a.replay == "" && st.Open != "" {
			st.Failure.Replay = cmp.Or(a.before.Standing.lost(), CodeReplayed) // what was lost before may be why
		}
		switch {
		case st.Failure.unknown():
			st.Open = cmp.Or(a.replay, CodeReplayed)
		case a.replay != "":
			st.Open = a.replay
		case st.Failure.instead():
			st.Open = cmp.Or(st.Open, CodeHTTPStatus)
		}
	} else {
		st.Open = ""
	}
	if !a.insists() {
		st.Failures++
	}
	if refusal.Salvage == nil && refusal.Failure.Code == "invalid_request" && !refusal.Failure.Unwell() {
		st.InvalidRequests++
	} else {
		st.InvalidRequests = 0
	}
	if !a.trigger.Forced() {
		st.AutomaticAt = now
	}
	st.NextTry = a.nextTry(g, st, refusal.RetryAfter, v.wait, now)
	return st
}

// replayed is a.replay where the refresh token was presented.
func (a *attempt) replayed(refusal *ProviderError) string {
	if refusal.unsent() || refusal.Failure.Code == CodeOutcomeUnknown {
		return ""
	}
	return a.replay
}

// insists says that somebody asked for the try though the one before had failed. Who asks again and again puts off no automatic try.
func (a *attempt) insists() bool { return a.trigger.Forced() && a.before.Standing.Failures > 0 }

// nextTry is when to try by ourselves again: wait is the verdict's, or 0 for back-off. It is zero when the grant is refused.
func (a *attempt) nextTry(g *Grant, st Standing, retryAfter, wait time.Duration, now time.Time) time.Time {
	if st.Refused {
		return time.Time{}
	}
	byBackoff := wait == 0
	if byBackoff {
		wait = backoff(st.Failures, retryAfter)
	}
	retryAfter = min(retryAfter, maxRetryAfter)
	wait = max(wait, retryAfter)
	if st.Open != "" && a.trigger.Forced() {
		wait = max(wait, retrySoon) // whoever asked for it may look into it first
	}
	was := a.before.Standing
	planned, opened := was.NextTry.Sub(now), st.Open != "" && was.Open == ""
	putsOff := byBackoff || planned < wait
	if a.insists() && planned > 0 && putsOff && !opened {
		wait = max(planned, retryAfter)
	}
	next := now.Add(wait)
	if st.lost() != "" && a.provider.OnUnknown() == RetryAtExpiry && g.Tokens.ExpiresAt.After(next) {
		return g.Tokens.ExpiresAt
	}
	return next
}
