package auth

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestALaneBoundsCallsAndLeavesRoomForPeople(t *testing.T) {
	t.Parallel()
	l := newLane(8, time.Now)
	var leaves []func()
	for {
		leave, ok := l.try()
		if !ok {
			break
		}
		leaves = append(leaves, leave)
	}
	if len(leaves) != 6 {
		t.Fatalf("%d automatic calls at once, want 6 of 8", len(leaves))
	}
	for range 2 {
		if _, err := l.enter(t.Context(), newTurn(true)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.enter(ctx, newTurn(true)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a ninth call: %v", err)
	}
	come := make(chan error)
	go func() { _, err := l.enter(t.Context(), newTurn(true)); come <- err }()
	leaves[0]()
	leaves[0]() // once only
	if err := <-come; err != nil {
		t.Fatal(err)
	}
	if _, ok := l.try(); ok {
		t.Error("a tenth call")
	}
}

func TestWhoWaitsComesBeforeTheScheduler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLane(1, time.Now)
		leave, _ := l.try()
		var come atomic.Bool
		go func() {
			_, err := l.enter(t.Context(), newTurn(false))
			come.Store(err == nil)
		}()
		synctest.Wait()
		leave()
		if _, ok := l.try(); ok {
			t.Error("the scheduler overtook a request")
		}
		synctest.Wait()
		if !come.Load() {
			t.Error("the request got no turn")
		}
	})
}

func TestAnAilingProviderIsProbed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLane(16, time.Now)
		down := &ProviderError{Delivery: DeliveryAnswered, Failure: Failure{Code: CodeHTTPStatus, Status: 502}}
		probes := 0
		for began := time.Now(); time.Since(began) < 10*time.Minute; time.Sleep(100 * time.Millisecond) {
			if leave, ok := l.try(); ok {
				probes++
				l.report(time.Now(), down)
				leave()
			}
		}
		if probes < 20 || probes > 60 {
			t.Errorf("%d probes in ten minutes, want one in 15 to 30 s", probes)
		}
		l.report(time.Now(), down) // a rest that begins now, wherever the last one is
		if _, err := l.enter(t.Context(), newTurn(false)); !errors.Is(err, errResting) {
			t.Errorf("a request that waits: %v, want errResting", err)
		}
		leave, err := l.enter(t.Context(), newTurn(true))
		if err != nil {
			t.Fatalf("a click: %v", err)
		}
		l.report(time.Now(), nil)
		leave()
		for busy, i := 0, 0; i < 4; i++ {
			for ok := true; ok; {
				if _, ok = l.try(); ok {
					busy++
				}
			}
			if want := []int{2, 4, 8, 12}[i]; busy != want {
				t.Errorf("%d calls at once after %d successes, want %d", busy, i+1, want)
			}
			l.report(time.Now(), nil)
		}
	})
}

func TestRetryAfterHoldsForEverybody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLane(16, time.Now)
		l.report(time.Now(), &ProviderError{Delivery: DeliveryAnswered, RetryAfter: 30 * time.Second, Failure: Failure{Code: CodeRateLimited, Status: 429}})
		time.Sleep(29 * time.Second)
		if _, ok := l.try(); ok {
			t.Error("an automatic call before the time")
		}
		time.Sleep(time.Second)
		if _, ok := l.try(); !ok {
			t.Error("no call after the time")
		}
		long := &ProviderError{Delivery: DeliveryAnswered, RetryAfter: 8 * time.Minute, Failure: Failure{Code: CodeRateLimited, Status: 429}}
		for n, want := range []time.Duration{longestRest, 8 * time.Minute} { // one person's limit, or everybody's
			if n == 0 {
				l.report(time.Now(), nil)
			}
			l.report(time.Now(), long)
			if _, until, _ := l.ailing(); time.Until(until) != want {
				t.Errorf("after answer %d it rests for %v, want %v", n, time.Until(until), want)
			}
			time.Sleep(want)
		}
	})
}

func TestARefusalIsNoAilment(t *testing.T) {
	t.Parallel()
	l := newLane(16, time.Now)
	for range 10 {
		l.report(time.Now(), &ProviderError{Delivery: DeliveryAnswered, Failure: Failure{Code: "invalid_grant", Status: 400}})
	}
	if _, _, ailing := l.ailing(); ailing {
		t.Error("ten people whose refresh tokens are refused make a provider rest")
	}
}
