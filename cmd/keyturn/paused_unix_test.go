//go:build unix

package main

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"keyturn/auth/provider/scripted"
)

// A process that is paused in a renewal for longer than its lease: its late answer does not overwrite what another process
// stored, and is not lost if nobody else did.
func TestAPausedProcess(t *testing.T) {
	t.Parallel()
	pause := func(t *testing.T, p *program, signal syscall.Signal) {
		if err := p.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
	}
	for _, class := range classes() {
		t.Run(fmt.Sprint("alone, class ", class), func(t *testing.T) {
			t.Parallel()
			idp, p := atScripted(t, ofClass(class, slowly(300*time.Millisecond)), "--renew-timeout=2s")
			alice := p.person()
			alice.do(t, "GET", "/auth/oidc", nil)
			asked := make(chan answer, 1)
			go func() {
				a, _ := alice.try(t.Context(), "POST", "/api/renew-token", nil)
				asked <- a
			}()
			eventually(t, "the token call", func() bool { return idp.TokenCalls() == 1 })
			pause(t, p, syscall.SIGSTOP)
			time.Sleep(7 * time.Second) // longer than the lease, and than the time-out
			pause(t, p, syscall.SIGCONT)
			eventually(t, "the late answer", func() bool { return alice.generation(t) == 2 })
			if a := <-asked; a.json(t)["generation"] != 2.0 {
				t.Errorf("whoever waited is told %d %s", a.status, a.body)
			}
			if idp.TokenCalls() != 1 {
				t.Errorf("%d token calls, want 1", idp.TokenCalls())
			}
			// The first click may still meet the end of the late renewal, and share that.
			eventually(t, "the next renewal", func() bool { return alice.do(t, "POST", "/api/renew-token", nil).json(t)["generation"] == 3.0 })
			onceEach(t, idp)
		})
	}
	t.Run("with another that takes over", func(t *testing.T) {
		t.Parallel()
		idp, one := atScripted(t, ofClass(scripted.SameSuccessor, slowly(300*time.Millisecond), func(idp *scripted.Provider) { idp.Interval = time.Minute }), "--renew-timeout=2s")
		two := one.twin(t)
		alice := one.person()
		alice.do(t, "GET", "/auth/oidc", nil)
		go func() { _, _ = alice.try(t.Context(), "POST", "/api/renew-token", nil) }()
		eventually(t, "the token call", func() bool { return idp.TokenCalls() == 1 })
		pause(t, one, syscall.SIGSTOP)
		eventually(t, "the other to take over", func() bool { return alice.at(two).generation(t) == 2 })
		eventually(t, "the other's next renewal", func() bool {
			return alice.at(two).do(t, "POST", "/api/renew-token", nil).json(t)["generation"] == 3.0
		})
		pause(t, one, syscall.SIGCONT)
		time.Sleep(time.Second)
		if g := alice.generation(t); g != 3 {
			t.Errorf("generation %v after the late answer, want 3", g)
		}
		if calls := idp.TokenCalls(); calls != 3 {
			t.Errorf("%d token calls, want 3: one struck, its replay, and the next", calls)
		}
		eventually(t, "the next renewal", func() bool { return alice.do(t, "POST", "/api/renew-token", nil).json(t)["generation"] == 4.0 })
	})
}
