package auth

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// DefaultConcurrency is how many token endpoint calls may run at once at one provider.
	DefaultConcurrency = 16

	ailsAfter   = 3                // failures in a row before a provider counts as ailing
	longestRest = 30 * time.Second // between two probes of an ailing provider, and on the word of one grant

	failingFor  = maxRetryAfter // that a grant counts as failing after its latest failure
	mostFailing = 1000          // that are remembered
)

// errResting says that an ailing provider is left alone for now.
var errResting = errors.New("the provider is ailing and rests")

// lane bounds the calls at one provider: a bulkhead with a circuit breaker, which is open while the provider rests and half-open for one
// probe at a time. What people and programs ask for may use all of it; automatic renewals leave a quarter free, have less while the
// provider fails and more again with each success, and rest when it fails for everybody. What only one grant has met may be the limit of
// one person. In such a rest others whose access tokens end before it, or for whom somebody waits, are let through one at a time, and the
// first of these calls tells: the rest is over, or it holds for everybody. That is one call more in a rest. It is safe for concurrent use.
type lane struct {
	now func() time.Time // with a monotonic reading

	mu       sync.Mutex
	most     int // calls at once
	allowed  int // automatic ones at once, at present
	busy     int // calls now
	unasked  int // automatic ones among them
	asking   []*turn
	waiting  []*turn // automatic ones, for which a request waits
	freed    chan struct{}
	failures int // in a row
	failedAt time.Time
	restsTo  time.Time
	why      Failure
	limited  bool                 // by the latest failure: it said how long to wait
	only     string               // the one grant that has met the failures; empty: more than one has, or there are none
	failing  map[string]time.Time // grants whose latest call failed, and when: not before failingFor ago, or about to be forgotten
}

// turn is somebody who waits in a lane, or is about to.
type turn struct {
	grant  string               // its id
	asked  atomic.Bool          // a person or a program asks for the renewal
	waited bool                 // it did not come at once; set before enter returns
	at     atomic.Pointer[lane] // nil: it does not wait yet

	come    chan struct{}
	unasked bool // it has come as an automatic one; set before come is closed, as is err
	err     error
}

func newTurn(grant string, asked bool) *turn {
	t := &turn{grant: grant, come: make(chan struct{})}
	t.asked.Store(asked)
	return t
}

// hasten makes a turn that has not come yet one that somebody asks for.
func (t *turn) hasten() {
	if t.asked.Swap(true) {
		return
	}
	l := t.at.Load()
	if l == nil {
		return // it will look
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, t); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
		l.asking = append(l.asking, t)
		l.admit()
	}
}

func newLane(most int, now func() time.Time) *lane {
	l := &lane{now: now, most: most, freed: make(chan struct{}, 1), failing: map[string]time.Time{}}
	l.allowed = l.ceiling()
	return l
}

// ceiling is how many automatic calls may run at once when all is well.
func (l *lane) ceiling() int { return max(1, l.most*3/4) }

// enter waits for a turn and returns how to end it. The error is errResting for one that nobody asks for while the provider rests for
// its grant. It may be the context's.
func (l *lane) enter(ctx context.Context, t *turn) (leave func(), err error) {
	t.at.Store(l)
	l.mu.Lock()
	switch {
	case t.asked.Load():
		l.asking = append(l.asking, t)
	case l.restsFor(t.grant, 0):
		l.mu.Unlock()
		return nil, errResting
	default:
		l.waiting = append(l.waiting, t)
	}
	l.admit()
	l.mu.Unlock()
	select {
	case <-t.come:
	default:
		t.waited = true
		select {
		case <-t.come:
		case <-ctx.Done():
			if l.withdraw(t) {
				return nil, ctx.Err()
			}
			<-t.come
		}
	}
	if t.err != nil {
		return nil, t.err
	}
	return l.leaving(t.unasked), nil
}

// try takes a turn for an automatic call if one is free now, behind those who wait. left is how long the grant's access token lives.
func (l *lane) try(grant string, left time.Duration) (leave func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.restsFor(grant, left) || len(l.asking)+len(l.waiting) > 0 || !l.free() {
		return nil, false
	}
	l.busy++
	l.unasked++
	return l.leaving(true), true
}

func (l *lane) leaving(unasked bool) func() {
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.busy--
		if unasked {
			l.unasked--
		}
		l.admit()
		l.signal()
	})
}

// admit gives turns to those who wait, as many as there are; l.mu is held.
func (l *lane) admit() {
	for len(l.asking) > 0 && l.busy < l.most {
		l.busy++
		close(l.asking[0].come)
		l.asking = l.asking[1:]
	}
	for len(l.waiting) > 0 {
		if t := l.waiting[0]; l.restsFor(t.grant, 0) {
			t.err = errResting
			close(t.come)
		} else if l.free() {
			l.busy++
			l.unasked++
			t.unasked = true
			close(t.come)
		} else {
			return
		}
		l.waiting = l.waiting[1:]
	}
}

// withdraw takes a turn out of the queue; false when it has come already.
func (l *lane) withdraw(gone *turn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, queue := range []*[]*turn{&l.asking, &l.waiting} {
		for i, t := range *queue {
			if t == gone {
				*queue = append((*queue)[:i:i], (*queue)[i+1:]...)
				return true
			}
		}
	}
	return false
}

func (l *lane) signal() {
	select {
	case l.freed <- struct{}{}:
	default:
	}
}

// free says whether there is a place for an automatic call. One that probes has no other beside it. l.mu is held.
func (l *lane) free() bool {
	room := l.allowed
	if l.resting() {
		room = 1
	}
	return l.busy < l.most && l.unasked < room
}

// resting says whether the provider is to be left alone; l.mu is held.
func (l *lane) resting() bool { return l.now().Before(l.restsTo) }

// restsFor says whether a grant is to leave the provider alone whose access token lives for left; 0: somebody waits. l.mu is held.
func (l *lane) restsFor(grant string, left time.Duration) bool {
	return l.resting() && (l.only == "" || l.only == grant || !l.now().Add(left).Before(l.restsTo))
}

// ailing tells what is wrong with the provider, and until when it rests for a grant whose access token lives for left: zero when it
// does not. ok is false when it is well, as far as anybody but the one grant that has met a failure can know.
func (l *lane) ailing(grant string, left time.Duration) (why Failure, until time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.restsFor(grant, left) {
		until = l.restsTo
	}
	return l.why, until, (l.only == "" || l.only == grant) && (l.resting() || l.failures >= ailsAfter)
}

// rests says whether there are no turns now for automatic calls, for a grant whose access token lives for left.
func (l *lane) rests(grant string, left time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.restsFor(grant, left)
}

// doubted says until when the provider rests on the word of one grant; ok is false when it does not.
func (l *lane) doubted() (until time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.restsTo, l.resting() && l.only != ""
}

// report learns how the provider is from the call for a grant whose turn came at turnAt, and which somebody asked for, or nobody did.
func (l *lane) report(grant string, turnAt time.Time, asked bool, refusal *ProviderError) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.signal()
	if refusal == nil || !ails(refusal) {
		delete(l.failing, grant)
		l.failures, l.restsTo, l.only = 0, time.Time{}, ""
		l.allowed = min(2*l.allowed, l.ceiling())
		l.admit()
		return
	}
	now := l.now()
	if again := l.failsAgain(grant, now); again && asked {
		return
	}
	limit := refusal.RetryAfter > 0 &&
		(refusal.Failure.Status == http.StatusTooManyRequests || refusal.Failure.Status == http.StatusServiceUnavailable)
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
		if until := now.Add(min(refusal.RetryAfter, most)); until.After(l.restsTo) {
			l.restsTo = until
		}
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
		bound := longestRest
		if shift := l.failures - ailsAfter; shift < 5 {
			bound = min(bound, backoffBase<<shift)
		}
		rest := bound/2 + rand.N(bound/2) //nolint:gosec // spreads load; nothing secret depends on it
		if until := now.Add(rest); until.After(l.restsTo) {
			l.restsTo = until
		}
		l.allowed = 1
	}
	l.admit()
}

// failsAgain notes that a grant fails now, and says whether it was failing already; l.mu is held.
func (l *lane) failsAgain(grant string, now time.Time) bool {
	at, is := l.failing[grant]
	if len(l.failing) >= mostFailing {
		maps.DeleteFunc(l.failing, func(_ string, at time.Time) bool { return now.Sub(at) > failingFor })
	}
	if len(l.failing) < mostFailing || is {
		l.failing[grant] = now
	}
	return is && now.Sub(at) <= failingFor
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
