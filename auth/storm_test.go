package auth_test

import (
	"runtime"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/authtest"
	"keyturn/auth/provider/scripted"
)

// Reuse intervals are short: what a crash strikes while very many are due is taken up before those whose turn would have been next.
func TestWhatIsStruckInAStormIsTakenUpInIt(t *testing.T) {
	t.Parallel()
	const due = 60
	h := newHouse(t, options{lifetime: time.Minute, most: 4, idp: func(p *scripted.Provider) { p.Class, p.Interval = scripted.SameSuccessor, time.Minute }})
	h.struckInTheMiddle(t)
	h.execute(t, `UPDATE grants SET lease_owner = 'dead', lease_until = 9000000000000000`)
	h.crowd(t, due)
	h.config.Now = func() time.Time { return time.Now().Add(50 * time.Second) } // all are due
	h.rotator = auth.NewRotator(h.config)
	h.idp.Change(func() {
		slow(100 * time.Millisecond)(h.idp)
		h.idp.Lifetime = time.Hour
	})
	h.schedule(t, false)
	waitFor(t, "the storm", func() bool { return h.idp.TokenCalls() > 6 })
	h.execute(t, `UPDATE grants SET lease_owner = '', lease_until = 0 WHERE lease_owner = 'dead'`)
	waitFor(t, "the recovery", func() bool { return h.stored(t).Generation == 2 })
	if calls := h.idp.TokenCalls(); calls > due/2 {
		t.Errorf("%d calls came first", calls)
	}
}

// Many grants that are due in the same second: the provider sees no more calls at once than it may, what people ask for
// is not held up, and memory stays bounded.
func TestAStorm(t *testing.T) {
	t.Parallel()
	const most = 8
	grants := authtest.Soak(400, 3000, 10000)
	h := newHouse(t, options{lifetime: time.Minute, most: most, idp: func(p *scripted.Provider) { p.Class = scripted.Strict }})
	ids := h.crowd(t, grants)
	var before, during runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	// All of them are due: their tokens are as old as one wants.
	h.config.Now = func() time.Time { return time.Now().Add(50 * time.Second) }
	h.rotator = auth.NewRotator(h.config)
	h.idp.Change(func() {
		slow(5 * time.Millisecond)(h.idp)
		h.idp.Lifetime = time.Hour // once renewed they are not due again
	})
	h.schedule(t, false)
	waitFor(t, "the storm", func() bool { return h.idp.TokenCalls() > 20 })
	for n := range 5 {
		began := time.Now()
		if _, err := h.rotator.Fresh(t.Context(), ids[grants-1-n]); err != nil {
			t.Error(err)
		}
		looked := time.Since(began)
		result, err := h.rotator.Renew(t.Context(), ids[grants-1-n], auth.TriggerManual, began)
		if took := time.Since(began); err != nil || !result.Outcome.Succeeded() || took > 10*time.Second {
			t.Errorf("a look took %v, a click in the storm %v: %s, %v", looked, took, result.Outcome, err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&during)
	for deadline := time.Now().Add(5 * time.Minute); h.idp.TokenCalls() < grants && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	// One more for the first grant of the house, and at most one for each click.
	if calls := h.idp.TokenCalls(); calls < grants || calls > grants+1+5 {
		t.Errorf("%d token calls for %d grants", calls, grants+1)
	}
	if seen := h.idp.MostAtOnce(); seen > most {
		t.Errorf("%d calls at once, want at most %d", seen, most)
	}
	if twice := h.idp.MostPresented(); twice != 1 {
		t.Errorf("a refresh token was presented %d times", twice)
	}
	t.Logf("heap %d KiB before, %d KiB in the storm of %d grants (the scripted provider's ledger included)",
		before.HeapAlloc>>10, during.HeapAlloc>>10, grants)
}
