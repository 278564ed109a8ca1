package auth_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/vault/vaulttest"
)

// locked is a vault that takes no renewal while anybody waits.
type locked struct{ auth.Vault }

func (locked) Replace(ctx context.Context, _ string, _ *auth.Grant, _ *auth.Renewal) error {
	<-ctx.Done()
	return ctx.Err()
}

// A database may take leases while it takes no renewals, as behind a lock on their table: for as long as that lasts nobody else gets what
// waits, however much it is, and presents a refresh token that has a successor.
func TestWhatWaitsOnTheShelfStaysLeased(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{vault: func(v auth.Vault) auth.Vault { return locked{v} }})
	ids := h.crowd(t, 5)
	var renewals sync.WaitGroup
	for _, id := range ids {
		renewals.Go(func() {
			if result, err := h.rotator.Renew(t.Context(), id, auth.TriggerManual, time.Now()); err != nil || result.Grant.Generation != 2 {
				t.Errorf("%s, %v", result.Outcome, err)
			}
		})
	}
	renewals.Wait()
	time.Sleep(auth.LeaseTTL + time.Second)
	for _, id := range ids {
		if _, err := h.db.Lease(t.Context(), id, "another", auth.LeaseTTL); !errors.Is(err, auth.ErrLeased) {
			t.Errorf("another replica may renew %s: %v", id, err)
		}
	}
}

// What an earlier process left in the spool may be of a generation that is past: then nobody waits for the lease that was taken to see that.
func TestWhatComesTooLateToBeStoredHoldsNoLease(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{})
	late, record := vaulttest.Renewed(h.grant, time.Now())
	h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
	if err := h.config.Spool.Put(auth.Unstored{Grant: late, Record: record}); err != nil {
		t.Fatal(err)
	}
	next := auth.NewRotator(h.config)
	waitFor(t, "an empty shelf", func() bool { return next.Unstored() == 0 })
	if _, err := h.db.Lease(t.Context(), h.grant.ID, "another", auth.LeaseTTL); err != nil {
		t.Error(err)
	}
	if g := h.stored(t); g.Generation != 2 || g.Tokens.Refresh == late.Tokens.Refresh {
		t.Errorf("generation %d with %v is stored", g.Generation, g.Tokens.Refresh)
	}
}

// What waits is no longer what comes next when a refresh token has come since: it is let go of, and nothing of it is stored.
func TestWhatIsOnTheShelfReplacesNothingNewer(t *testing.T) {
	t.Parallel()
	h, _ := struckHouse(t, "one that has been replaced since")
	before := h.stored(t)
	h.diesAndStarts(t, h.config)
	waitFor(t, "an empty shelf", func() bool { return h.rotator.Unstored() == 0 })
	if now := h.stored(t); now.Generation != before.Generation || now.Tokens != before.Tokens || now.LeasedAt(time.Now()) {
		t.Errorf("stored is generation %d with %v, leased: %v", now.Generation, now.Tokens.Refresh, now.LeasedAt(time.Now()))
	}
	if list, err := h.config.Spool.All(); err != nil || len(list) != 0 || h.idp.TokenCalls() != 0 {
		t.Errorf("%d in the spool, %d token calls, %v", len(list), h.idp.TokenCalls(), err)
	}
}
