package auth

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// programs ask for a renewal of their grants again and again until ctx is done. A call takes a while, and is answered with refusal.
func programs(ctx context.Context, running *sync.WaitGroup, l *lane, takes time.Duration, refusal *ProviderError) {
	for i := range 40 {
		running.Go(func() {
			for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
				ask(ctx, l, "program "+strconv.Itoa(i), takes, refusal)
			}
		})
	}
}

// ask is one renewal that somebody asks for, and returns how long its turn took to come.
func ask(ctx context.Context, l *lane, grant string, takes time.Duration, refusal *ProviderError) (waited time.Duration) {
	asked := time.Now()
	leave, err := l.enter(ctx, newTurn(grant, byProgram))
	if err != nil {
		return time.Since(asked)
	}
	defer leave()
	turnAt := time.Now()
	time.Sleep(takes)
	l.report(grant, turnAt, true, refusal)
	return turnAt.Sub(asked)
}

// Programs that ask without an end keep nobody's token from being renewed by itself, where the provider serves everybody.
func TestProgramsThatAskAllTheTimeLeaveRoomForOthers(t *testing.T) {
	t.Parallel()
	for _, most := range []int{2, 5, 16} {
		t.Run(strconv.Itoa(most), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := min(5*most, 20) // no more than the places do for that are left to them
				p := newPeople(n, func(int) bool { return false })
				p.lane = newLane(most, time.Now)
				ctx, end := context.WithCancel(t.Context())
				var running sync.WaitGroup
				programs(ctx, &running, p.lane, 500*time.Millisecond, nil)
				requests := 0
				running.Go(func() { // each waits for a token in place of one that has expired
					for ; ctx.Err() == nil; time.Sleep(time.Second) {
						if leave, err := p.lane.enter(ctx, newTurn("waits", byNobody)); err == nil {
							time.Sleep(500 * time.Millisecond)
							leave()
							requests++
						}
					}
				})
				p.live(2 * time.Minute)
				end()
				running.Wait()
				if len(p.expired) != 0 || requests < 70 {
					t.Errorf("%d of %d tokens expired, and %d requests were served", len(p.expired), n, requests)
				}
			})
		})
	}
}

// What hangs for grants whose programs ask for them holds up neither who asks for another, nor who waits for the scheduler.
func TestProgramsForWhichTheProviderHangsLeaveRoomForOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPeople(20, func(int) bool { return false })
		ctx, end := context.WithCancel(t.Context())
		var running sync.WaitGroup
		programs(ctx, &running, p.lane, 20*time.Second, &ProviderError{Delivery: DeliveryUnknown, Failure: Failure{Code: CodeTimeout}})
		var longest time.Duration
		running.Go(func() {
			time.Sleep(3 * time.Minute) // in which they become known
			for ; ctx.Err() == nil; time.Sleep(3 * time.Second) {
				longest = max(longest, ask(ctx, p.lane, "well", 100*time.Millisecond, nil))
			}
		})
		p.live(3 * time.Minute)
		clear(p.expired)
		p.live(10 * time.Minute)
		end()
		running.Wait()
		if longest > time.Second || len(p.expired) != 0 {
			t.Errorf("who asks waits for %v; %d of 20 tokens expired", longest, len(p.expired))
		}
	})
}

// One failure, which may be anybody's, costs nobody their turn when they ask again, and nor does what hangs for others, however few calls
// there may be.
func TestWhoAsksPassesWhatHangsForOthers(t *testing.T) {
	t.Parallel()
	for _, most := range []int{2, 3, 4, 16} {
		t.Run(strconv.Itoa(most), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLane(most, time.Now)
				l.noteFailing("failed once", failing{at: time.Now()})
				for i := range most {
					l.noteFailing("sick "+strconv.Itoa(i), failing{at: time.Now(), ill: true})
				}
				for i := range most {
					go func() {
						if _, err := l.enter(t.Context(), newTurn("sick "+strconv.Itoa(i), byProgram)); err == nil {
							<-t.Context().Done()
						}
					}()
				}
				synctest.Wait()
				for _, grant := range []string{"failed once", "well"} {
					if waited := ask(t.Context(), l, grant, time.Second, nil); waited > 0 {
						t.Errorf("%s waits for %v", grant, waited)
					}
				}
			})
		})
	}
}

// What programs hold a person passes, and who clicks has no less than who does not. While nothing else waits programs may have all.
func TestPeoplePassPrograms(t *testing.T) {
	t.Parallel()
	for _, most := range []int{2, 4, 16} {
		t.Run(strconv.Itoa(most), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLane(most, time.Now)
				ends := make(chan func(), 2*most)
				for i := range 2 * most {
					go func() {
						if end, err := l.enter(t.Context(), newTurn("program "+strconv.Itoa(i), byProgram)); err == nil {
							ends <- end
						}
					}()
				}
				synctest.Wait()
				if l.busy != most {
					t.Errorf("programs have %d of %d places", l.busy, most)
				}
				clicked := newTurn("clicked", byNobody)
				came := false
				go func() {
					_, err := l.enter(t.Context(), clicked)
					came = err == nil
				}()
				synctest.Wait()
				clicked.hasten(byPerson)
				(<-ends)()
				synctest.Wait()
				if !came {
					t.Error("a person waits behind programs")
				}
			})
		})
	}
}
