package auth

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Programs that ask again and again for grants which the provider always fails keep nobody else from it.
func TestWhoFailsAgainAndAgainIsNoReasonToRest(t *testing.T) {
	t.Parallel()
	for name, every := range map[string]time.Duration{"often": 3 * time.Second, "now and then": 12 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLane(16, time.Now)
				down := &ProviderError{Delivery: DeliveryAnswered, Failure: Failure{Code: CodeHTTPStatus, Status: 500}}
				renewed, longest := time.Now(), time.Duration(0)
				for began := time.Now(); time.Since(began) < 20*time.Minute; time.Sleep(time.Second) {
					for i, grant := range []string{"alice", "bob", "carol"} {
						if (time.Since(began)+time.Duration(i)*every/3)%every == 0 {
							l.report(grant, time.Now(), true, down)
						}
					}
					if time.Since(renewed) < 30*time.Second {
						continue
					}
					if leave, ok := l.try("well", time.Minute); ok {
						l.report("well", time.Now(), false, nil)
						leave()
						renewed = time.Now()
					}
					longest = max(longest, time.Since(renewed))
				}
				if longest > 35*time.Second {
					t.Errorf("who is well is not renewed for %v", longest)
				}
			})
		})
	}
}

// people is a provider's grants as the scheduler sees them, whose tokens live for a while and are due some time before their end.
type people struct {
	lane             *lane
	lifetime, leeway time.Duration
	takes            time.Duration         // a call that fails
	fails            func(grant int) bool  // at present
	mu               sync.Mutex            // guards what follows
	expires, next    map[int]time.Time     // next: of the next try
	tries            map[int]int           // failures in a row
	expired          map[int]time.Duration // how long without a token that serves
	failed           int                   // calls
}

func newPeople(n int, fails func(grant int) bool) *people {
	p := &people{
		lane: newLane(16, time.Now), lifetime: 40 * time.Second, leeway: 10 * time.Second, fails: fails,
		expires: map[int]time.Time{}, next: map[int]time.Time{}, tries: map[int]int{}, expired: map[int]time.Duration{},
	}
	for grant := range n {
		p.expires[grant] = time.Now().Add(p.lifetime)
		p.next[grant] = p.expires[grant].Add(-p.leeway)
	}
	return p
}

// live lets some time pass, in which the scheduler looks for who is due, in an order of its own each time.
func (p *people) live(d time.Duration) {
	for began := time.Now(); time.Since(began) < d; time.Sleep(lookEvery) {
		p.mu.Lock()
		for grant, at := range p.next {
			now, id := time.Now(), strconv.Itoa(grant)
			if now.After(p.expires[grant]) {
				p.expired[grant] += lookEvery
			}
			if now.Before(at) {
				continue
			}
			if leave, ok := p.lane.try(id, p.expires[grant].Sub(now)); ok {
				p.next[grant] = now.Add(time.Hour) // not while it is called for
				go p.call(grant, id, now, leave)
			}
		}
		p.mu.Unlock()
	}
}

// end waits for the calls that are under way.
func (p *people) end() {
	time.Sleep(p.takes)
	synctest.Wait()
}

func (p *people) call(grant int, id string, turnAt time.Time, leave func()) {
	defer leave()
	if !p.fails(grant) {
		p.lane.report(id, turnAt, false, nil)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.tries[grant], p.expires[grant] = 0, time.Now().Add(p.lifetime)
		p.next[grant] = p.expires[grant].Add(-p.leeway)
		return
	}
	time.Sleep(p.takes)
	p.lane.report(id, turnAt, false, &ProviderError{Delivery: DeliveryUnknown, Failure: Failure{Code: CodeTimeout}})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed++
	p.tries[grant]++
	p.next[grant] = time.Now().Add(backoff(p.tries[grant], 0))
}

// Nor do grants that fail by themselves: they come again by back-off, in whatever order, beside those who are well.
func TestGrantsThatAlwaysFailKeepNobodyElseFromTheirProvider(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ill, well int
		takes     time.Duration
	}{"many": {30, 5, 0}, "half of them": {12, 12, 0}, "a few": {3, 1, 0}, "and hang": {20, 10, 20 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPeople(c.ill+c.well, func(grant int) bool { return grant < c.ill })
				p.takes = c.takes
				p.live(20 * time.Minute)
				p.end()
				// Until those who fail have become known, some of the others come late.
				for grant := c.ill; grant < c.ill+c.well; grant++ {
					if p.expired[grant] > time.Minute {
						t.Errorf("who is well has an expired token for %v in 20 minutes", p.expired[grant])
					}
				}
			})
		})
	}
}

// Who has failed alone is let alone like everybody, once the provider serves nobody.
func TestWhoWasIllIsSparedInAnOutageOfAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPeople(200, func(int) bool { return true })
		for range 2 { // all fail, while others are served
			for grant := range 200 {
				p.lane.report(strconv.Itoa(grant), time.Now(), false, &ProviderError{Failure: Failure{Code: CodeUnreachable}})
			}
			time.Sleep(15 * time.Second)
			p.lane.report("another", time.Now(), false, nil)
		}
		p.live(2 * time.Minute)
		p.end()
		before := p.failed
		p.live(10 * time.Minute)
		p.end()
		if n := p.failed - before; n < 10 || n > 300 {
			t.Errorf("%d calls in ten minutes, want one in 5 to 30 s, or a few more", n)
		}
	})
}

// While a provider rests because it failed for several, those for whom somebody waits may ask, one in 5 s, unless they have met it, too.
func TestARestOfManyLetsThroughWhoMayKnowBetter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLane(16, time.Now)
		down := &ProviderError{Delivery: DeliveryAnswered, Failure: Failure{Code: CodeHTTPStatus, Status: 500}}
		rests := func(grant string) bool {
			leave, err := l.enter(t.Context(), newTurn(grant, byNobody))
			if err == nil {
				leave()
			}
			return errors.Is(err, errResting)
		}
		for i := range 20 { // the last rest is one of 15 s at least
			l.report(strconv.Itoa(i%4), time.Now(), false, down)
			time.Sleep(time.Millisecond)
		}
		if !rests("well") {
			t.Error("let through at once")
		}
		time.Sleep(probeGap)
		if _, doubted := l.doubted(); !doubted {
			t.Error("the scheduler looks for nobody to let through")
		}
		if !rests("0") {
			t.Error("who has met it is let through")
		}
		leave, err := l.enter(t.Context(), newTurn("well", byNobody))
		if err != nil {
			t.Fatal("after 5 s:", err)
		}
		if _, doubted := l.doubted(); doubted || !rests("another") {
			t.Error("two at a time")
		}
		l.report("well", time.Now(), false, down)
		leave()
		if !rests("another") {
			t.Error("again at once")
		}
		time.Sleep(probeGap)
		if rests("another") {
			t.Error("not again after 5 s")
		}
		l.report("another", time.Now(), false, limited(time.Minute))
		l.report("well", time.Now(), false, limited(time.Minute))
		time.Sleep(probeGap)
		if !rests("a third") {
			t.Error("let through in a time that the provider has said")
		}
	})
}

// What hangs for a few grants, and for them alone, takes no more than its share of the places.
func TestCallsForGrantsThatAreIllLeaveRoomForOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLane(16, time.Now)
		hangs := &ProviderError{Delivery: DeliveryUnknown, Failure: Failure{Code: CodeTimeout}}
		for range 2 { // they fail, others are served, and they fail again
			for i := range 40 {
				l.report(strconv.Itoa(i), time.Now(), false, hangs)
			}
			for range 4 {
				time.Sleep(time.Second)
				l.report("well", time.Now(), false, nil)
			}
		}
		busy, waiting := 0, make(chan error, 1)
		for i := range 40 {
			if _, ok := l.try(strconv.Itoa(i), time.Minute); ok {
				busy++
			}
		}
		if busy != 4 {
			t.Errorf("%d of 16 automatic calls are for grants that are ill", busy)
		}
		ctx, leave := context.WithCancel(t.Context())
		go func() {
			_, err := l.enter(ctx, newTurn("0", byNobody))
			waiting <- err
		}()
		synctest.Wait()
		if len(waiting) != 0 || !l.waits("0") || l.waits("well") {
			t.Error("one more of them")
		}
		if _, err := l.enter(t.Context(), newTurn("0", byProgram)); err != nil {
			t.Errorf("one that is asked for: %v", err)
		}
		for i := range 4 {
			if _, ok := l.try("well"+strconv.Itoa(i), time.Minute); !ok {
				t.Errorf("%d others have a place", i)
			}
		}
		leave()
		if err := <-waiting; !errors.Is(err, context.Canceled) {
			t.Errorf("who waited: %v", err)
		}
		if l.report("0", time.Now(), true, nil); l.waits("0") {
			t.Error("who is well again has to wait")
		}
	})
}

// endless is a vault in which more is due than anybody reads.
type endless struct {
	Vault
	asked int
}

func (v *endless) Struck(context.Context, string, int) ([]Candidate, error) { return nil, nil }

func (v *endless) Get(context.Context, string) (*Grant, error) { return nil, ErrNotFound }

func (v *endless) Due(_ context.Context, _ string, _ time.Time, _ Candidate, limit int) ([]Candidate, error) {
	if v.asked++; v.asked > 10*lookDoubts {
		return nil, errors.New("asked again and again")
	}
	list := make([]Candidate, limit)
	for i := range list {
		list[i].ID = strconv.Itoa(v.asked*limit + i)
	}
	return list, nil
}

// While a provider rests, those whom it lets through are looked for in a bounded part of what is due.
func TestNotAllThatIsDueIsReadWhileAProviderRests(t *testing.T) {
	t.Parallel()
	v, l := &endless{}, newLane(16, time.Now)
	l.report("told", time.Now(), false, limited(time.Minute))
	te := &tender{Scheduler: &Scheduler{Vault: v, Now: time.Now}, lane: l, begun: map[string]begun{}}
	if err := te.look(t.Context()); err != nil || v.asked != lookDoubts {
		t.Errorf("asked %d times: %v", v.asked, err)
	}
}
