package auth_test

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
	"keyturn/auth/vault/vaulttest"
)

// met is a vault in which another process leases a grant just when the Scheduler is about to.
type met struct {
	auth.Vault
	mu    sync.Mutex
	taken bool
}

func (m *met) Due(ctx context.Context, provider string, now time.Time, after auth.Candidate, limit int) ([]auth.Candidate, error) {
	list, err := m.Vault.Due(ctx, provider, now, after, limit)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(list) == 2 && !m.taken {
		m.taken = true
		_, err = m.Lease(ctx, list[0].ID, "other", 10*time.Second)
	}
	return list, err
}

// The Scheduler waits for no other process's renewal, which would cost it a turn at the provider.
func TestTheSchedulerPassesWhatAnotherProcessRenews(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{most: 1, maxAge: time.Millisecond, vault: func(v auth.Vault) auth.Vault { return &met{Vault: v} }})
	first := h.grant
	second := h.signIn(t)
	stop := h.schedule(t, false)
	renewed := func() (n int) {
		for _, g := range []*auth.Grant{first, second} {
			if now, err := h.db.Get(t.Context(), g.ID); err == nil && now.Generation > 1 {
				n++
			}
		}
		return n
	}
	for until := time.Now().Add(15 * time.Second); renewed() == 0 && time.Now().Before(until); {
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	if n, waits := renewed(), h.rotator.Counters.Snapshot().LeaseWaits; n != 1 || waits != 0 {
		t.Errorf("%d renewed while another process held one of two, %d waited for", n, waits)
	}
}

// busyOnce is a vault in which another process holds a grant for a moment: the first who wants it has to pass.
type busyOnce struct {
	inSteps
	wanted, passed chan bool
	once           sync.Once
}

func (b *busyOnce) Lease(ctx context.Context, id, owner string, ttl time.Duration) (*auth.Grant, error) {
	first := false
	b.once.Do(func() { first = true })
	if first {
		close(b.wanted)
		<-b.passed
		return nil, auth.ErrLeased
	}
	return b.Vault.Lease(ctx, id, owner, ttl)
}

// Somebody who waits for a renewal that the Scheduler began gets a token all the same when the Scheduler passes.
func TestWhoeverWaitsIsNotPassed(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(h *house) (auth.View, error){
		"a page": func(h *house) (auth.View, error) { return h.rotator.Fresh(t.Context(), h.grant.ID) },
		"a program": func(h *house) (auth.View, error) {
			r, err := h.rotator.Renew(t.Context(), h.grant.ID, auth.TriggerAutomatic, time.Now())
			return r.View, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &busyOnce{wanted: make(chan bool), passed: make(chan bool)}
			h := newHouse(t, options{lifetime: time.Second, vault: func(v auth.Vault) auth.Vault { b.Vault = v; return b }})
			time.Sleep(1100 * time.Millisecond)
			h.idp.Change(func() { h.idp.Lifetime = time.Hour })
			h.schedule(t, false)
			<-b.wanted
			var view auth.View
			var err error
			asked := make(chan struct{})
			go func() {
				defer close(asked)
				view, err = ask(h)
			}()
			waitFor(t, "somebody to join", func() bool { return h.rotator.Joined(h.grant.ID) == 1 })
			close(b.passed)
			if <-asked; err != nil || view.State != auth.StateFresh || view.Grant.Generation != 2 {
				t.Errorf("%+v, %v", view, err)
			}
		})
	}
}

// While the process drains, the answer of another process still is one, and no call begins when that has died.
func TestDrainingWaitsForAnotherProcessAndTakesNothingOver(t *testing.T) {
	t.Parallel()
	for name, finishes := range map[string]bool{"it renews": true, "it has died": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, options{})
			leased, err := h.db.Lease(t.Context(), h.grant.ID, "other", time.Second)
			if err != nil {
				t.Fatal(err)
			}
			answered := make(chan auth.Result, 1)
			go func() { answered <- h.renew(t) }()
			waitFor(t, "somebody who waits", func() bool { return h.rotator.Counters.Snapshot().LeaseWaits == 1 })
			drained := make(chan error, 1)
			go func() { drained <- h.rotator.Drain(t.Context()) }()
			waitFor(t, "the drain", h.rotator.Draining)
			if finishes {
				next, record := vaulttest.Renewed(leased, time.Now())
				if err := h.db.Replace(t.Context(), "other", next, record); err != nil {
					t.Fatal(err)
				}
			}
			got := <-answered
			if err := <-drained; err != nil {
				t.Fatal(err)
			}
			if finishes && got.Grant.Generation != 2 || !finishes && got.Failure.Code != auth.CodeShuttingDown || h.idp.TokenCalls() != 0 {
				t.Errorf("%s (%s), generation %d, %d calls", got.Outcome, got.Failure.Code, got.Grant.Generation, h.idp.TokenCalls())
			}
		})
	}
}

// What another process stores late, when it has run out already, is no answer to somebody who waits for a token.
func TestATokenThatCameTooLateIsNoAnswer(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{})
	leased, err := h.db.Lease(t.Context(), h.grant.ID, "other", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan auth.Result, 1)
	go func() { answered <- h.renew(t) }()
	waitFor(t, "somebody who waits", func() bool { return h.rotator.Counters.Snapshot().LeaseWaits == 1 })
	next, record := vaulttest.Renewed(leased, time.Now())
	next.Tokens.Refresh, next.Tokens.ExpiresAt = leased.Tokens.Refresh, time.Now()
	if err := h.db.Replace(t.Context(), "other", next, record); err != nil {
		t.Fatal(err)
	}
	got := <-answered
	if got.Outcome != auth.OutcomeRotated || got.State != auth.StateFresh || got.Grant.Generation != 3 || h.idp.TokenCalls() != 1 {
		t.Errorf("%s, %s, generation %d, %d calls", got.Outcome, got.State, got.Grant.Generation, h.idp.TokenCalls())
	}
}

// Who clicks while their page waits behind others for a turn gets a place that is kept free for those who ask.
func TestAClickDoesNotWaitBehindAnAutomaticRenewal(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	held := make(chan struct{})
	h := newHouse(t, options{lifetime: time.Second, most: 2, idp: func(p *scripted.Provider) {
		p.Token = func(http.ResponseWriter, *http.Request, func() map[string]any) bool {
			if calls.Add(1) == 1 {
				<-held
			}
			return false
		}
	}})
	ids := h.crowd(t, 2)
	youngest, err := h.db.Get(t.Context(), ids[1])
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(youngest.Tokens.ExpiresAt))
	var pages sync.WaitGroup
	for n, id := range ids {
		pages.Go(func() { _, _ = h.rotator.Fresh(t.Context(), id) })
		if n == 0 {
			waitFor(t, "the first call", func() bool { return calls.Load() == 1 })
		}
	}
	waitFor(t, "the second page", func() bool { return h.rotator.Queued(youngest.Identity.Provider) == 1 })
	clicked, err := h.rotator.Renew(t.Context(), ids[1], auth.TriggerManual, time.Now())
	if err != nil || clicked.Outcome != auth.OutcomeRotated || calls.Load() != 2 {
		t.Errorf("%s (%s), %v, after %d calls", clicked.Outcome, clicked.Failure.Code, err, calls.Load())
	}
	close(held)
	pages.Wait()
}

// waitsToClaim is the vault of a process that waits for a lease until it is released. It reads nothing for whoever has gone away: what is
// in memory would need no context.
type waitsToClaim struct {
	auth.Vault
	waiting, released chan struct{}
}

func (s waitsToClaim) Claim(context.Context, *auth.Grant, string, time.Duration, time.Time) error {
	s.waiting <- struct{}{}
	<-s.released
	return auth.ErrStale
}

func (s waitsToClaim) Get(ctx context.Context, id string) (*auth.Grant, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.Vault.Get(ctx, id)
}

// Another process is done in the moment in which somebody's patience here ends: what it has stored is the answer.
func TestWhatAnotherProcessStoredAtTheLastMomentIsTheAnswer(t *testing.T) {
	t.Parallel()
	impatient := func(t *testing.T, ask func(ctx context.Context, h *house, other *auth.Rotator)) {
		t.Helper()
		h := newHouse(t, options{lifetime: time.Second})
		waitUntilExpired(t, h)
		vault := waitsToClaim{h.db, make(chan struct{}, 1), make(chan struct{})}
		config := h.config
		config.Vault = vault
		other := auth.NewRotator(config)
		ctx, leave := context.WithCancel(t.Context())
		answered := make(chan struct{})
		go func() { defer close(answered); ask(ctx, h, other) }()
		<-vault.waiting
		h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
		leave()
		<-answered
		close(vault.released)
		if err := other.Drain(t.Context()); err != nil {
			t.Error(err)
		}
	}
	t.Run("of a click", func(t *testing.T) {
		t.Parallel()
		impatient(t, func(ctx context.Context, h *house, other *auth.Rotator) {
			result, err := other.Renew(ctx, h.grant.ID, auth.TriggerManual, time.Now())
			if err != nil || result.Outcome != auth.OutcomeRotated || result.Failure.Code != "" || result.Grant.Generation != 2 {
				t.Errorf("%s (%s), generation %d, %v", result.Outcome, result.Failure.Code, result.Grant.Generation, err)
			}
		})
	})
	t.Run("of a request", func(t *testing.T) {
		t.Parallel()
		impatient(t, func(ctx context.Context, h *house, other *auth.Rotator) {
			view, err := other.Fresh(ctx, h.grant.ID)
			if err != nil || view.Grant.Generation != 2 {
				t.Errorf("generation %d, %v", view.Grant.Generation, err)
			}
		})
	})
}

// claims is a vault that counts the claims of a grant, which another process leases just before the first.
type claims struct {
	auth.Vault
	grant string
	times atomic.Int32
}

func (c *claims) Claim(ctx context.Context, seen *auth.Grant, owner string, ttl time.Duration, at time.Time) error {
	if seen.ID == c.grant && c.times.Add(1) == 1 {
		if _, err := c.Lease(ctx, seen.ID, "other", 10*time.Second); err != nil {
			return err
		}
	}
	return c.Vault.Claim(ctx, seen, owner, ttl, at)
}

// While the access token is valid no request waits for another process's renewal, neither in a turn at the provider nor in the way of the
// end of this process.
func TestNobodysRenewalPassesWhatAnotherProcessRenews(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]bool{"that is read": true, "that began a moment later": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var vault claims
			h := newHouse(t, options{most: 1, maxAge: time.Millisecond, vault: func(v auth.Vault) auth.Vault { vault.Vault = v; return &vault }})
			other := h.signIn(t)
			vault.grant = h.grant.ID
			want := int32(1)
			if before {
				want = 0
				if _, err := h.db.Lease(t.Context(), h.grant.ID, "other", 10*time.Second); err != nil {
					t.Fatal(err)
				}
			}
			fresh := func(id string) auth.View {
				view, err := h.rotator.Fresh(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				return view
			}
			fresh(h.grant.ID)
			waitFor(t, "the renewal of another", func() bool { return fresh(other.ID).Grant.Generation == 2 })
			if view := fresh(h.grant.ID); view.Grant.Generation != 1 || !view.Running {
				t.Errorf("generation %d, renewed elsewhere: %v", view.Grant.Generation, view.Running)
			}
			if err := h.rotator.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			if waits, claimed := h.rotator.Counters.Snapshot().LeaseWaits, vault.times.Load(); waits != 0 || claimed != want {
				t.Errorf("%d waited for another process, %d claims", waits, claimed)
			}
		})
	}
}
