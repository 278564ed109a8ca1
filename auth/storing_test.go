package auth_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
)

var errDiskFull = errors.New("database or disk is full")

// failing is a vault that takes no more renewals when a call of the token endpoint begins, until it is mended.
type failing struct {
	auth.Vault
	full, mended atomic.Bool
	owedBy       atomic.Value // the subject of the latest tokens that are owed
}

func (v *failing) Owe(ctx context.Context, gone *auth.Grant, wait time.Duration) error {
	v.owedBy.Store(gone.Identity.Subject)
	return v.Vault.Owe(ctx, gone, wait)
}

func (v *failing) Present(ctx context.Context, id, owner string, at time.Time) error {
	err := v.Vault.Present(ctx, id, owner, at)
	v.full.Store(!v.mended.Load())
	return err
}

func (v *failing) Claim(ctx context.Context, seen *auth.Grant, owner string, ttl time.Duration, at time.Time) error {
	if v.full.Load() {
		return errDiskFull
	}
	err := v.Vault.Claim(ctx, seen, owner, ttl, at)
	v.full.Store(!v.mended.Load())
	return err
}

func (v *failing) Lease(ctx context.Context, id, owner string, ttl time.Duration) (*auth.Grant, error) {
	if v.full.Load() {
		return nil, errDiskFull
	}
	return v.Vault.Lease(ctx, id, owner, ttl)
}

func (v *failing) Replace(ctx context.Context, owner string, g *auth.Grant, r *auth.Renewal) error {
	if v.full.Load() {
		return errDiskFull
	}
	return v.Vault.Replace(ctx, owner, g, r)
}

func (v *failing) mend() { v.mended.Store(true); v.full.Store(false) }

func onAFailingDisk(t *testing.T, idp func(*scripted.Provider)) (*house, *failing) {
	t.Helper()
	disk := &failing{}
	h := newHouse(t, options{vault: func(v auth.Vault) auth.Vault { disk.Vault = v; return disk }, idp: idp})
	return h, disk
}

// rotatesOntoAFullDisk signs in and renews at a provider of the class; when the provider has rotated, the disk is full.
func rotatesOntoAFullDisk(t *testing.T, class scripted.Class) (*house, *failing) {
	t.Helper()
	h, disk := onAFailingDisk(t, func(p *scripted.Provider) { p.Class, p.Interval = class, 10*time.Second })
	result := h.renew(t)
	if !result.Outcome.Succeeded() || result.Grant.Generation != 2 {
		t.Fatalf("%s (%s), generation %d", result.Outcome, result.Failure.Code, result.Grant.Generation)
	}
	if h.stored(t).Generation != 1 {
		t.Fatal("the disk was not full")
	}
	return h, disk
}

func allClasses() []scripted.Class {
	return []scripted.Class{scripted.Static, scripted.SameSuccessor, scripted.Sibling, scripted.Strict, scripted.FamilyRevoked}
}

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func TestTokensThatTheDatabaseDoesNotTake(t *testing.T) {
	t.Parallel()
	for _, class := range allClasses() {
		t.Run(fmt.Sprint("are served and stored late, class ", class), func(t *testing.T) {
			t.Parallel()
			h, disk := rotatesOntoAFullDisk(t, class)
			view, err := h.rotator.Fresh(t.Context(), h.grant.ID)
			if err != nil || view.Grant.Generation != 2 || view.State != auth.StateFresh {
				t.Fatalf("generation %d, %s, %v", view.Grant.Generation, view.State, err)
			}
			history, err := h.rotator.History(t.Context(), h.grant.ID, 0, 10)
			if err != nil || len(history) != 1 || history[0].Warning != auth.CodeStoredLate {
				t.Errorf("history %+v, %v", history, err)
			}
			if again := h.renew(t); again.Outcome != auth.OutcomeKept || again.Failure.Code != auth.CodeStorage || again.Grant.Generation != 2 {
				t.Errorf("a click meanwhile: %s (%s), generation %d", again.Outcome, again.Failure.Code, again.Grant.Generation)
			}
			disk.mend()
			waitFor(t, "the tokens in the database", func() bool { return h.stored(t).Generation == 2 })
			if h.stored(t).Tokens.Access != view.Grant.Tokens.Access {
				t.Error("what was stored is not what was served")
			}
			waitFor(t, "an empty spool", func() bool {
				left, err := h.config.Spool.All()
				return err == nil && len(left) == 0
			})
			if calls := h.idp.TokenCalls(); calls != 1 {
				t.Errorf("%d token calls, want 1", calls)
			}
			waitFor(t, "the next click to renew", func() bool { return h.renew(t).Grant.Generation == 3 })
			if most := h.idp.MostPresented(); most != 1 && class != scripted.Static {
				t.Errorf("a refresh token was presented %d times", most)
			}
		})
		t.Run(fmt.Sprint("outlive the process, class ", class), func(t *testing.T) {
			t.Parallel()
			h, disk := rotatesOntoAFullDisk(t, class)
			if err := h.rotator.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			h.diesAndStarts(t, h.config)
			if view, err := h.rotator.Fresh(t.Context(), h.grant.ID); err != nil || view.Grant.Generation != 2 {
				t.Fatalf("after the restart: generation %d, %v", view.Grant.Generation, err)
			}
			disk.mend()
			waitFor(t, "the tokens in the database", func() bool { return h.stored(t).Generation == 2 })
			waitFor(t, "a renewal", func() bool { return h.renew(t).Grant.Generation == 3 })
			if most := h.idp.MostPresented(); most != 1 && class != scripted.Static {
				t.Errorf("a refresh token was presented %d times", most)
			}
		})
	}
}

// A second process that has the same data dir finds the answer in the spool, and does not ask the provider again.
func TestAnotherProcessTakesTheAnswerFromTheSpool(t *testing.T) {
	t.Parallel()
	h, _ := rotatesOntoAFullDisk(t, scripted.FamilyRevoked)
	config := h.config
	config.Vault = h.db // this one can write
	config.Spool = lateSpool{config.Spool}
	h.diesAndStarts(t, config)
	if result := h.renew(t); result.Outcome != auth.OutcomeRotated || result.Grant.Generation != 2 || h.stored(t).Generation != 2 {
		t.Errorf("%s, generation %d", result.Outcome, result.Grant.Generation)
	}
	if calls := h.idp.TokenCalls(); calls != 1 {
		t.Errorf("%d token calls, want 1", calls)
	}
}

// lateSpool is the spool of a process that started before anything was in it.
type lateSpool struct{ auth.Spool }

func (lateSpool) All() ([]auth.Unstored, error) { return nil, nil }

// moodySpool is a spool that cannot be read while it fails.
type moodySpool struct {
	auth.Spool
	fails *atomic.Bool
}

func (m moodySpool) Find(id string) (auth.Unstored, error) {
	if m.fails.Load() {
		return auth.Unstored{}, syscall.EMFILE
	}
	return m.Spool.Find(id)
}

func (m moodySpool) All() ([]auth.Unstored, error) {
	if m.fails.Load() {
		return nil, syscall.EMFILE
	}
	return m.Spool.All()
}

// While nobody can say whether the answer is in the spool, the old refresh token is not presented again.
func TestASpoolThatCannotBeReadForAMomentIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	h, _ := rotatesOntoAFullDisk(t, scripted.FamilyRevoked)
	config, fails := h.config, &atomic.Bool{}
	fails.Store(true)
	config.Vault, config.Spool = h.db, moodySpool{config.Spool, fails}
	h.diesAndStarts(t, config)
	if result := h.renew(t); result.Outcome != auth.OutcomeKept || result.Failure.Code != auth.CodeStorage {
		t.Errorf("%s (%s)", result.Outcome, result.Failure.Code)
	}
	fails.Store(false)
	if result := h.renew(t); result.Outcome != auth.OutcomeRotated || result.Grant.Generation != 2 || h.idp.TokenCalls() != 1 {
		t.Errorf("%s, generation %d, %d token calls", result.Outcome, result.Grant.Generation, h.idp.TokenCalls())
	}
}

func TestEndingAGrantThatIsNotStoredYet(t *testing.T) {
	t.Parallel()
	h, disk := rotatesOntoAFullDisk(t, scripted.Strict)
	if _, err := h.grants.End(t.Context(), h.grant.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := h.rotator.Fresh(t.Context(), h.grant.ID); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("the ended grant: %v, want ErrNotFound", err)
	}
	disk.mend()
	newest := h.idp.Issued()[len(h.idp.Issued())-2] // access, refresh, id
	waitFor(t, "the revocation of the late tokens", func() bool { return slices.Contains(h.idp.Revoked(), newest) })
	waitFor(t, "an empty spool", func() bool {
		left, err := h.config.Spool.All()
		return err == nil && len(left) == 0
	})
}

// A failure that cannot be stored counts as well: the refused refresh token is not presented again.
func TestARefusalThatTheDatabaseDoesNotTake(t *testing.T) {
	t.Parallel()
	h, disk := onAFailingDisk(t, scriptedBy(oauthError(400, "invalid_grant")))
	if result := h.renew(t); result.Outcome != auth.OutcomeRefused {
		t.Fatalf("%s", result.Outcome)
	}
	h.renew(t)
	disk.mend()
	waitFor(t, "the refusal in the database", func() bool { return h.stored(t).Standing.Refused })
	h.renew(t)
	if calls := h.idp.TokenCalls(); calls != 1 {
		t.Errorf("a refused refresh token was presented %d times", calls)
	}
}

// lossy is a vault that takes no renewals, and the spool of a process that cannot write to its data dir.
type lossy struct{ auth.Vault }

func (lossy) Replace(context.Context, string, *auth.Grant, *auth.Renewal) error { return errDiskFull }

type lossySpool struct{ auth.Spool }

func (lossySpool) Put(auth.Unstored) error { return syscall.EROFS }

// What is amiss for everybody is said once, and not of each renewal.
func TestAnOutageDoesNotFillTheLog(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{vault: func(v auth.Vault) auth.Vault { return lossy{v} }})
	h.config.Spool = lossySpool{h.config.Spool}
	h.rotator = auth.NewRotator(h.config)
	for _, id := range h.crowd(t, 8) {
		if result, err := h.rotator.Renew(t.Context(), id, auth.TriggerManual, time.Now()); err != nil || result.Grant.Generation != 2 {
			t.Errorf("%s, %v", result.Outcome, err)
		}
	}
	for _, line := range []string{"renewal cannot be stored yet", "neither stored nor spooled"} {
		if n := strings.Count(h.log.String(), line); n != 1 {
			t.Errorf("%q is said %d times", line, n)
		}
	}
}

// What only this process has is not asked for again: the refresh token that is stored has been used.
func TestWhatIsOnTheShelfIsNotRenewed(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{vault: func(v auth.Vault) auth.Vault { return lossy{v} }})
	h.config.Spool = lossySpool{h.config.Spool}
	h.rotator = auth.NewRotator(h.config)
	h.renew(t)
	again := h.renew(t)
	if again.Outcome != auth.OutcomeKept || again.Failure.Code != auth.CodeStorage || again.Grant.Generation != 2 || h.idp.TokenCalls() != 1 {
		t.Errorf("%s (%s), generation %d, %d token calls", again.Outcome, again.Failure.Code, again.Grant.Generation, h.idp.TokenCalls())
	}
}

// What another process has stored is newer than what this one could not store.
func TestWhatIsStoredIsShownBeforeWhatIsOnTheShelf(t *testing.T) {
	t.Parallel()
	h, _ := rotatesOntoAFullDisk(t, scripted.Sibling)
	first, config := h.rotator, h.config
	config.Vault, config.Spool = h.db, remote{lateSpool{config.Spool}}
	h.diesAndStarts(t, config)
	h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
	if view, err := first.Look(t.Context(), h.grant.ID); err != nil || view.Grant.Tokens.Access != h.stored(t).Tokens.Access {
		t.Errorf("%v, %v", view.Grant.Tokens.Access, err)
	}
}

// remote is the spool of a process on another machine: nothing that is left here is in it.
type remote struct{ lateSpool }

func (remote) Find(string) (auth.Unstored, error) { return auth.Unstored{}, auth.ErrNotFound }

// inSteps is a vault that takes no lease and mark in one write.
type inSteps struct{ auth.Vault }

func (inSteps) Claim(context.Context, *auth.Grant, string, time.Duration, time.Time) error {
	return auth.ErrStale
}

// unmarking is a vault that is full when a mark is due: a lease could be had, and nothing else.
type unmarking struct{ inSteps }

func (unmarking) Present(context.Context, string, string, time.Time) error { return errDiskFull }

func TestWithoutTheMarkNothingIsPresented(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{vault: func(v auth.Vault) auth.Vault { return unmarking{inSteps{v}} }})
	result := h.renew(t)
	h.expect(t, result, auth.OutcomeKept, 1)
	if result.Failure.Code != auth.CodeStorage || h.idp.TokenCalls() != 0 {
		t.Errorf("%s after %d token calls, want %s after none", result.Failure.Code, h.idp.TokenCalls(), auth.CodeStorage)
	}
	if _, err := h.db.Lease(t.Context(), h.grant.ID, "somebody else", auth.LeaseTTL); err != nil {
		t.Errorf("the lease was not given back: %v", err)
	}
}

// full is a vault that takes nothing.
type full struct{ auth.Vault }

func (full) Claim(context.Context, *auth.Grant, string, time.Duration, time.Time) error {
	return errDiskFull
}

func TestWithoutAClaimNothingIsPresented(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{vault: func(v auth.Vault) auth.Vault { return full{v} }})
	result := h.renew(t)
	h.expect(t, result, auth.OutcomeKept, 1)
	if result.Failure.Code != auth.CodeStorage || h.idp.TokenCalls() != 0 {
		t.Errorf("%s after %d token calls, want %s after none", result.Failure.Code, h.idp.TokenCalls(), auth.CodeStorage)
	}
}

// Whoever waited for a renewal that could not begin learns why the token has expired.
func TestAnExpiredTokenSaysWhyNothingWasTried(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{lifetime: time.Second, vault: func(v auth.Vault) auth.Vault { return unmarking{inSteps{v}} }})
	waitUntilExpired(t, h)
	view, err := h.rotator.Fresh(t.Context(), h.grant.ID)
	if err != nil || view.State != auth.StateExpired || view.Problem.Code != auth.CodeStorage {
		t.Errorf("%s, problem %q, error %v", view.State, view.Problem.Code, err)
	}
}

func TestTokensOfASignInThatComesToNothingAreRevoked(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{})
	h.grants.Discard(t.Context(), auth.SignedIn{
		Identity: h.grant.Identity, Answer: auth.Answer{Access: "access-0-A", Refresh: "refresh-0-A"},
	})
	waitFor(t, "the refresh token is revoked", func() bool { return slices.Contains(h.idp.Revoked(), "refresh-0-A") })
}

// Whoever waits in vain is told whose matter it is: not the provider's, when that has answered.
func TestASlowVaultIsNotTheProvidersMatter(t *testing.T) {
	t.Parallel()
	v := stuck{storing: make(chan struct{}, 1), release: make(chan struct{})}
	h := newHouse(t, options{vault: func(inner auth.Vault) auth.Vault { v.Vault = inner; return v }})
	ctx, giveUp := context.WithCancel(t.Context())
	go func() { <-v.storing; giveUp() }()
	result, err := h.rotator.Renew(ctx, h.grant.ID, auth.TriggerManual, time.Now())
	if err != nil || result.Outcome != auth.OutcomeKept || result.Failure.Code != auth.CodeStorage || result.Failure.Party != auth.PartyKeyturn {
		t.Errorf("%s: %+v, %v", result.Outcome, result.Failure, err)
	}
	close(v.release)
	if err := h.rotator.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if g := h.stored(t); g.Generation != 2 {
		t.Errorf("generation %d", g.Generation)
	}
}
