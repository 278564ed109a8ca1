package vault

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// However long it takes to clean up, marks are written meanwhile: a session that is in use would seem to idle.
func TestALongCleanUpHoldsUpNothingElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		const takes = 4 * time.Minute
		var often, seldom, last atomic.Int32
		count := func(n *atomic.Int32) func(context.Context) error {
			return func(context.Context) error { n.Add(1); return nil }
		}
		over := make(chan struct{})
		go func() {
			defer close(over)
			Upkeep(ctx, slog.New(slog.DiscardHandler), count(&often), func(context.Context) error {
				time.Sleep(takes)
				return count(&seldom)(ctx)
			}, count(&last))
		}()
		time.Sleep(seldomEvery + takes/2 + oftenEvery/2)
		if n, want := often.Load(), int32((seldomEvery+takes/2)/oftenEvery); n != want {
			t.Errorf("ran %d times beside a clean-up, want %d", n, want)
		}
		stop()
		<-over
		if seldom.Load() != 1 || last.Load() != 1 {
			t.Errorf("at the end %d clean-ups are over, and what comes last ran %d times", seldom.Load(), last.Load())
		}
	})
}
