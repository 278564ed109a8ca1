package auth_test

import (
	"context"
	"crypto/rand"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
)

// trusting is a vault that lets a refresh token be presented without a lease.
type trusting struct{ auth.Vault }

func (trusting) Present(context.Context, string, string, time.Time) error { return nil }

// Before a refresh token is presented once more the vault is read: another process may have what the first time was to bring.
func TestWhatAnotherProcessHasIsNotAskedForAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{vault: func(v auth.Vault) auth.Vault { return trusting{v} }})
	var lost atomic.Bool
	h.idp.Change(func() {
		h.idp.Token = func(http.ResponseWriter, *http.Request, func() map[string]any) bool {
			if lost.Swap(true) {
				return false
			}
			h.execute(t, `UPDATE grants SET lease_owner = '', lease_until = 0, presenting_at = 0`)
			result, err := auth.NewRotator(h.config).Renew(context.Background(), h.grant.ID, auth.TriggerManual, time.Now())
			if err != nil || result.Grant.Generation != 2 {
				t.Errorf("the other process: %s, %v", result.Outcome, err)
			}
			panic(http.ErrAbortHandler)
		}
	})
	h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
	if calls := h.idp.TokenCalls(); calls != 2 {
		t.Errorf("%d token calls, want one of each process", calls)
	}
}

// A refusal says nothing of a grant that another process has renewed with the very token that is refused here. That counts also while the
// database takes nothing from this process.
func TestARefusalOfWhatAnotherProcessRenewedIsNone(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{vault: func(v auth.Vault) auth.Vault { return lossy{v} }})
	config := h.config
	config.Vault = h.db
	var called atomic.Bool
	h.idp.Change(func() {
		h.idp.Token = func(w http.ResponseWriter, r *http.Request, grant func() map[string]any) bool {
			if called.Swap(true) {
				return false
			}
			h.execute(t, `UPDATE grants SET lease_owner = '', lease_until = 0, presenting_at = 0`)
			result, err := auth.NewRotator(config).Renew(context.Background(), h.grant.ID, auth.TriggerManual, time.Now())
			if err != nil || result.Outcome != auth.OutcomeRotated {
				t.Errorf("the other process: %s, %v", result.Outcome, err)
			}
			oauthError(http.StatusBadRequest, "invalid_grant")(w, r, grant)
			return true
		}
	})
	h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
}

// One event has one replay, whatever the provider says to that: the try that comes next has no other.
func TestATryAfterAReplayIsNotReplayed(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	h := newHouse(t, options{idp: scriptedBy(func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) {
		if calls.Add(1) != 2 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})})
	for n, want := range []int{2, 3} {
		if h.expect(t, h.renew(t), auth.OutcomeKept, 1); h.idp.TokenCalls() != want {
			t.Errorf("after try %d: %d token calls, want %d", n+1, h.idp.TokenCalls(), want)
		}
	}
}

// setBack is a vault in which the first who wants a grant meets a lease from before the clock was set back.
type setBack struct {
	inSteps
	met *atomic.Bool
}

func (s setBack) Lease(ctx context.Context, id, owner string, ttl time.Duration) (*auth.Grant, error) {
	if s.met.Swap(true) {
		return s.Vault.Lease(ctx, id, owner, ttl)
	}
	if _, err := s.Vault.Lease(ctx, id, "other", time.Hour); err != nil {
		return nil, err
	}
	return nil, auth.ErrLeased
}

func TestALeaseThatEndsLaterThanAnyCanIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{vault: func(v auth.Vault) auth.Vault { return setBack{inSteps{v}, &atomic.Bool{}} }})
	h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
}

// What a provider asks for counts also where the failure has a wait of its own, within bounds.
func TestWhenItIsTriedAgainAfterAFailureThatHasItsWait(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code, after string
		want        time.Duration
	}{
		"soon":                      {"invalid_request", "", 2 * time.Second},
		"later, as asked":           {"invalid_request", "60", time.Minute},
		"much later, within bounds": {"invalid_request", "3600", 10 * time.Minute},
		"no sooner, though asked":   {"invalid_client", "1", 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, options{idp: func(p *scripted.Provider) {
				p.Token = func(w http.ResponseWriter, r *http.Request, grant func() map[string]any) bool {
					if c.after != "" {
						w.Header().Set("Retry-After", c.after)
					}
					oauthError(http.StatusBadRequest, c.code)(w, r, grant)
					return true
				}
			}})
			st := h.renew(t).Grant.Standing
			if got := st.NextTry.Sub(st.TriedAt); got != c.want {
				t.Errorf("tried again after %v, want %v", got, c.want)
			}
		})
	}
}

// A provider that refuses a scope which nobody has sent is asked once more, and no refresh token is presented again and again for that.
func TestARefusedScopeIsAskedForAgainOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first func(http.ResponseWriter, *http.Request, func() map[string]any)
		calls []int // of the token endpoint after each try
	}{
		"try after try":        {oauthError(400, "invalid_scope"), []int{2, 3, 4}},
		"after a lost answer":  {cutOff(""), []int{2, 3, 4}},
		"after a server error": {oauthError(500, "server_error"), []int{1, 3, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			h := newHouse(t, options{idp: func(p *scripted.Provider) {
				p.Class, p.Interval = scripted.SameSuccessor, time.Minute
				p.Token = func(w http.ResponseWriter, r *http.Request, grant func() map[string]any) bool {
					if calls.Add(1) == 1 {
						c.first(w, r, grant)
					} else {
						oauthError(400, "invalid_scope")(w, r, grant)
					}
					return true
				}
			}})
			for n, want := range c.calls {
				if result := h.renew(t); result.Outcome != auth.OutcomeKept || h.idp.TokenCalls() != want {
					t.Errorf("try %d: %s after %d token calls, want %d", n+1, result.Outcome, h.idp.TokenCalls(), want)
				}
			}
		})
	}
}

// What is one refresh token's second in a row is a refusal. Another failure between, or another refresh token, begins the row anew.
func TestTheSecondInvalidRequestInARowIsARefusal(t *testing.T) {
	t.Parallel()
	type script = func(http.ResponseWriter, *http.Request, func() map[string]any)
	invalid := oauthError(400, "invalid_request")
	kept, refused := auth.OutcomeKept, auth.OutcomeRefused
	for name, c := range map[string]struct {
		scripts  []script
		outcomes []auth.Outcome
	}{
		"at once":               {[]script{invalid, invalid}, []auth.Outcome{kept, refused}},
		"after another failure": {[]script{invalid, says(503, ""), invalid, invalid}, []auth.Outcome{kept, kept, kept, refused}},
		"to another refresh token": {
			[]script{says(400, `{"error":"invalid_request","refresh_token":"refresh-0-SALVAGED"}`), invalid, invalid}, []auth.Outcome{kept, kept, refused},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			h := newHouse(t, options{idp: scriptedBy(func(w http.ResponseWriter, r *http.Request, grant func() map[string]any) {
				c.scripts[calls.Add(1)-1](w, r, grant)
			})})
			for _, want := range c.outcomes {
				h.expect(t, h.renew(t), want, 1)
			}
			h.renew(t)
			if calls := h.idp.TokenCalls(); calls != len(c.outcomes) {
				t.Errorf("%d token calls: a refused refresh token was presented again", calls)
			}
		})
	}
}

// Where nobody says how long an access token lives, a wrong guess would be a loop: whatever came of the last time, and whoever clicked
// since, a grant is renewed by itself once in half a minute.
func TestAGuessedLifetimeIsNoLoop(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script func(http.ResponseWriter, *http.Request, func() map[string]any) // of the first renewal
		click  bool                                                            // after that
	}{
		"after a renewal":             {},
		"after a renewal and a click": {click: true},
		"after a failure":             {script: oauthError(400, "no_such_code")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began, calls := time.Now().Round(0), 1
			var later atomic.Int64
			now := func() time.Time { return began.Add(time.Duration(later.Load())) }
			h := newHouse(t, options{now: now, idp: func(p *scripted.Provider) {
				p.Tokens = func(tokens map[string]any, _ bool) { delete(tokens, "expires_in") }
				p.Access = func() string {
					return p.Sign(map[string]any{"jti": rand.Text(), "exp": now().Add(2 * time.Second).Unix()})
				}
				p.Token = func(w http.ResponseWriter, r *http.Request, grant func() map[string]any) bool {
					first := c.script != nil && p.TokenCalls() == 1
					if first {
						c.script(w, r, grant)
					}
					return first
				}
			}})
			looks := func(after time.Duration, want int) {
				t.Helper()
				later.Store(int64(after))
				if view, err := h.rotator.Fresh(t.Context(), h.grant.ID); err != nil || h.idp.TokenCalls() != want {
					t.Errorf("after %v: %d token calls, want %d; %s, %v", after, h.idp.TokenCalls(), want, view.State, err)
				}
			}
			looks(3*time.Second, calls)
			if c.click {
				later.Store(int64(6 * time.Second))
				h.renew(t)
				calls++
			}
			looks(9*time.Second, calls)
			looks(34*time.Second, calls+1)
		})
	}
}
