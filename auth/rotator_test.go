package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
)

func TestEachClassOfProviderRenewsAgainAndAgain(t *testing.T) {
	t.Parallel()
	for class, want := range map[scripted.Class]auth.Outcome{
		scripted.Static: auth.OutcomeRenewed, scripted.SameSuccessor: auth.OutcomeRotated, scripted.Sibling: auth.OutcomeRotated,
		scripted.Strict: auth.OutcomeRotated, scripted.FamilyRevoked: auth.OutcomeRotated,
	} {
		t.Run(fmt.Sprint("class ", class), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, options{idp: func(p *scripted.Provider) { p.Class, p.Interval = class, 10*time.Second }})
			for n := range int64(5) {
				h.expect(t, h.renew(t), want, n+2)
			}
			if most := h.idp.MostPresented(); most != 1 && class != scripted.Static {
				t.Errorf("a refresh token was presented %d times", most)
			}
		})
	}
}

func TestRequestsThatMeetAtExpiryShareOneCall(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{lifetime: 3 * time.Second, idp: slow(300 * time.Millisecond)})
	for round := range 2 {
		waitUntilExpired(t, h)
		var all sync.WaitGroup
		for range 500 {
			all.Go(func() {
				view, err := h.rotator.Fresh(t.Context(), h.grant.ID)
				if err != nil || view.Grant.Generation != int64(round+2) {
					t.Errorf("round %d: generation %d, error %v", round, view.Grant.Generation, err)
				}
			})
		}
		all.Wait()
		if calls := h.idp.TokenCalls(); calls != round+1 {
			t.Fatalf("%d token calls after %d expiries", calls, round+1)
		}
	}
}

// A manual request that arrives while a renewal runs shares it, also when it is looked at only after that has ended.
func TestManualRequestsShareARunningCall(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{idp: slow(200 * time.Millisecond)})
	arrived := time.Now()
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { h.expect(t, h.renew(t), auth.OutcomeRotated, 2) })
	}
	all.Wait()
	late, err := h.rotator.Renew(t.Context(), h.grant.ID, auth.TriggerAPI, arrived)
	if err != nil {
		t.Fatal(err)
	}
	h.expect(t, late, auth.OutcomeRotated, 2)
	if calls := h.idp.TokenCalls(); calls != 1 {
		t.Errorf("%d token calls, want 1", calls)
	}
	h.expect(t, h.renew(t), auth.OutcomeRotated, 3)
}

// A request that had nothing to renew is no answer to a click that arrived before it ended.
func TestAClickSharesNoRenewalThatTriedNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{})
	arrived := time.Now()
	if idle, err := h.rotator.Renew(t.Context(), h.grant.ID, auth.TriggerAutomatic, arrived); err != nil || idle.Outcome != "" {
		t.Fatalf("%s, %v", idle.Outcome, err)
	}
	clicked, err := h.rotator.Renew(t.Context(), h.grant.ID, auth.TriggerManual, arrived)
	if err != nil {
		t.Fatal(err)
	}
	h.expect(t, clicked, auth.OutcomeRotated, 2)
}

func TestTwoProcessesShareOneCall(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{lifetime: 3 * time.Second, idp: slow(300 * time.Millisecond)})
	other := auth.NewRotator(h.config)
	waitUntilExpired(t, h)
	var all sync.WaitGroup
	for n := range 100 {
		all.Go(func() {
			rotator := h.rotator
			if n%2 == 0 {
				rotator = other
			}
			if view, err := rotator.Fresh(t.Context(), h.grant.ID); err != nil || view.Grant.Generation != 2 {
				t.Errorf("generation %d, error %v", view.Grant.Generation, err)
			}
		})
	}
	all.Wait()
	if calls := h.idp.TokenCalls(); calls != 1 {
		t.Errorf("%d token calls, want 1", calls)
	}
}

// outrun is a vault in which another process renews the grant while a lease is being asked for.
type outrun struct {
	inSteps
	renew  func()
	answer error // of the lease that was asked for; nil: it is given
}

func (v *outrun) Lease(ctx context.Context, id, owner string, ttl time.Duration) (*auth.Grant, error) {
	if renew := v.renew; renew != nil {
		v.renew = nil
		if renew(); v.answer != nil {
			return nil, v.answer
		}
	}
	return v.Vault.Lease(ctx, id, owner, ttl)
}

// A click shares what another process renews between the look at the grant and the lease.
func TestAClickSharesARenewalThatWasQuicker(t *testing.T) {
	t.Parallel()
	for _, answer := range []error{nil, auth.ErrLeased} {
		h := newHouse(t, options{})
		other := auth.NewRotator(h.config)
		config := h.config
		config.Vault = &outrun{inSteps: inSteps{h.config.Vault}, answer: answer, renew: func() {
			if _, err := other.Renew(t.Context(), h.grant.ID, auth.TriggerManual, time.Now()); err != nil {
				t.Error(err)
			}
		}}
		result, err := auth.NewRotator(config).Renew(t.Context(), h.grant.ID, auth.TriggerManual, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		h.expect(t, result, auth.OutcomeRotated, 2)
		if result.State != auth.StateFresh || result.Running {
			t.Errorf("%v: the new token is %s, running %v", answer, result.State, result.Running)
		}
		if calls := h.idp.TokenCalls(); calls != 1 {
			t.Errorf("%v: %d token calls, want 1", answer, calls)
		}
		h.expect(t, h.renew(t), auth.OutcomeRotated, 3) // and nobody has kept the lease
	}
}

// overlooked is a vault that has somebody look as soon as the outcome of a renewal is stored: the renewal ends a moment later.
type overlooked struct {
	auth.Vault
	look func()
}

func (v *overlooked) Replace(ctx context.Context, owner string, g *auth.Grant, r *auth.Renewal) error {
	err := v.Vault.Replace(ctx, owner, g, r)
	if v.look != nil {
		v.look()
	}
	return err
}

func TestWhatIsStoredIsNotBeingRenewed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		idp        func(*scripted.Provider)
		generation int64
	}{"renewed": {nil, 2}, "kept": {scriptedBy(says(http.StatusServiceUnavailable, "")), 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var v overlooked
			h := newHouse(t, options{idp: c.idp, vault: func(inner auth.Vault) auth.Vault { v.Vault = inner; return &v }})
			looks := 0
			v.look = func() {
				looks++
				view, err := h.rotator.Look(t.Context(), h.grant.ID)
				if err != nil {
					t.Error(err)
					return
				}
				if view.Grant.Generation != c.generation || view.State != auth.StateFresh || view.Running {
					t.Errorf("generation %d is %s, running %v", view.Grant.Generation, view.State, view.Running)
				}
			}
			if h.renew(t); looks != 1 {
				t.Errorf("stored %d times", looks)
			}
		})
	}
}

func TestARenewalOutlivesWhoeverAskedForIt(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{idp: slow(300 * time.Millisecond)})
	ctx, hangUp := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer hangUp()
	result, err := h.rotator.Renew(ctx, h.grant.ID, auth.TriggerManual, time.Now())
	if err != nil || result.Outcome != auth.OutcomeKept {
		t.Fatalf("%v, %v", result.Outcome, err)
	}
	if err := h.rotator.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if g := h.stored(t); g.Generation != 2 || h.idp.TokenCalls() != 1 {
		t.Errorf("generation %d after %d calls, want 2 after 1", g.Generation, h.idp.TokenCalls())
	}
}

func TestAValidTokenDoesNotWait(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{maxAge: time.Millisecond, idp: slow(4 * time.Second)})
	time.Sleep(2 * time.Millisecond)
	view, err := h.rotator.Fresh(t.Context(), h.grant.ID)
	if err != nil || view.State != auth.StateDue || !view.Running { // one that had waited would see the renewal's end
		t.Fatalf("state %q, running %v, error %v", view.State, view.Running, err)
	}
	if err := h.rotator.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if g := h.stored(t); g.Generation != 2 {
		t.Errorf("generation %d, want 2", g.Generation)
	}
}

func TestWhoLeavesRenewsOnlyWhatHasExpired(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{lifetime: 9 * time.Second, maxAge: 3 * time.Second})
	h.rotator.Leave()
	if result, err := h.rotator.Renew(t.Context(), h.grant.ID, auth.TriggerAutomatic, time.Now()); err != nil || result.Outcome != "" {
		t.Errorf("a fresh one that somebody wants renewed if it is due: %s (%s), %v", result.Outcome, result.Failure.Code, err)
	}
	time.Sleep(time.Until(h.grant.Tokens.IssuedAt.Add(3 * time.Second)))
	view, err := h.rotator.Fresh(t.Context(), h.grant.ID)
	if err != nil || view.State != auth.StateDue || view.Running {
		t.Errorf("%s, running %v, %v", view.State, view.Running, err)
	}
	if result := h.renew(t); result.Outcome != auth.OutcomeKept || result.Failure.Code != auth.CodeShuttingDown {
		t.Errorf("a click: %s (%s)", result.Outcome, result.Failure.Code)
	}
	if calls := h.idp.TokenCalls(); calls != 0 {
		t.Errorf("%d token calls", calls)
	}
	time.Sleep(time.Until(h.grant.Tokens.ExpiresAt))
	if view, err = h.rotator.Fresh(t.Context(), h.grant.ID); err != nil || view.Grant.Generation != 2 {
		t.Errorf("generation %d of an expired token, %v", view.Grant.Generation, err)
	}
}

func TestDrainBeginsNothingNew(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{})
	if err := h.rotator.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if result := h.renew(t); result.Outcome != auth.OutcomeKept || result.Failure.Code != auth.CodeShuttingDown || h.idp.TokenCalls() != 0 {
		t.Errorf("%s (%s) after %d calls", result.Outcome, result.Failure.Code, h.idp.TokenCalls())
	}
}

func TestEndingWinsOverARenewal(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{idp: func(p *scripted.Provider) {
		p.Token = func(w http.ResponseWriter, _ *http.Request, grant func() map[string]any) bool {
			tokens := grant()
			time.Sleep(200 * time.Millisecond)
			_ = json.NewEncoder(w).Encode(tokens)
			return true
		}
	}})
	done := make(chan error)
	go func() {
		_, err := h.rotator.Renew(t.Context(), h.grant.ID, auth.TriggerManual, time.Now())
		done <- err
	}()
	for len(h.idp.Issued()) < 6 {
		time.Sleep(time.Millisecond)
	}
	if _, err := h.grants.End(t.Context(), h.grant.ID); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("error %v, want ErrNotFound", err)
	}
	if revoked := h.idp.Revoked(); len(revoked) != 2 || revoked[0] == revoked[1] {
		t.Errorf("revoked %d tokens, want the old and the new refresh token", len(revoked))
	}
}

func TestAfterACrashTheRefreshTokenIsPresentedOnceMore(t *testing.T) {
	t.Parallel()
	for class, want := range map[scripted.Class]auth.Outcome{
		scripted.SameSuccessor: auth.OutcomeRotated, scripted.Sibling: auth.OutcomeRotated, scripted.Strict: auth.OutcomeRefused,
	} {
		t.Run(fmt.Sprint("class ", class), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, options{idp: func(p *scripted.Provider) { p.Class, p.Interval = class, 10*time.Second }})
			h.struckInTheMiddle(t)
			if _, err := h.rotator.Fresh(t.Context(), h.grant.ID); err != nil {
				t.Fatal(err)
			}
			if err := h.rotator.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			history, err := h.db.History(t.Context(), h.grant.ID, 0, 5)
			if err != nil || len(history) != 1 {
				t.Fatalf("%d renewals, %v", len(history), err)
			}
			if r := history[0]; r.Outcome != want || r.Trigger != auth.TriggerRecovery || r.Warning != auth.CodeReplayedAfterCrash {
				t.Errorf("%s by %s, warning %q; want %s by recovery", r.Outcome, r.Trigger, r.Warning, want)
			}
			if calls := h.idp.TokenCalls(); calls != 2 {
				t.Errorf("%d token calls, want 2", calls)
			}
		})
	}
}

func TestCallbacks(t *testing.T) {
	t.Parallel()
	events := make(chan auth.TokenEvent, 10)
	callbacks := auth.Callbacks{
		Token: func(_ context.Context, e auth.TokenEvent) (map[string]any, error) {
			events <- e
			return map[string]any{"renewed": string(e.Trigger)}, nil
		},
	}
	h := newHouse(t, options{callbacks: &callbacks})
	if e := <-events; e.Trigger != "" || e.Account == nil || e.Account.Access == "" || e.Profile["locale"] != "en" || e.Profile["nonce"] != nil {
		t.Errorf("at sign-in the callback got %+v", e)
	}
	h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
	if e := <-events; e.Trigger != auth.TriggerManual || e.Account != nil || e.Profile != nil {
		t.Errorf("after a renewal the callback got %+v", e)
	}
	if kept := h.stored(t).Kept["renewed"]; kept != "manual" {
		t.Errorf("the grant keeps %v", kept)
	}
}

func TestAFailingCallbackSignsNobodyOut(t *testing.T) {
	t.Parallel()
	for name, callback := range map[string]func(context.Context, auth.TokenEvent) (map[string]any, error){
		"error": func(context.Context, auth.TokenEvent) (map[string]any, error) {
			return nil, errors.New("callback is broken")
		},
		"panic": func(context.Context, auth.TokenEvent) (map[string]any, error) { panic("callback is broken") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, options{callbacks: &auth.Callbacks{
				Token:   callback,
				Session: func(context.Context, auth.SessionEvent) (map[string]any, error) { panic("callback is broken") },
			}})
			h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
			user := h.config.Callbacks.User(t.Context(), h.config.Log, h.stored(t))
			if user["sub"] != "alice" || strings.Count(h.log.String(), "callback is broken") != 3 {
				t.Errorf("user %v, log:\n%s", user, h.log)
			}
		})
	}
}
