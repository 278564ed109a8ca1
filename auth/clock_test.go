package auth_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
	"keyturn/auth/vault/sqlite"
)

// movable is a wall clock that a test sets ahead or back. Like one that was set, it has no monotonic reading.
type movable struct{ by atomic.Int64 }

func (m *movable) now() time.Time { return time.Now().Add(time.Duration(m.by.Load())).Round(0) }

func (m *movable) set(by time.Duration) { m.by.Store(int64(by)) }

// The latest sign-in has the oldest time when the clock was set back.
func TestTheLatestSignInIsNotTheOldestOne(t *testing.T) {
	t.Parallel()
	var clock movable
	h := newHouse(t, options{now: clock.now})
	clock.set(-4 * time.Minute)
	latest := h.signIn(t)
	if err := h.grants.EndOldest(t.Context(), latest, 1, func(context.Context, string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := h.db.Get(t.Context(), latest.ID); err != nil {
		t.Errorf("the grant of the sign-in that was just made: %v", err)
	}
	if err := h.grants.Wait(t.Context()); err != nil || len(h.idp.Revoked()) != 0 {
		t.Errorf("%d tokens are revoked, %v", len(h.idp.Revoked()), err)
	}
}

// Whoever signs in after the clock was set back is older than those from before, and is not what the next one ends.
func TestASignInAfterAClockWasSetBackIsNotEndedByTheNext(t *testing.T) {
	t.Parallel()
	var clock movable
	h := newHouse(t, options{now: clock.now})
	h.signIn(t) // two, from before
	clock.set(-4 * time.Minute)
	bounded := func() *auth.Grant {
		g := h.signIn(t)
		if err := h.grants.EndOldest(t.Context(), g, 2, func(context.Context, string) error { return nil }); err != nil {
			t.Fatal(err)
		}
		return g
	}
	first := bounded()
	clock.set(-3 * time.Minute)
	bounded()
	if _, err := h.db.Get(t.Context(), first.ID); err != nil {
		t.Errorf("the last sign-in but one: %v", err)
	}
	clock.set(0)
	bounded()
	if _, err := h.db.Get(t.Context(), first.ID); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("the oldest, when the clock is right: %v", err)
	}
}

// Two processes share a file, and the clock is set, or the machine sleeps, while one of them calls the provider.
func TestAClockThatIsSetDuringACallHandsNoTokenToAnotherProcess(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]time.Duration{"ahead": 10 * time.Second, "back": -30 * time.Second, "asleep": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var clock movable
			h := newHouse(t, options{lifetime: 20 * time.Hour, maxAge: 19 * time.Hour, now: clock.now, idp: func(p *scripted.Provider) {
				p.Class = scripted.FamilyRevoked
				slow(1500 * time.Millisecond)(p)
			}})
			db, err := sqlite.Open(t.Context(), h.db.Options)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			elsewhere := h.config
			elsewhere.Vault = db
			other := auth.NewRotator(elsewhere)
			done := make(chan auth.Result, 1)
			go func() { done <- h.renew(t) }()
			waitFor(t, "the call", func() bool { return h.idp.TokenCalls() == 1 })
			clock.set(by)
			if _, err := other.Renew(t.Context(), h.grant.ID, auth.TriggerManual, time.Now()); err != nil {
				t.Error(err)
			}
			first := <-done
			if first.Outcome != auth.OutcomeRotated || h.idp.MostPresented() != 1 {
				t.Errorf("%s (%s); one refresh token was presented %d times", first.Outcome, first.Failure.Code, h.idp.MostPresented())
			}
		})
	}
}

// A failure that the provider answered is noted, and waited for, although the lease has run out.
func TestAClockThatIsSetDuringACallThatFailsIsNoReasonToCallAgain(t *testing.T) {
	t.Parallel()
	var clock movable
	h := newHouse(t, options{lifetime: 20 * time.Hour, maxAge: 19 * time.Hour, now: clock.now, idp: func(p *scripted.Provider) {
		p.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
			clock.set(time.Minute)
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
	}})
	if result := h.renew(t); result.Outcome != auth.OutcomeKept || result.Failure.Status != http.StatusServiceUnavailable {
		t.Errorf("%s, %+v", result.Outcome, result.Failure)
	}
	if _, err := h.rotator.Fresh(t.Context(), h.grant.ID); err != nil {
		t.Fatal(err)
	}
	if err := h.rotator.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	history, err := h.db.History(t.Context(), h.grant.ID, 0, 10)
	if err != nil || len(history) != 1 || h.idp.TokenCalls() != 1 {
		t.Errorf("%d calls, %d in the history, %v; want one each", h.idp.TokenCalls(), len(history), err)
	}
}

// What a try from the future has put off is not left alone until then.
func TestATryFromTheFutureDoesNotKeepTheSchedulerAway(t *testing.T) {
	t.Parallel()
	var clock movable
	var sick atomic.Bool
	h := newHouse(t, options{lifetime: 2 * time.Second, leeway: 500 * time.Millisecond, now: clock.now, idp: func(p *scripted.Provider) {
		p.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
			if sick.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return sick.Load()
		}
	}})
	sick.Store(true)
	clock.set(time.Hour)
	stop := h.schedule(t, false)
	defer stop()
	waitFor(t, "a failed try", func() bool { return h.stored(t).Standing.Failures > 0 })
	sick.Store(false)
	clock.set(0)
	waitFor(t, "a renewal in the background", func() bool { return h.stored(t).Generation > 1 })
}
