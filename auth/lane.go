package auth

import (
	"context"
	"errors"
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
	probeGap    = 5 * time.Second  // from a failure to a probe for whom a rest would be too long

	failingFor  = maxRetryAfter // that a grant counts as failing after its latest failure
	mostFailing = 1000          // that are remembered

	wantedFor = 5 * time.Second // that places are kept for automatic calls for which there were none
)

// errResting says that an ailing provider is left alone for now.
var errResting = errors.New("the provider is ailing and rests")

// lane bounds the calls at one provider: a bulkhead with a circuit breaker, which is open while the provider rests and half-open for one
// probe at a time. What people ask for comes first, then what programs do. That leaves a quarter to automatic renewals while some wait, since a
// program may ask without an end. These leave a quarter, too, have less while the provider fails and more again with each success, and rest
// when it fails for everybody.
//
// A rest is too long for those whose access tokens end before it, or for whom somebody waits. They are let through one at a time where they
// may know better. What only one grant has met may be the limit of one person: the first call for another tells whether the rest is over, or
// holds for everybody. What several have met may still be theirs: those whose own latest call did not fail are let through, one in 5 s,
// unless the provider has said how long to wait.
//
// A grant that fails although others were served meanwhile, since its last failure or while it was called for, is ill by itself. That tells
// nothing of the provider. Until they are well, such grants have a quarter of the calls together that nobody asks for, and half of all, so
// that what hangs for them holds up nobody else.
//
// It is safe for concurrent use.
type lane struct {
	now func() time.Time // with a monotonic reading

	mu       sync.Mutex
	most     int // calls at once
	allowed  int // automatic ones at once, at present
	busy     int // calls now
	unasked  int // automatic ones among them
	ailments int // those for grants that are ill by themselves among the automatic ones
	retries  int // those for such grants among the others
	asking   []*turn
	waiting  []*turn // automatic ones, for which a request waits
	freed    chan struct{}
	failures int // in a row
	failedAt time.Time
	restsTo  time.Time
	why      Failure
	limited  bool               // by the latest failure: it said how long to wait
	only     string             // the one grant that has met the failures; empty: more than one has, or there are none
	failing  map[string]failing // grants whose latest call failed: not before failingFor ago, or about to be forgotten
	servedAt time.Time          // the latest call that did not
	wantedAt time.Time          // when there was no place for an automatic call that might have begun
}

// turn is somebody who waits in a lane, or is about to.
type turn struct {
	grant   string               // its id
	urgency atomic.Int32         // an urgency
	waited  bool                 // it did not come at once; set before enter returns
	at      atomic.Pointer[lane] // nil: it does not wait yet

	come  chan struct{}
	place place // set before come is closed, as is err
	err   error
}

// place is what a call takes of a lane: one of those that nobody asks for, or of those that somebody does, and of these one for an ill grant.
type place struct{ unasked, ill bool }

// urgency is who asks for a renewal.
type urgency int32

const (
	byNobody urgency = iota
	byProgram
	byPerson
)

// urgency is who asks for a renewal with the trigger.
func (t Trigger) urgency() urgency {
	switch t {
	case TriggerManual:
		return byPerson
	case TriggerAPI:
		return byProgram
	default:
		return byNobody
	}
}

func newTurn(grant string, by urgency) *turn {
	t := &turn{grant: grant, come: make(chan struct{})}
	t.urgency.Store(int32(by))
	return t
}

// by is who asks for the turn.
func (t *turn) by() urgency { return urgency(t.urgency.Load()) }

// comes ends the wait for a turn, with a place or with an error.
func (t *turn) comes(p place, err error) {
	t.place, t.err = p, err
	close(t.come)
}

// hasten makes a turn that has not come yet one that is more urgent. Two callers do not at the same time.
func (t *turn) hasten(by urgency) {
	if t.by() >= by {
		return
	}
	t.urgency.Store(int32(by))
	l := t.at.Load()
	if l == nil {
		return // it will look
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.drop(t) {
		l.queue(t)
		l.admit()
	}
}

func newLane(most int, now func() time.Time) *lane {
	l := &lane{now: now, most: most, freed: make(chan struct{}, 1), failing: map[string]failing{}}
	l.allowed = l.ceiling()
	return l
}

// ceiling is how many automatic calls may run at once when all is well. While some wait, what programs ask for has as much, with what is for
// ill grants: each leaves a quarter to the other.
func (l *lane) ceiling() int { return max(1, l.most*3/4) }

// enter waits for a turn and returns how to end it. The error is errResting for one that nobody asks for while the provider rests for
// its grant. It may be the context's.
func (l *lane) enter(ctx context.Context, t *turn) (leave func(), err error) {
	t.at.Store(l)
	l.mu.Lock()
	if t.by() == byNobody && l.restsFor(t.grant, 0) {
		l.mu.Unlock()
		return nil, errResting
	}
	l.queue(t)
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
	return l.leaving(t.place), nil
}

// try takes a turn for an automatic call if one is free now, behind the automatic ones that wait. left is how long the grant's access token
// lives.
func (l *lane) try(grant string, left time.Duration) (leave func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.restsFor(grant, left) || l.crowded(grant) {
		return nil, false
	}
	if l.awaited() || !l.free() {
		if l.telling() < l.room() {
			l.wantedAt = l.now()
		}
		return nil, false
	}
	return l.leaving(l.begin(grant, true)), true
}

// begin takes a place for a call; l.mu is held.
func (l *lane) begin(grant string, unasked bool) place {
	p := place{unasked, l.ill(grant)}
	l.count(p, 1)
	return p
}

// count adds n calls of a kind to those that run; l.mu is held.
func (l *lane) count(p place, n int) {
	l.busy += n
	if p.unasked {
		l.unasked += n
	}
	switch {
	case p.ill && p.unasked:
		l.ailments += n
	case p.ill:
		l.retries += n
	}
}

func (l *lane) leaving(p place) func() {
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.count(p, -1)
		l.admit()
		l.signal()
	})
}

// admit gives turns to those who wait, as many as there are; l.mu is held.
func (l *lane) admit() {
	still := l.asking[:0]
	for _, t := range l.asking {
		if l.open(t) {
			t.comes(l.begin(t.grant, false), nil)
		} else {
			still = append(still, t)
		}
	}
	clear(l.asking[len(still):])
	l.asking = still
	still = l.waiting[:0]
	for _, t := range l.waiting {
		switch {
		case l.restsFor(t.grant, 0):
			t.comes(place{}, errResting)
		case l.crowded(t.grant) || !l.free():
			still = append(still, t)
		default:
			t.comes(l.begin(t.grant, true), nil)
		}
	}
	clear(l.waiting[len(still):])
	l.waiting = still
}

// withdraw takes a turn out of the queue; false when it has come already.
func (l *lane) withdraw(gone *turn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.drop(gone)
}

// drop is withdraw; l.mu is held.
func (l *lane) drop(gone *turn) bool {
	if i := slices.Index(l.asking, gone); i >= 0 {
		l.asking = slices.Delete(l.asking, i, i+1)
		return true
	}
	if i := slices.Index(l.waiting, gone); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
		return true
	}
	return false
}

// queue has a turn wait, a person's before those of programs; l.mu is held.
func (l *lane) queue(t *turn) {
	switch t.by() {
	case byNobody:
		l.waiting = append(l.waiting, t)
	case byProgram:
		l.asking = append(l.asking, t)
	default:
		i := slices.IndexFunc(l.asking, func(other *turn) bool { return other.by() != byPerson })
		if i < 0 {
			i = len(l.asking)
		}
		l.asking = slices.Insert(l.asking, i, t)
	}
}

func (l *lane) signal() {
	select {
	case l.freed <- struct{}{}:
	default:
	}
}

// open says whether there is a place for a call that somebody asks for. Where there are few places, those that are ill may have all that
// programs get while automatic calls wait: one more is for a grant that is not. l.mu is held.
func (l *lane) open(t *turn) bool {
	ill, sick, half := l.ill(t.grant), l.retries+l.ailments, max(1, l.most/2)
	switch others := l.busy - l.telling(); {
	case l.busy >= l.most, ill && sick >= half:
		return false
	case t.by() == byPerson, !l.wanted(), others < l.ceiling():
		return true
	default:
		return !ill && others-sick < max(1, l.ceiling()-half)
	}
}

// wanted says whether automatic calls wait, or had no place a moment ago; l.mu is held.
func (l *lane) wanted() bool { return l.awaited() || l.now().Sub(l.wantedAt) < wantedFor }

// awaited says whether a request waits for an automatic call that only wants a place; l.mu is held.
func (l *lane) awaited() bool {
	return slices.ContainsFunc(l.waiting, func(t *turn) bool { return !l.crowded(t.grant) })
}

// free says whether there is a place for an automatic call. One that probes has no other beside it, but those for ill grants, of which it
// learns nothing. l.mu is held.
func (l *lane) free() bool {
	return l.busy < l.most && l.unasked < l.ceiling() && l.telling() < l.room()
}

// room is how many automatic calls there may be at present that will tell something of the provider; l.mu is held.
func (l *lane) room() int {
	if l.resting() {
		return 1
	}
	return l.allowed
}

// telling is how many automatic calls are under way that will tell something of the provider; l.mu is held.
func (l *lane) telling() int { return l.unasked - l.ailments }

// resting says whether the provider is to be left alone; l.mu is held.
func (l *lane) resting() bool { return l.now().Before(l.restsTo) }

// restsFor says whether a grant is to leave the provider alone whose access token lives for left; 0: somebody waits. l.mu is held.
func (l *lane) restsFor(grant string, left time.Duration) bool {
	switch {
	case !l.resting():
		return false
	case !l.now().Add(left).Before(l.restsTo):
		return true
	case l.only != "":
		return l.only == grant
	}
	return !l.probes() || l.telling() > 0 || l.fails(grant)
}

// probes says whether a rest that several have made necessary lets somebody through; l.mu is held.
func (l *lane) probes() bool { return !l.limited && l.now().Sub(l.failedAt) >= probeGap }

// crowded says whether a grant is ill and automatic calls for such have all the places that there are for them; l.mu is held.
func (l *lane) crowded(grant string) bool { return l.ailments >= max(1, l.most/4) && l.ill(grant) }

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

// waits says whether an automatic call for a grant has to wait for those of others like it, and for no turn.
func (l *lane) waits(grant string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.crowded(grant)
}

// rests says whether there are no turns now for automatic calls, for a grant whose access token lives for left.
func (l *lane) rests(grant string, left time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.restsFor(grant, left)
}

// doubted says until when the provider rests in a way that lets some through; ok is false when it does not.
func (l *lane) doubted() (until time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.restsTo, l.resting() && (l.only != "" || l.probes() && l.telling() == 0)
}
