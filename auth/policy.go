package auth

import (
	"math/rand/v2"
	"time"
)

// minInterval is the least time between two automatic renewals of one grant whose provider does not say how long its
// access tokens live: without it a wrong guess would be a loop.
const minInterval = 30 * time.Second

// shortestLeft is how long a refresh token must live at the least to be looked after. Where renewals do not put its end off, each comes
// after three quarters of what is left: without an end to that it would be a loop.
const shortestLeft = 2 * time.Second

// ClockTolerance is how far two readings of the wall clock may disagree before it counts as set back, as by a token from the future.
const ClockTolerance = time.Minute

// GrantType is how a grant is renewed at the token endpoint.
type GrantType string

// The grant types that a provider may be configured with.
const (
	GrantRefreshToken      GrantType = "refresh_token"      // RFC 6749 section 6
	GrantClientCredentials GrantType = "client_credentials" // RFC 6749 section 4.4
)

// Policy is when a provider's grants are due. The zero value renews at three quarters of nothing: fill it.
type Policy struct {
	MaxAge    time.Duration // renew when the access token is this old
	Leeway    time.Duration // renew when this little is left; never more than a quarter of the token's lifetime
	Assumed   time.Duration // lifetime of an access token that does not say; 0: DefaultAssumedLifetime
	GrantType GrantType

	Since       time.Time // when these settings took effect, or did again: what was the operator's to mend before may be mended
	Spread      bool      // somebody renews in the background: spread what began together
	Concurrency int       // token endpoint calls at once at the provider; 0: DefaultConcurrency
}

// Renewable says whether a renewal of the grant may succeed.
func (p Policy) Renewable(g *Grant) bool {
	return !g.Standing.Refused && (p.GrantType == GrantClientCredentials || g.Tokens.Refresh != "")
}

// RipeAt is when the token set becomes due by age, by leeway, or because its refresh token ends before, whatever became of earlier
// tries.
func (p Policy) RipeAt(t TokenSet) time.Time {
	ripe := t.ExpiresAt.Add(-min(p.Leeway, t.Lifetime()/4))
	if left := t.RefreshExpiresAt.Sub(t.IssuedAt); !t.RefreshExpiresAt.IsZero() && left > shortestLeft {
		if end := t.RefreshExpiresAt.Add(-min(p.Leeway, left/4)); end.Before(ripe) {
			ripe = end
		}
	}
	if aged := t.IssuedAt.Add(p.MaxAge); p.MaxAge > 0 && aged.Before(ripe) {
		return aged
	}
	return ripe
}

// NextAt is when the grant is next renewed automatically: when it is ripe, but not before a failed try allows it, and as soon as that does
// where only one more try tells what became of the refresh token. It is zero when there will be no automatic renewal.
func (p Policy) NextAt(g *Grant) time.Time {
	if !p.Renewable(g) {
		return time.Time{}
	}
	next, st := p.RipeAt(g.Tokens), g.Standing
	if st.InvalidRequests > 0 || st.Open != "" || st.NextTry.After(next) {
		next = st.NextTry
	}
	if mended := p.mendedAt(g); !mended.IsZero() && mended.Before(next) {
		next = mended
	}
	if last := st.AutomaticAt; g.Tokens.Assumed && st.Open == "" && !last.IsZero() && next.Before(last.Add(minInterval)) {
		next = last.Add(minInterval)
	}
	return next
}

// mendedAt is from when on a renewal may succeed that failed for a reason of the operator's: when these settings have taken effect since,
// and the grant is ripe. It is zero where nothing of the kind is known.
func (p Policy) mendedAt(g *Grant) time.Time {
	st := g.Standing
	if st.Failure.Party != PartyOperator || st.Open != "" || !st.TriedAt.Before(p.Since) {
		return time.Time{}
	}
	if ripe := p.RipeAt(g.Tokens); ripe.After(p.Since) {
		return ripe
	}
	return p.Since
}

// PlanAt is when the Scheduler renews the grant: NextAt, and by chance a little later, so that grants which signed in
// together do not renew together. The delay is at most a tenth of the token's age then, and half of what it has left.
func (p Policy) PlanAt(g *Grant) time.Time {
	next := p.NextAt(g)
	if !p.Spread || next.IsZero() || g.Standing.Failures > 0 {
		return next
	}
	room := min(g.Tokens.ExpiresAt.Sub(next)/2, next.Sub(g.Tokens.IssuedAt)/10)
	if room <= 0 {
		return next
	}
	return next.Add(rand.N(room)) //nolint:gosec // spreads load; nothing secret depends on it
}

// Due says whether an automatic renewal should begin at now. A wall clock that was set back shows in a token set from the
// future: that is due at once, because nobody knows when it really ends. So is what a try from the future has put off for too long.
func (p Policy) Due(g *Grant, now time.Time) bool {
	next := p.NextAt(g)
	if next.IsZero() {
		return false
	}
	if g.Standing.NextTry.Sub(now) > maxRetryAfter+ClockTolerance && g.Standing.TriedAt.Sub(now) > ClockTolerance {
		return true
	}
	if g.Tokens.IssuedAt.Sub(now) > ClockTolerance {
		return !now.Before(g.Standing.NextTry)
	}
	return !now.Before(next)
}

// State is what the grant is good for at now. running says that a renewal is under way.
func (p Policy) State(g *Grant, now time.Time, running bool) State {
	renewable := p.Renewable(g)
	switch {
	case !g.Tokens.ValidAt(now) && renewable:
		return StateExpired
	case !g.Tokens.ValidAt(now):
		return StateNeedsSignIn
	case running, renewable && !now.Before(p.RipeAt(g.Tokens)):
		return StateDue
	default:
		return StateFresh
	}
}
