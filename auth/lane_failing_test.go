package auth

import (
	"errors"
	"strconv"
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

// Nor do grants that fail by themselves: they come again by back-off, in whatever order, beside those who are well.
func TestGrantsThatAlwaysFailKeepNobodyElseFromTheirProvider(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ ill, well int }{"many": {30, 5}, "half of them": {12, 12}, "a few": {3, 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const lifetime, leeway = 40 * time.Second, 10 * time.Second
				l, expired := newLane(16, time.Now), 0
				down := &ProviderError{Delivery: DeliveryAnswered, Failure: Failure{Code: CodeHTTPStatus, Status: 500}}
				expires, tries, next := map[int]time.Time{}, map[int]int{}, map[int]time.Time{}
				for grant := range c.ill + c.well {
					expires[grant] = time.Now().Add(lifetime)
					next[grant] = expires[grant].Add(-leeway)
				}
				for began := time.Now(); time.Since(began) < 20*time.Minute; time.Sleep(lookEvery) {
					for grant, at := range next { // in an order of its own each time
						now := time.Now()
						if grant >= c.ill && now.After(expires[grant]) {
							expired++
						}
						if now.Before(at) {
							continue
						}
						leave, ok := l.try(strconv.Itoa(grant), expires[grant].Sub(now))
						if !ok {
							continue
						}
						if grant < c.ill {
							tries[grant]++
							l.report(strconv.Itoa(grant), now, false, down)
							next[grant] = now.Add(backoff(tries[grant], 0))
						} else {
							l.report(strconv.Itoa(grant), now, false, nil)
							expires[grant] = now.Add(lifetime)
							next[grant] = expires[grant].Add(-leeway)
						}
						leave()
					}
				}
				// Until those who fail have become known, some of the others come late.
				if each := time.Duration(expired) * lookEvery / time.Duration(c.well); each > 30*time.Second {
					t.Errorf("who is well has an expired token for %v in 20 minutes", each)
				}
			})
		})
	}
}

// While a provider rests because it failed for several, those for whom somebody waits may ask, one in 5 s, unless they have met it, too.
func TestARestOfManyLetsThroughWhoMayKnowBetter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLane(16, time.Now)
		down := &ProviderError{Delivery: DeliveryAnswered, Failure: Failure{Code: CodeHTTPStatus, Status: 500}}
		rests := func(grant string) bool {
			leave, err := l.enter(t.Context(), newTurn(grant, false))
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
		leave, err := l.enter(t.Context(), newTurn("well", false))
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
		busy := 0
		for i := range 40 {
			if _, ok := l.try(strconv.Itoa(i), time.Minute); ok {
				busy++
			}
		}
		for i := range 40 {
			if _, err := l.enter(t.Context(), newTurn(strconv.Itoa(i), true)); err == nil {
				busy++
			} else if !errors.Is(err, errResting) {
				t.Error(err)
			}
		}
		if busy != 8 {
			t.Errorf("%d of 16 calls are for grants that are ill", busy)
		}
		if _, err := l.enter(t.Context(), newTurn("0", false)); !errors.Is(err, errResting) || !l.waits("0") || l.waits("well") {
			t.Errorf("one more of them: %v", err)
		}
		for i := range 4 {
			if _, ok := l.try("well"+strconv.Itoa(i), time.Minute); !ok {
				t.Errorf("%d others have a place", i)
			}
		}
		l.report("0", time.Now(), true, nil)
		if _, err := l.enter(t.Context(), newTurn("0", true)); err != nil {
			t.Errorf("who is well again: %v", err)
		}
	})
}
