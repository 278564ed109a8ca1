package auth

import (
	"maps"
	"math/rand/v2"
	"net/http"
	"time"
)

// report learns how the provider is from the call for a grant whose turn came at turnAt, and which somebody asked for, or nobody did.
func (l *lane) report(grant string, turnAt time.Time, asked bool, refusal *ProviderError) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.signal()
	if refusal == nil || !ails(refusal) {
		l.served(grant)
	} else {
		l.failed(grant, turnAt, asked, refusal)
	}
}

// served learns from a call that did not fail; l.mu is held.
func (l *lane) served(grant string) {
	delete(l.failing, grant)
	l.failures, l.restsTo, l.only, l.servedAt = 0, time.Time{}, "", l.now()
	l.allowed = min(2*l.allowed, l.ceiling())
	l.admit()
}

// mendedAt is when the provider served others after it failed a grant, or until when it asked to wait, if that is later; zero where it did not
// serve any, or that tells nothing of the grant, which is ill by itself.
func (l *lane) mendedAt(grant string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	latest, is := l.failing[grant]
	if !is || latest.ill || !l.servedAt.After(latest.at) {
		return time.Time{}
	}
	if latest.waitTo.After(l.servedAt) {
		return latest.waitTo
	}
	return l.servedAt
}

// failed learns from a call that failed, unless that tells nothing of the provider; l.mu is held.
func (l *lane) failed(grant string, turnAt time.Time, asked bool, refusal *ProviderError) {
	now, limit := l.now(), limits(refusal)
	before, again := l.failing[grant], l.fails(grant)
	alone := again && l.servedAt.After(before.at) || l.servedAt.After(turnAt)
	l.noteFailing(grant, failing{now, alone || again && before.ill, now.Add(min(refusal.RetryAfter, maxRetryAfter))})
	if again && asked || alone && !limit {
		return
	}
	switch {
	case l.failures == 0, now.Sub(l.failedAt) > maxRetryAfter, limit && !l.limited:
		l.only = grant // what others have met is over, or was something else
	case l.only != grant:
		l.only = ""
	}
	if l.limited = limit; limit {
		most := maxRetryAfter
		if l.only != "" {
			most = longestRest
		}
		l.restUntil(now.Add(min(refusal.RetryAfter, most)))
	}
	l.why = refusal.Failure
	l.why.Party = judge(refusal.Failure, 0).party
	// Calls that were under way together fail together: that is one failure.
	if turnAt.After(l.failedAt) {
		if l.only != grant || l.failures < ailsAfter {
			l.failures++ // one grant that fails again and again makes no rest longer
		}
		l.failedAt = now
		l.allowed = max(1, l.allowed/2)
	}
	if l.failures >= ailsAfter {
		l.restUntil(now.Add(restAfter(l.failures)))
		l.allowed = 1
	}
	l.admit()
}

// restUntil leaves the provider alone until then, or as long as it is already; l.mu is held.
func (l *lane) restUntil(then time.Time) {
	if then.After(l.restsTo) {
		l.restsTo = then
	}
}

// restAfter is how long a provider is left alone after so many failures in a row, by chance.
func restAfter(failures int) time.Duration {
	bound := longestRest
	if shift := failures - ailsAfter; shift < 5 {
		bound = min(bound, backoffBase<<shift)
	}
	return bound/2 + rand.N(bound/2) //nolint:gosec // spreads load; nothing secret depends on it
}

// limits says whether the provider has said how long to wait.
func limits(refusal *ProviderError) bool {
	status := refusal.Failure.Status
	return refusal.RetryAfter > 0 && (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable)
}

// failing is the latest failure of a grant.
type failing struct {
	at     time.Time
	ill    bool      // others were served meanwhile, or it was so already
	waitTo time.Time // as its provider asked
}

// fails says whether a grant's latest call failed lately; l.mu is held.
func (l *lane) fails(grant string) bool {
	latest, is := l.failing[grant]
	return is && l.now().Sub(latest.at) <= failingFor
}

// ill says whether a grant fails by itself; l.mu is held.
func (l *lane) ill(grant string) bool { return l.fails(grant) && l.failing[grant].ill }

// noteFailing remembers that a grant fails now; l.mu is held.
func (l *lane) noteFailing(grant string, latest failing) {
	if len(l.failing) >= mostFailing {
		maps.DeleteFunc(l.failing, func(_ string, f failing) bool { return latest.at.Sub(f.at) > failingFor })
	}
	if _, is := l.failing[grant]; is || len(l.failing) < mostFailing {
		l.failing[grant] = latest
	}
}

// ails says whether a failure is likely to meet everybody, not only this grant.
func ails(refusal *ProviderError) bool {
	if refusal.Delivery != DeliveryAnswered {
		return true
	}
	switch status := refusal.Failure.Status; {
	case status >= 500, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		return true
	}
	code := refusal.Failure.Code
	return RefusesClient(code) && !refusal.Failure.endsToken() || code == CodeRedirect || code == CodeDiscovery
}
