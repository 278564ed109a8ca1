package auth_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
)

// tells is a provider that answers with the status and asks to wait a minute: everybody, or only whoever presents the refresh token.
func tells(status int, refresh func() string) func(*scripted.Provider) {
	return func(p *scripted.Provider) {
		p.Token = func(w http.ResponseWriter, r *http.Request, _ func() map[string]any) bool {
			if r.PostFormValue("grant_type") != "refresh_token" || refresh != nil && r.PostFormValue("refresh_token") != refresh() {
				return false
			}
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(status)
			return true
		}
	}
}

// A provider asks for fewer calls for one person. It renews everybody else, whose tokens must not die of that.
func TestTheLimitOfOnePersonStopsNobodyElse(t *testing.T) {
	t.Parallel()
	for status, code := range map[int]string{429: auth.CodeRateLimited, 503: auth.CodeHTTPStatus} {
		begin := func(t *testing.T) (h *house, other string) {
			t.Helper()
			h = newHouse(t, options{lifetime: 4 * time.Second})
			h.idp.Change(func() { tells(status, h.grant.Tokens.Refresh.Reveal)(h.idp) })
			time.Sleep(time.Second)
			return h, h.crowd(t, 1)[0]
		}
		t.Run(fmt.Sprint(status, " on demand"), func(t *testing.T) {
			t.Parallel()
			h, other := begin(t)
			waitUntilExpired(t, h)
			if view, err := h.rotator.Fresh(t.Context(), h.grant.ID); err != nil || view.State != auth.StateExpired || view.Problem.Code != code {
				t.Errorf("who was told: %s with %q, %v", view.State, view.Problem.Code, err)
			}
			if g, err := h.db.Get(t.Context(), other); err == nil {
				time.Sleep(time.Until(g.Tokens.ExpiresAt))
			}
			if view, err := h.rotator.Look(t.Context(), other); err != nil || view.State != auth.StateExpired || view.Problem.Code != "" {
				t.Errorf("before the probe: %s with %q, %v", view.State, view.Problem.Code, err)
			}
			if view, err := h.rotator.Fresh(t.Context(), other); err != nil || view.State != auth.StateFresh || view.Grant.Generation != 2 {
				t.Errorf("%s with %q, generation %d, %v", view.State, view.Problem.Code, view.Grant.Generation, err)
			}
		})
		t.Run(fmt.Sprint(status, " in the background"), func(t *testing.T) {
			t.Parallel()
			h, other := begin(t)
			stop := h.schedule(t, false)
			var renewals []auth.Renewal
			waitFor(t, "two renewals", func() bool {
				var err error
				renewals, err = h.db.History(t.Context(), other, 0, 200)
				return err == nil && len(renewals) == 2
			})
			stop()
			for _, r := range renewals {
				if !r.Outcome.Succeeded() || !r.At.Before(r.OldExpiry) {
					t.Errorf("%s, %v after the expiry", r.Outcome, r.At.Sub(r.OldExpiry))
				}
			}
			if told := h.history(t); len(told) != 1 || told[0].Code != code {
				t.Errorf("of the one that was told to wait: %+v", told)
			}
		})
	}
}

// A provider asks everybody for fewer calls: a second call tells, and no third is made.
func TestTheLimitOfEverybodyIsProbedOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{lifetime: time.Second, idp: tells(http.StatusTooManyRequests, nil)})
	ids := append(h.crowd(t, 4), h.grant.ID)
	time.Sleep(h.idp.Lifetime)
	for n := range 20 {
		view, err := h.rotator.Fresh(t.Context(), ids[n%len(ids)])
		if n > 0 && (err != nil || view.State != auth.StateExpired || view.Problem.Code != auth.CodeRateLimited) {
			t.Errorf("%s with %q, %v", view.State, view.Problem.Code, err)
		}
	}
	more := h.counting()
	h.schedule(t, false)
	more(t, 8)
	if calls := h.idp.TokenCalls(); calls != 2 {
		t.Errorf("%d token calls, want 2", calls)
	}
}

// Where there is nothing to do, the answer is not how the provider is. A failure of others' calls would say that this one failed.
func TestWhatNeedsNoCallWaitsForNoProvider(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{idp: tells(http.StatusServiceUnavailable, nil)})
	fresh := h.crowd(t, 1)[0]
	h.idp.Change(func() { h.idp.NoRefreshToken = true })
	lasting := h.signIn(t).ID
	h.idp.Change(func() { h.idp.NoRefreshToken = false })
	for _, id := range h.crowd(t, 2) {
		for range 2 {
			if _, err := h.rotator.Renew(t.Context(), id, auth.TriggerManual, time.Now()); err != nil {
				t.Error(err)
			}
		}
	}
	for _, c := range []struct {
		id      string
		trigger auth.Trigger
		outcome auth.Outcome
		code    string
	}{
		{fresh, auth.TriggerAutomatic, "", ""},
		{lasting, auth.TriggerAutomatic, auth.OutcomeKept, auth.CodeNotRenewable},
		{lasting, auth.TriggerManual, auth.OutcomeKept, auth.CodeNotRenewable},
	} {
		result, err := h.rotator.Renew(t.Context(), c.id, c.trigger, time.Now())
		if err != nil || result.Outcome != c.outcome || result.Failure.Code != c.code {
			t.Errorf("%s: %q with %q, %v", c.trigger, result.Outcome, result.Failure.Code, err)
		}
	}
}

// More grants are due than are read at a time. Those whose tokens outlive the rest do not stand in the way of the one whose does not.
func TestWhoCanWaitOutTheLimitOfAnother(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{lifetime: time.Hour, maxAge: time.Second})
	h.idp.Change(func() { tells(http.StatusTooManyRequests, h.grant.Tokens.Refresh.Reveal)(h.idp) })
	h.expect(t, h.renew(t), auth.OutcomeKept, 1)
	h.crowd(t, 120)
	h.idp.Change(func() { h.idp.Lifetime = 4 * time.Second })
	other := h.crowd(t, 1)[0]
	time.Sleep(time.Second)
	h.schedule(t, false)
	waitFor(t, "the renewal", func() bool {
		renewals, err := h.db.History(t.Context(), other, 0, 1)
		return err == nil && len(renewals) == 1 && renewals[0].At.Before(renewals[0].OldExpiry)
	})
}

// All grants of a provider have one client. When it has been accepted for one, nobody whom a request meets waits for the back-off; one for which
// it is refused all the same does, after one more try. As long as the provider asks to be left alone it is.
func TestAClientThatIsAcceptedAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		alone      bool
		retryAfter string
	}{"for everybody": {}, "for others": {alone: true}, "for everybody, later": {retryAfter: "300"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, options{lifetime: time.Second})
			own, others, refused := h.grant.Tokens.Refresh.Reveal(), h.crowd(t, 2), &atomic.Bool{}
			refused.Store(true)
			h.idp.Change(func() {
				h.idp.Token = func(w http.ResponseWriter, r *http.Request, _ func() map[string]any) bool {
					if r.PostFormValue("refresh_token") != own || !refused.Load() {
						return false
					}
					w.Header().Set("Retry-After", c.retryAfter)
					oauthError(http.StatusUnauthorized, "invalid_client")(w, r, nil)
					return true
				}
			})
			meets := func(generation int64, calls int) {
				t.Helper()
				view, err := h.rotator.Fresh(t.Context(), h.grant.ID)
				if n := h.idp.TokenCalls(); err != nil || view.Grant.Generation != generation || n != calls {
					t.Errorf("generation %d after %d token calls, %v; want %d after %d", view.Grant.Generation, n, err, generation, calls)
				}
			}
			served := func(id string) {
				t.Helper()
				if result, err := h.rotator.Renew(t.Context(), id, auth.TriggerManual, time.Now()); err != nil || result.Outcome != auth.OutcomeRotated {
					t.Fatalf("%s, %v", result.Outcome, err)
				}
			}
			waitUntilExpired(t, h)
			meets(1, 1)
			meets(1, 1)
			refused.Store(c.alone)
			served(others[0])
			switch {
			case c.retryAfter != "":
				meets(1, 2)
				return
			case !c.alone:
				meets(2, 3)
				return
			}
			meets(1, 3)
			served(others[1])
			meets(1, 4)
		})
	}
}

// Who clicks while a renewal waits for its turn wants one that begins after that: a call of another process that has failed before is no
// answer.
func TestAClickIsNotAnsweredByAFailureBeforeIt(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{most: 1})
	slow := h.crowd(t, 1)[0]
	g, err := h.db.Get(t.Context(), slow)
	if err != nil {
		t.Fatal(err)
	}
	busy, held := make(chan bool, 1), make(chan bool)
	var fails atomic.Bool
	fails.Store(true)
	h.idp.Change(func() {
		h.idp.Token = func(w http.ResponseWriter, r *http.Request, _ func() map[string]any) bool {
			switch {
			case r.PostFormValue("refresh_token") == string(g.Tokens.Refresh):
				busy <- true
				<-held
			case fails.Load():
				w.WriteHeader(http.StatusInternalServerError)
				return true
			}
			return false
		}
	})
	other, answers := auth.NewRotator(h.config), make(chan auth.Result, 2)
	renew := func(id string) {
		result, err := other.Renew(t.Context(), id, auth.TriggerManual, time.Now())
		if err != nil {
			t.Error(err)
		}
		answers <- result
	}
	go renew(slow)
	<-busy // the other process has no turn left
	go renew(h.grant.ID)
	waitFor(t, "a renewal that has read its grant", func() bool { return other.Queued(g.Identity.Provider) == 1 })
	if failed := h.renew(t); failed.Outcome != auth.OutcomeKept {
		t.Fatalf("%+v", failed)
	}
	fails.Store(false)
	close(held)
	for range 2 {
		if got := <-answers; got.Outcome != auth.OutcomeRotated {
			t.Errorf("%s %s", got.Outcome, got.Failure.Code)
		}
	}
}
