package auth_test

import (
	"net/http"
	"sync/atomic"
	"testing"
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
