package auth_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
	"keyturn/auth/vault/vaulttest"
)

// mute is a vault that stores the first renewal, and whose answer is lost.
type mute struct {
	auth.Vault
	spoke *atomic.Bool
}

func (m mute) Replace(ctx context.Context, owner string, g *auth.Grant, r *auth.Renewal) error {
	ownGrant, ownRecord := *g, *r // what the database sets does not come back either
	if !m.spoke.Swap(true) {
		return errors.Join(m.Vault.Replace(ctx, owner, &ownGrant, &ownRecord), syscall.ECONNRESET)
	}
	return m.Vault.Replace(ctx, owner, g, r)
}

// What is stored under its very generation is not too late: it is stored, once, and what came with it is settled.
func TestARenewalThatIsStoredWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		idp        func(*scripted.Provider)
		generation int64
		settled    int32
	}{
		"new tokens": {func(*scripted.Provider) {}, 2, 1},
		"a refusal":  {scriptedBy(oauthError(400, "invalid_grant")), 1, 0},
		"a refresh token without an access token": {scriptedBy(says(200, `{"refresh_token":"refresh-3-ABC"}`)), 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			callbacks, settled := auth.DefaultCallbacks(), &atomic.Int32{}
			callbacks.Token = func(_ context.Context, event auth.TokenEvent) (map[string]any, error) {
				if event.Trigger != "" {
					settled.Add(1)
				}
				return map[string]any{"by": string(event.Trigger)}, nil
			}
			h := newHouse(t, options{idp: c.idp, callbacks: &callbacks, vault: func(v auth.Vault) auth.Vault { return mute{v, &atomic.Bool{}} }})
			h.renew(t)
			waitFor(t, "an empty shelf", func() bool {
				if list, err := h.rotator.History(t.Context(), h.grant.ID, 0, 9); err != nil || len(list) != 1 {
					t.Errorf("%d renewals are shown, %v", len(list), err)
				}
				return h.rotator.Unstored() == 0
			})
			if err := h.rotator.Drain(t.Context()); err != nil {
				t.Error(err)
			}
			g := h.stored(t)
			if g.Generation != c.generation || g.LeasedAt(time.Now()) || settled.Load() != c.settled || c.settled == 1 && g.Kept["by"] != "manual" {
				t.Errorf("generation %d, leased until %v, settled %d times, keeps %v", g.Generation, g.LeasedUntil, settled.Load(), g.Kept)
			}
			if n := len(h.history(t)); n != 1 {
				t.Errorf("%d renewals are recorded", n)
			}
			if log := h.log.String(); strings.Contains(log, "too late") {
				t.Errorf("the log: %s", log)
			}
			if left, err := h.config.Spool.All(); err != nil || len(left) != 0 {
				t.Errorf("%d left in the spool, %v", len(left), err)
			}
		})
	}
}

// unleasing is a mute vault that gives no lease for a while.
type unleasing struct {
	mute
	leases *atomic.Bool
}

func (u unleasing) Lease(ctx context.Context, id, owner string, ttl time.Duration) (*auth.Grant, error) {
	if u.spoke.Load() && !u.leases.Load() {
		return nil, errDiskFull
	}
	return u.Vault.Lease(ctx, id, owner, ttl)
}

// Nothing is lost of what was stored without an answer, and renewed since by another process.
func TestARenewalThatIsStoredWithoutAnAnswerAndRenewedSinceIsNotCalledTooLate(t *testing.T) {
	t.Parallel()
	leases := &atomic.Bool{}
	h := newHouse(t, options{vault: func(v auth.Vault) auth.Vault { return unleasing{mute{v, &atomic.Bool{}}, leases} }})
	h.renew(t)
	leased, err := h.db.Lease(t.Context(), h.grant.ID, "another", auth.LeaseTTL)
	if err != nil {
		t.Fatal(err)
	}
	next, record := vaulttest.Renewed(leased, time.Now())
	if err := h.db.Replace(t.Context(), "another", next, record); err != nil {
		t.Fatal(err)
	}
	leases.Store(true)
	waitFor(t, "an empty shelf", func() bool { return h.rotator.Unstored() == 0 })
	if g := h.stored(t); g.Generation != 3 || g.LeasedAt(time.Now()) {
		t.Errorf("generation %d, leased until %v", g.Generation, g.LeasedUntil)
	}
	if log := h.log.String(); strings.Contains(log, "too late") {
		t.Errorf("the log: %s", log)
	}
}

// leisurely is a vault that takes its time to store.
type leisurely struct {
	auth.Vault
	takes time.Duration
}

func (l leisurely) Replace(ctx context.Context, owner string, g *auth.Grant, r *auth.Renewal) error {
	time.Sleep(l.takes)
	return l.Vault.Replace(ctx, owner, g, r)
}

// Tokens that have come at the last moment are a moment away. That it is the database which is slow is said when it is.
func TestWhoWaitsGetsWhatIsBeingStored(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		takes      time.Duration
		generation int64
		code       string
	}{{600 * time.Millisecond, 2, ""}, {2 * time.Second, 1, auth.CodeStorage}} {
		t.Run(c.takes.String(), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, options{timeout: 2 * time.Second, vault: func(v auth.Vault) auth.Vault { return leisurely{v, c.takes} }})
			h.idp.Change(func() { slow(1600 * time.Millisecond)(h.idp) })
			result := h.renew(t)
			if result.Grant.Generation != c.generation || result.Failure.Code != c.code {
				t.Errorf("generation %d with %q", result.Grant.Generation, result.Failure.Code)
			}
			if err := h.rotator.Drain(t.Context()); err != nil { // or it writes to a folder that goes
				t.Error(err)
			}
		})
	}
}
