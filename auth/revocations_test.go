package auth_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keyturn/auth"
)

// revoker is a provider that revokes as its function does.
type revoker struct {
	auth.Provider
	revoke   func(ctx context.Context, tokens auth.TokenSet) error
	consents bool // a revocation withdraws the consent
}

func (r revoker) Revoke(ctx context.Context, tokens auth.TokenSet) error {
	return r.revoke(ctx, tokens)
}

func (r revoker) RevokesConsent() bool { return r.consents }

// revokers are providers by name.
type revokers map[string]revoker

func (r revokers) Lookup(name string) (auth.Provider, bool)     { p, ok := r[name]; return p, ok }
func (r revokers) Of(whose auth.Identity) (auth.Provider, bool) { return r.Lookup(whose.Provider) }
func (r revokers) Names() []string                              { return nil }

// crowd counts how many are in it at once.
type crowd struct{ now, most atomic.Int32 }

func (c *crowd) enter() (leave func()) {
	now := c.now.Add(1)
	for seen := c.most.Load(); now > seen && !c.most.CompareAndSwap(seen, now); seen = c.most.Load() {
	}
	return func() { c.now.Add(-1) }
}

// revokeAll revokes the tokens of n grants of each provider, and returns what failed and how long it took.
func revokeAll(t *testing.T, n int, providers revokers, names ...string) ([]auth.NotRevoked, time.Duration) {
	began := time.Now()
	r := auth.NewRevocations(&many{}, providers, slog.New(slog.DiscardHandler))
	for i := range n {
		for _, name := range names {
			r.Begin(t.Context(), &auth.Grant{
				ID: fmt.Sprint(name, i), Identity: auth.Identity{Provider: name}, Tokens: auth.TokenSet{Access: "access"},
			})
		}
	}
	return r.Wait(), time.Since(began)
}

func TestRevocationsAreTriedAgainWhileThatMayHelp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var tries, refusals atomic.Int32
		var running crowd
		left, took := revokeAll(t, 300, revokers{
			"shaky": {revoke: func(context.Context, auth.TokenSet) error {
				defer running.enter()()
				time.Sleep(10 * time.Millisecond)
				if tries.Add(1)%3 == 0 {
					return errors.New("not reachable")
				}
				return nil
			}},
			"strict": {revoke: func(context.Context, auth.TokenSet) error {
				refusals.Add(1)
				return &auth.ProviderError{Delivery: auth.DeliveryAnswered, Failure: auth.Failure{Code: "no", Status: http.StatusBadRequest}}
			}},
		}, "shaky", "strict", "gone", "")
		got := map[string]int{}
		for _, some := range left {
			got[some.Provider] = some.Grants
		}
		if got["strict"] != 300 || got["gone"] != 300 || got[""] != 300 || got["shaky"] > 30 || refusals.Load() != 300 {
			t.Errorf("after %v: %+v, %d refusals", took, left, refusals.Load())
		}
		if most := running.most.Load(); most > 100 {
			t.Errorf("%d at once", most)
		}
	})
}

func TestAProviderThatDoesNotAnswerIsNotWaitedForManyTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		left, took := revokeAll(t, 5000, revokers{"away": {revoke: func(ctx context.Context, _ auth.TokenSet) error {
			<-ctx.Done()
			return errors.New("no answer")
		}}}, "away")
		if len(left) != 1 || left[0].Grants != 5000 || left[0].Reason.Error() != "no answer" || took < 15*time.Second || took > 40*time.Second {
			t.Errorf("after %v: %+v", took, left)
		}
	})
}

// Who stops waiting is told of what has not begun, and is held up by nothing that runs.
func TestWhoHasEnoughWaitsForNoRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := auth.NewRevocations(&many{}, revokers{"slow": {revoke: func(context.Context, auth.TokenSet) error {
			time.Sleep(10 * time.Second)
			return nil
		}}}, slog.New(slog.DiscardHandler))
		ctx, enough := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, enough)
		began := time.Now()
		for i := range 101 {
			r.Begin(ctx, &auth.Grant{
				ID: fmt.Sprint(i), Identity: auth.Identity{Provider: "slow"}, Tokens: auth.TokenSet{Access: "access"},
			})
		}
		if held := time.Since(began); held != time.Second {
			t.Errorf("held up for %v", held)
		}
		left := r.Wait()
		if len(left) != 1 || left[0].Grants != 1 || left[0].Owed != 1 || !errors.Is(left[0].Reason, context.Canceled) {
			t.Errorf("%+v", left)
		}
	})
}

// Whose tokens live on at a provider an operator has to learn from the log: the grant is gone.
func TestASignOutThatCanRevokeNothingSaysSo(t *testing.T) {
	t.Parallel()
	for why, c := range map[string]struct {
		strike    func(t *testing.T, h *house)
		providers func(h *house) auth.Providers
	}{
		"the grant does not open": {func(t *testing.T, h *house) {
			t.Helper()
			h.execute(t, `UPDATE grants SET sealed = x'00'`)
		}, func(h *house) auth.Providers { return h.set }},
		"the provider is not configured": {func(*testing.T, *house) {}, func(*house) auth.Providers { return revokers{} }},
	} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, options{})
			c.strike(t, h)
			grants := auth.NewGrants(h.db, c.providers(h), auth.DefaultCallbacks(), &auth.Events{}, h.config.Now, h.config.Log)
			if gone, err := grants.End(t.Context(), h.grant.ID); err != nil || gone == nil {
				t.Errorf("ended %v, %v", gone, err)
			}
			if err := grants.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := h.db.Get(t.Context(), h.grant.ID); !errors.Is(err, auth.ErrNotFound) {
				t.Errorf("it is there still: %v", err)
			}
			said := `msg="tokens of an ended grant are not revoked yet; it is tried again" grant=` + h.grant.ID + ` provider=work error="` + why
			if log := h.log.String(); !strings.Contains(log, said) {
				t.Errorf("the log: %s", log)
			}
		})
	}
}
