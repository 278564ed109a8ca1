package auth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
	"keyturn/auth/vault/vaulttest"
)

// counted is a vault that remembers what was written into it.
type counted struct {
	auth.Vault
	mu      sync.Mutex
	writes  []string
	pending []bool // of each Replace: the id token was still to be verified
}

func (c *counted) wrote(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes = append(c.writes, what)
}

func (c *counted) Claim(ctx context.Context, seen *auth.Grant, owner string, ttl time.Duration, at time.Time) error {
	c.wrote("claim")
	return c.Vault.Claim(ctx, seen, owner, ttl, at)
}

func (c *counted) Lease(ctx context.Context, id, owner string, ttl time.Duration) (*auth.Grant, error) {
	c.wrote("lease")
	return c.Vault.Lease(ctx, id, owner, ttl)
}

func (c *counted) Present(ctx context.Context, id, owner string, at time.Time) error {
	c.wrote("present")
	return c.Vault.Present(ctx, id, owner, at)
}

func (c *counted) Replace(ctx context.Context, owner string, g *auth.Grant, r *auth.Renewal) error {
	c.wrote("replace")
	c.pending = append(c.pending, g.Pending != "")
	return c.Vault.Replace(ctx, owner, g, r)
}

func (c *counted) Amend(ctx context.Context, g *auth.Grant, r *auth.Renewal) error {
	c.wrote("amend")
	return c.Vault.Amend(ctx, g, r)
}

func (c *counted) Release(ctx context.Context, id, owner string) error {
	c.wrote("release")
	return c.Vault.Release(ctx, id, owner)
}

// expect compares the writes since the last call.
func (c *counted) expect(t *testing.T, what string, writes ...string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.writes, writes) {
		t.Errorf("%s is written by %v, want %v", what, c.writes, writes)
	}
	c.writes = nil
}

// Each write costs a commit, and the last one a wait for the disk: a renewal in the ordinary case takes two.
func TestWritesOfARenewal(t *testing.T) {
	t.Parallel()
	count := &counted{}
	h := newHouse(t, options{vault: func(v auth.Vault) auth.Vault { count.Vault = v; return count }})
	h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
	count.expect(t, "a renewal", "claim", "replace")
	if before, now := h.grant.Tokens.ID, h.stored(t); now.Tokens.ID == before || now.Pending != "" {
		t.Error("the new id token has not taken the old one's place")
	}

	if _, err := h.rotator.Renew(t.Context(), h.grant.ID, auth.TriggerAutomatic, time.Now()); err != nil {
		t.Fatal(err)
	}
	count.expect(t, "a renewal that is not due")

	signsAnew(t, h.idp)
	h.expect(t, h.renew(t), auth.OutcomeRotated, 3)
	waitFor(t, "the id token is settled", func() bool { return h.stored(t).Pending == "" })
	count.expect(t, "a renewal whose id token needs a key that is not here", "claim", "replace", "amend")
	if !count.pending[len(count.pending)-1] {
		t.Error("the tokens waited for the key")
	}
}

// signsAnew has the provider sign with a key that nobody has seen.
func signsAnew(t *testing.T, idp *scripted.Provider) jose.JSONWebKeySet {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public := jose.JSONWebKey{Key: &key.PublicKey, KeyID: "next", Algorithm: string(jose.ES256), Use: "sig"}
	idp.Rotate(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "next"}}, public)
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}}
}

// Nobody waits for keys that are long in coming: the stored tokens serve, and their id token is settled beside.
func TestStoredTokensDoNotWaitForKeys(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{})
	release := holdKeys(t, h)
	result := h.renew(t)
	h.expect(t, result, auth.OutcomeRotated, 2)
	if result.Failure.Code != "" || h.stored(t).Pending == "" {
		t.Errorf("%q, the id token is pending: %v", result.Failure.Code, h.stored(t).Pending != "")
	}
	release()
	waitFor(t, "the id token is settled", func() bool { return h.stored(t).Pending == "" })
	if now := h.stored(t); now.Tokens.ID == h.grant.Tokens.ID {
		t.Error("the new id token has not taken the old one's place")
	}
}

// heldUp is a vault whose leases are long in coming.
type heldUp struct{ inSteps }

func (v heldUp) Lease(ctx context.Context, id, owner string, ttl time.Duration) (*auth.Grant, error) {
	time.Sleep(300 * time.Millisecond)
	return v.Vault.Lease(ctx, id, owner, ttl)
}

// What a renewal took is told from when it has the grant, not from when it began to wait for another process.
func TestWaitingForALeaseIsNoPartOfTheRenewal(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{vault: func(v auth.Vault) auth.Vault { return heldUp{inSteps{v}} }})
	asked := time.Now()
	h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
	list, err := h.db.History(t.Context(), h.grant.ID, 0, 1)
	if err != nil || len(list) != 1 {
		t.Fatalf("%d renewals, %v", len(list), err)
	}
	if waited := list[0].At.Sub(asked); waited < 300*time.Millisecond {
		t.Errorf("it began %v after it was asked for, while the lease took 300 ms", waited)
	}
}

// stuck is a vault that takes no renewal until it is released.
type stuck struct {
	auth.Vault
	storing chan struct{} // is told of the first
	release chan struct{}
}

func (v stuck) Replace(ctx context.Context, owner string, g *auth.Grant, r *auth.Renewal) error {
	select {
	case v.storing <- struct{}{}:
	default:
	}
	<-v.release
	return v.Vault.Replace(ctx, owner, g, r)
}

func TestTokensAreInTheSpoolWhileTheDatabaseIsSlow(t *testing.T) {
	t.Parallel()
	v := stuck{storing: make(chan struct{}, 1), release: make(chan struct{})}
	h := newHouse(t, options{vault: func(inner auth.Vault) auth.Vault { v.Vault = inner; return v }})
	inSpool := func() []auth.Unstored {
		list, err := h.config.Spool.All()
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	done := make(chan auth.Result)
	go func() { done <- h.renew(t) }()
	waitFor(t, "the new tokens are in the spool", func() bool { return len(inSpool()) == 1 })
	kept := inSpool()[0].Grant.Tokens.Refresh
	close(v.release)
	if result := <-done; result.Outcome != auth.OutcomeRotated || result.Grant.Generation != 2 {
		t.Errorf("%s (%s), generation %d", result.Outcome, result.Failure.Code, result.Grant.Generation)
	}
	waitFor(t, "they are in the database only", func() bool { return h.stored(t).Tokens.Refresh == kept && len(inSpool()) == 0 })
}

// unwritable is a vault that takes no renewal as long as it is broken.
type unwritable struct {
	auth.Vault
	broken *atomic.Bool
}

func (v unwritable) Replace(ctx context.Context, owner string, g *auth.Grant, r *auth.Renewal) error {
	if v.broken.Load() {
		return errDiskFull
	}
	return v.Vault.Replace(ctx, owner, g, r)
}

// struckHouse has a grant whose renewal was struck when its answer was in the spool.
func struckHouse(t *testing.T, refresh auth.Secret) (*house, *atomic.Bool) {
	t.Helper()
	broken := &atomic.Bool{}
	h := newHouse(t, options{vault: func(inner auth.Vault) auth.Vault { return unwritable{inner, broken} }})
	g := h.stored(t)
	if err := h.db.Claim(t.Context(), g, "who was struck", time.Millisecond, time.Now()); err != nil {
		t.Fatal(err)
	}
	next, record := vaulttest.Renewed(g, time.Now())
	record.OldRefresh, record.NewRefresh = refresh.Fingerprint(), next.Tokens.Refresh.Fingerprint()
	if refresh == "" {
		record.OldRefresh = g.Tokens.Refresh.Fingerprint()
	}
	if err := h.config.Spool.Put(auth.Unstored{Grant: next, Record: record}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Millisecond)
	return h, broken
}

func TestTheSpoolKeepsWhatTheDatabaseStillDoesNotTake(t *testing.T) {
	t.Parallel()
	h, broken := struckHouse(t, "")
	broken.Store(true)
	if result := h.renew(t); result.Grant.Generation != 2 {
		t.Errorf("%s (%s), generation %d", result.Outcome, result.Failure.Code, result.Grant.Generation)
	}
	if list, err := h.config.Spool.All(); err != nil || len(list) != 1 {
		t.Errorf("%d in the spool, %v", len(list), err)
	}
	broken.Store(false)
	waitFor(t, "it is stored", func() bool {
		list, err := h.config.Spool.All()
		return err == nil && len(list) == 0 && h.stored(t).Generation == 2
	})
	if calls := h.idp.TokenCalls(); calls != 0 {
		t.Errorf("%d token calls", calls)
	}
}

// A refresh token that came without an access token is of the same generation.
func TestTheSpoolDoesNotBringAnOlderRefreshTokenBack(t *testing.T) {
	t.Parallel()
	h, _ := struckHouse(t, "one that has been replaced since")
	h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
	if calls := h.idp.TokenCalls(); calls != 1 {
		t.Errorf("%d token calls, want one with the stored refresh token", calls)
	}
}
