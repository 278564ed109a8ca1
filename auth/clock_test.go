package auth_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
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
