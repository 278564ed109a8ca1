package auth

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// extended is a vault that answers as it does to every extension of a lease, and counts them.
type extended struct {
	Vault
	answer error
	times  int
}

func (v *extended) Extend(context.Context, string, string, time.Duration) error {
	v.times++
	return v.answer
}

// A lease is extended at once when the database is back, and let go of only when somebody else has it.
func TestALeaseIsExtendedWhileItIsOurs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer error
		want   int
	}{
		"all is well":              {nil, 4},
		"the database is away":     {errors.New("the database is away"), 1 + int((3*leaseExtend+leaseExtend/2)/leaseAgain)},
		"another process holds it": {ErrStale, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				v := &extended{answer: c.answer}
				r := &Rotator{RotatorConfig: RotatorConfig{Vault: v}}
				stop := r.keepLease(t.Context(), "g")
				time.Sleep(4*leaseExtend + leaseExtend/2 + leaseAgain/2)
				stop()
				time.Sleep(4 * leaseExtend)
				synctest.Wait()
				if v.times != c.want {
					t.Errorf("extended %d times, want %d", v.times, c.want)
				}
			})
		})
	}
}
