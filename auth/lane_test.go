package auth

import (
	"context"
	"crypto/rand"
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
		leave, ok := l.try("due", time.Minute)
		if !ok {
			break
		}
		leaves = append(leaves, leave)
	}
	if len(leaves) != 6 {
		t.Fatalf("%d automatic calls at once, want 6 of 8", len(leaves))
	}
	for range 2 {
		if _, err := l.enter(t.Context(), newTurn("asked", byProgram)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.enter(ctx, newTurn("asked", byProgram)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a ninth call: %v", err)
	}
	come := make(chan error)
	go func() { _, err := l.enter(t.Context(), newTurn("asked", byProgram)); come <- err }()
	leaves[0]()
	leaves[0]() // once only
	if err := <-come; err != nil {
		t.Fatal(err)
	}
	if _, ok := l.try("due", time.Minute); ok {
		t.Error("a tenth call")
	}
}

func TestWhoWaitsComesBeforeTheScheduler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLane(1, time.Now)
		leave, _ := l.try("due", time.Minute)
		var come atomic.Bool
		go func() {
			_, err := l.enter(t.Context(), newTurn("waits", byNobody))
			come.Store(err == nil)
		}()
		synctest.Wait()
		leave()
		if _, ok := l.try("due", time.Minute); ok {
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
			if leave, ok := l.try("due", time.Minute); ok {
				probes++
				l.report(rand.Text(), time.Now(), false, down)
				leave()
			}
		}
		if probes < 20 || probes > 60 {
			t.Errorf("%d probes in ten minutes, want one in 15 to 30 s", probes)
		}
		l.report("another", time.Now(), false, down) // a rest that begins now, wherever the last one is
		if _, err := l.enter(t.Context(), newTurn("waits", byNobody)); !errors.Is(err, errResting) {
			t.Errorf("a request that waits: %v, want errResting", err)
		}
		leave, err := l.enter(t.Context(), newTurn("asked", byProgram))
		if err != nil {
			t.Fatalf("a click: %v", err)
		}
		l.report("asked", time.Now(), false, nil)
		leave()
		for busy, i := 0, 0; i < 4; i++ {
			for ok := true; ok; {
				if _, ok = l.try("due", time.Minute); ok {
					busy++
				}
			}
			if want := []int{2, 4, 8, 12}[i]; busy != want {
				t.Errorf("%d calls at once after %d successes, want %d", busy, i+1, want)
			}
			l.report("asked", time.Now(), false, nil)
		}
	})
}

func TestRetryAfterHoldsForEverybody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLane(16, time.Now)
		l.report("told", time.Now(), false, limited(30*time.Second))
		time.Sleep(29 * time.Second)
		if _, ok := l.try("due", time.Minute); ok {
			t.Error("an automatic call before the time")
		}
		time.Sleep(time.Second)
		if _, ok := l.try("due", time.Minute); !ok {
			t.Error("no call after the time")
		}
		l.report("asked", time.Now(), false, nil)
		for n, c := range []struct {
			told string
			want time.Duration
		}{{"told", longestRest}, {"told", longestRest}, {"another", 8 * time.Minute}} { // one person's limit, or everybody's
			l.report(c.told, time.Now(), false, limited(8*time.Minute))
			if _, until, _ := l.ailing("due", time.Hour); time.Until(until) != c.want {
				t.Errorf("after answer %d it rests for %v, want %v", n, time.Until(until), c.want)
			}
			time.Sleep(c.want)
		}
	})
}

func limited(retryAfter time.Duration) *ProviderError {
	return &ProviderError{Delivery: DeliveryAnswered, RetryAfter: retryAfter, Failure: Failure{Code: CodeRateLimited, Status: 429}}
}

// While one grant alone has been told to wait, one other at a time may ask whether that holds for it too.
func TestTheLimitOfOneIsProbedByAnother(t *testing.T) {
	t.Parallel()
	for name, everybodys := range map[string]bool{"it is one person's": false, "it is everybody's": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLane(16, time.Now)
				leave, _ := l.try("told", time.Minute)
				l.report("told", time.Now(), false, limited(time.Minute))
				if _, ok := l.try("due", time.Second); ok {
					t.Error("a probe beside the call that was told")
				}
				leave()
				time.Sleep(time.Second)
				if _, ok := l.try("told", 0); ok {
					t.Error("a call for the grant that was told")
				}
				if _, err := l.enter(t.Context(), newTurn("told", byNobody)); !errors.Is(err, errResting) {
					t.Errorf("a request for the grant that was told: %v, want errResting", err)
				}
				if _, ok := l.try("due", 29*time.Second); ok {
					t.Error("a probe for a token that outlives the rest")
				}
				if _, until, ailing := l.ailing("due", 0); ailing || !until.IsZero() {
					t.Errorf("for a grant that was not told it is ailing %v, and rests to %v", ailing, until)
				}
				leave, ok := l.try("due", 28*time.Second)
				if !ok {
					t.Fatal("no probe for a token that ends in the rest")
				}
				var come, resting atomic.Int32
				for range 3 {
					go func() {
						if _, err := l.enter(t.Context(), newTurn("waits", byNobody)); errors.Is(err, errResting) {
							resting.Add(1)
						} else if err == nil {
							come.Add(1)
						}
					}()
				}
				synctest.Wait()
				if come.Load()+resting.Load() != 0 {
					t.Errorf("beside a probe %d were let through, and %d sent away", come.Load(), resting.Load())
				}
				if everybodys {
					l.report("due", time.Now(), false, limited(time.Minute))
				} else {
					l.report("due", time.Now(), false, nil)
				}
				leave()
				synctest.Wait()
				if everybodys && resting.Load() != 3 || !everybodys && come.Load() != 3 {
					t.Errorf("after the probe %d were let through, and %d sent away", come.Load(), resting.Load())
				}
				why, until, ailing := l.ailing("waits", 0)
				if ailing != everybodys || everybodys && (why.Code != CodeRateLimited || time.Until(until) != time.Minute) {
					t.Errorf("after the probe it is ailing %v with %q, and rests to %v", ailing, why.Code, until)
				}
			})
		})
	}
}

// What others have met before, and was something else or is long past, does not make the limit of one everybody's.
func TestTheLimitOfOneAfterFailuresOfOthers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before *ProviderError
		ago    time.Duration
	}{
		"of another kind": {&ProviderError{Delivery: DeliveryAnswered, Failure: Failure{Code: CodeHTTPStatus, Status: 500}}, time.Second},
		"long ago":        {limited(time.Second), maxRetryAfter + time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLane(16, time.Now)
				l.report("another", time.Now(), false, c.before)
				time.Sleep(c.ago)
				l.report("told", time.Now(), false, limited(8*time.Minute))
				if _, ok := l.try("due", time.Second); !ok {
					t.Error("nobody may probe")
				}
			})
		})
	}
}

// Calls that were under way together fail together, and say no more than one.
func TestFailuresTogetherAreOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLane(16, time.Now)
		began := time.Now()
		time.Sleep(time.Second)
		down := &ProviderError{Delivery: DeliveryAnswered, Failure: Failure{Code: CodeHTTPStatus, Status: 502}}
		for range 12 {
			l.report(rand.Text(), began, false, down)
		}
		if _, until, ailing := l.ailing("due", 0); ailing || !until.IsZero() || l.allowed != 6 {
			t.Errorf("it is ailing %v, rests to %v and has %d calls at once", ailing, until, l.allowed)
		}
	})
}

func TestWhatMeetsEverybodyIsAnAilment(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]*ProviderError{
		"not reachable":        {Failure: Failure{Code: CodeUnreachable}},
		"no answer":            {Delivery: DeliveryUnknown, Failure: Failure{Code: CodeTimeout}},
		"an error of its own":  {Delivery: DeliveryAnswered, Failure: Failure{Code: CodeHTTPStatus, Status: 500}},
		"too many requests":    {Delivery: DeliveryAnswered, Failure: Failure{Code: CodeRateLimited, Status: 429}},
		"too slow":             {Delivery: DeliveryAnswered, Failure: Failure{Code: CodeHTTPStatus, Status: 408}},
		"the client":           {Delivery: DeliveryAnswered, Failure: Failure{Code: "invalid_client", Status: 401}},
		"what the client may":  {Delivery: DeliveryAnswered, Failure: Failure{Code: "unauthorized_client", Status: 400}},
		"renewals of any kind": {Delivery: DeliveryAnswered, Failure: Failure{Code: "unsupported_grant_type", Status: 400}},
		"the client, GitHub":   {Delivery: DeliveryAnswered, Failure: Failure{Code: "incorrect_client_credentials", Status: 200}},
		"the client, Slack":    {Delivery: DeliveryAnswered, Failure: Failure{Code: "bad_client_secret", Status: 200}},
		"no such client":       {Delivery: DeliveryAnswered, Failure: Failure{Code: "deleted_client", Status: 401}},
		"another address":      {Delivery: DeliveryAnswered, Failure: Failure{Code: CodeRedirect, Status: 307}},
		"the metadata":         {Delivery: DeliveryAnswered, Failure: Failure{Code: CodeDiscovery}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLane(16, time.Now)
				for range ailsAfter {
					time.Sleep(time.Second)
					l.report(rand.Text(), time.Now(), false, refusal)
				}
				if why, until, ailing := l.ailing("due", 0); !ailing || !until.After(time.Now()) || why.Code != refusal.Failure.Code {
					t.Errorf("it is ailing %v with %q, and rests to %v", ailing, why.Code, until)
				}
			})
		})
	}
}

// Who goes away in the moment in which their turn comes has it, and gives it back.
func TestATurnThatComesTooLateIsGivenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLane(1, time.Now)
		if _, err := l.enter(t.Context(), newTurn("busy", byProgram)); err != nil {
			t.Fatal(err)
		}
		ctx, goAway := context.WithCancel(t.Context())
		go func() {
			if leave, err := l.enter(ctx, newTurn("asked", byProgram)); err == nil {
				leave()
			}
		}()
		synctest.Wait()
		l.mu.Lock()
		goAway() // it is awake now, and is given the place that comes free before it can say so
		l.busy--
		l.admit()
		l.mu.Unlock()
		synctest.Wait()
		if _, ok := l.try("due", time.Minute); !ok {
			t.Error("the place is lost")
		}
	})
}

func TestARefusalIsNoAilment(t *testing.T) {
	t.Parallel()
	l := newLane(16, time.Now)
	for range 10 {
		l.report(rand.Text(), time.Now(), false, &ProviderError{Delivery: DeliveryAnswered, Failure: Failure{Code: "invalid_grant", Status: 400}})
		gitea := Failure{Code: "unauthorized_client", Detail: "unable to parse refresh token", Status: 400}
		l.report(rand.Text(), time.Now(), false, &ProviderError{Delivery: DeliveryAnswered, Failure: gitea})
	}
	if _, _, ailing := l.ailing("due", 0); ailing {
		t.Error("ten people whose refresh tokens are refused make a provider rest")
	}
}
