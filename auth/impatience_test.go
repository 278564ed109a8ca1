package auth_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
)

// Whoever clicks again and again while a provider is down puts off neither the automatic tries nor the provider's next chance.
func TestAskingAgainAndAgainPutsNoTryOff(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	down.Store(true)
	h := newHouse(t, options{lifetime: 2 * time.Second, idp: func(p *scripted.Provider) {
		p.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
			if down.Load() {
				w.WriteHeader(http.StatusInternalServerError)
			}
			return down.Load()
		}
	}})
	for range 10 {
		h.expect(t, h.renew(t), auth.OutcomeKept, 1)
	}
	if g := h.stored(t); time.Until(g.Standing.NextTry) > time.Second {
		t.Errorf("after %d failures the next try is in %v", g.Standing.Failures, time.Until(g.Standing.NextTry))
	}
	down.Store(false)
	waitUntilExpired(t, h)
	time.Sleep(time.Second)
	if view, err := h.rotator.Fresh(t.Context(), h.grant.ID); err != nil || view.State != auth.StateFresh || view.Grant.Generation != 2 {
		t.Errorf("%s, generation %d, %v", view.State, view.Grant.Generation, err)
	}
}

// Nor does who clicks again and again while the client's settings are wrong.
func TestAskingAgainAndAgainPutsNoTryOffThatWaitsForTheOperator(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{idp: scriptedBy(oauthError(http.StatusUnauthorized, "invalid_client"))})
	h.expect(t, h.renew(t), auth.OutcomeKept, 1)
	planned := h.stored(t).Standing.NextTry
	for range 3 {
		h.expect(t, h.renew(t), auth.OutcomeKept, 1)
	}
	if again := h.stored(t).Standing.NextTry; again.After(planned) {
		t.Errorf("the next try was planned for %v, and is put off by %v", planned, again.Sub(planned))
	}
}

// A program asks for a renewal whenever it needs the token. Where a replay ends the access token, too, it gets that, as long as it is of
// use; a person's click is tried.
func TestAProgramReplaysNothingWhereThatEndsAll(t *testing.T) {
	t.Parallel()
	for name, crash := range map[string]bool{"after a lost answer": false, "after a crash": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			h := newHouse(t, options{lifetime: time.Hour, onUnknown: auth.RetryAtExpiry, idp: func(p *scripted.Provider) {
				p.Class, p.Interval = scripted.SameSuccessor, 10*time.Second
				p.Token = func(w http.ResponseWriter, r *http.Request, grant func() map[string]any) bool {
					first := calls.Add(1) == 1
					if first && !crash {
						cutOff("")(w, r, grant)
					}
					return first && !crash
				}
			}})
			if crash {
				h.struckInTheMiddle(t)
			} else {
				h.expect(t, h.renewBy(t, auth.TriggerAPI), auth.OutcomeKept, 1)
			}
			for range 2 {
				result := h.renewBy(t, auth.TriggerAPI)
				h.expect(t, result, auth.OutcomeKept, 1)
				if result.Failure.Code != auth.CodeOutcomeUnknown || calls.Load() != 1 {
					t.Errorf("%s after %d calls", result.Failure.Code, calls.Load())
				}
			}
			if r := h.history(t)[0]; crash && r.Warning != "" {
				t.Errorf("warning %q of what was not presented", r.Warning)
			}
			h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
			if r := h.history(t)[0]; crash && r.Warning != auth.CodeReplayedAfterCrash {
				t.Errorf("warning %q", r.Warning)
			}
		})
	}
}

// delayed is a vault of which nothing is read, once it is to be slow, until that is let.
type delayed struct {
	auth.Vault
	slow    *atomic.Bool
	reading chan struct{} // is told of the first
	let     chan struct{}
}

func (d delayed) Get(ctx context.Context, id string) (*auth.Grant, error) {
	if d.slow.Load() {
		select {
		case d.reading <- struct{}{}:
		default:
		}
		<-d.let
	}
	return d.Vault.Get(ctx, id)
}

// What keeps a program from a replay is no answer to a person who clicks at the same time.
func TestAClickBesideAProgramIsTried(t *testing.T) {
	t.Parallel()
	v, calls := delayed{slow: &atomic.Bool{}, reading: make(chan struct{}, 1), let: make(chan struct{})}, &atomic.Int32{}
	h := newHouse(t, options{
		lifetime: time.Hour, onUnknown: auth.RetryAtExpiry, vault: func(inner auth.Vault) auth.Vault { v.Vault = inner; return v },
		idp: func(p *scripted.Provider) {
			p.Class, p.Interval = scripted.SameSuccessor, 10*time.Second
			p.Token = func(w http.ResponseWriter, r *http.Request, grant func() map[string]any) bool {
				first := calls.Add(1) == 1
				if first {
					cutOff("")(w, r, grant)
				}
				return first
			}
		},
	})
	h.expect(t, h.renewBy(t, auth.TriggerAPI), auth.OutcomeKept, 1)
	v.slow.Store(true)
	program := make(chan error, 1)
	go func() {
		_, err := h.rotator.Renew(t.Context(), h.grant.ID, auth.TriggerAPI, time.Now())
		program <- err
	}()
	<-v.reading
	clicked := make(chan auth.Result, 1)
	go func() { clicked <- h.renew(t) }()
	waitFor(t, "the click to join", func() bool { return h.rotator.Joined(h.grant.ID) == 1 })
	close(v.let)
	h.expect(t, <-clicked, auth.OutcomeRotated, 2)
	if err := <-program; err != nil {
		t.Error(err)
	}
}

// What a provider asks for is kept to, whoever clicks meanwhile.
func TestAClickKeepsThePlannedTry(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	h := newHouse(t, options{idp: func(p *scripted.Provider) {
		p.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
			if calls.Add(1) == 1 {
				w.Header().Set("Retry-After", "300")
			}
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
	}})
	h.renew(t)
	planned := h.stored(t).Standing.NextTry
	if h.renew(t); !h.stored(t).Standing.NextTry.Equal(planned) || time.Until(planned) < 4*time.Minute {
		t.Errorf("the next try was to be in %v, and is in %v", time.Until(planned), time.Until(h.stored(t).Standing.NextTry))
	}
}

// hanging is a provider whose token endpoint answers nobody, however long they wait, and who has hung up before.
type hanging struct {
	auth.Provider
	over chan struct{}
}

func (hanging) Policy() auth.Policy       { return auth.Policy{} }
func (hanging) OnUnknown() auth.OnUnknown { return auth.RetryNow }

func (h hanging) Renew(context.Context, auth.TokenSet, bool) (auth.Answer, error) {
	<-h.over
	return auth.Answer{}, errors.New("over")
}

func (h hanging) Of(auth.Identity) (auth.Provider, bool) { return h, true }
func (h hanging) Lookup(string) (auth.Provider, bool)    { return h, true }
func (hanging) Names() []string                          { return nil }
func (hanging) All() ([]auth.Unstored, error)            { return nil, nil }
func (hanging) Find(string) (u auth.Unstored, err error) { return u, auth.ErrNotFound }
func (hanging) Put(auth.Unstored) error                  { return nil }
func (hanging) Remove(auth.Unstored) error               { return nil }

// one is a vault of one grant, which anybody may renew.
type one struct {
	auth.Vault
	grant auth.Grant
}

func (v one) Get(context.Context, string) (*auth.Grant, error)                         { g := v.grant; return &g, nil }
func (one) Claim(context.Context, *auth.Grant, string, time.Duration, time.Time) error { return nil }
func (one) Extend(context.Context, string, string, time.Duration) error                { return nil }

// Whoever needs a token waits for it as long as one call of the token endpoint may take, and no longer, whatever becomes of the renewal.
func TestNobodyWaitsForLongerThanRenewTimeout(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(ctx context.Context, r *auth.Rotator) (auth.View, error){
		"a request": func(ctx context.Context, r *auth.Rotator) (auth.View, error) { return r.Fresh(ctx, "g") },
		"a click": func(ctx context.Context, r *auth.Rotator) (auth.View, error) {
			result, err := r.Renew(ctx, "g", auth.TriggerManual, time.Now())
			result.Problem = result.Failure
			return result.View, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const timeout = 10 * time.Second
				p := hanging{over: make(chan struct{})}
				r := auth.NewRotator(auth.RotatorConfig{
					Vault: one{grant: auth.Grant{ID: "g", Tokens: auth.TokenSet{Access: "a", Refresh: "r", ExpiresAt: time.Now()}}}, Spool: p,
					Providers: p, Events: &auth.Events{}, RenewTimeout: timeout, Now: time.Now, Log: slog.New(slog.DiscardHandler),
				})
				began := time.Now()
				view, err := ask(t.Context(), r)
				if took := time.Since(began); took < timeout || took > timeout+time.Second {
					t.Errorf("it took %v", took)
				}
				if err != nil || view.State != auth.StateExpired || view.Problem.Code != auth.CodeTimeout {
					t.Errorf("%s with %q, %v", view.State, view.Problem.Code, err)
				}
				close(p.over)
				if err := r.Drain(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
