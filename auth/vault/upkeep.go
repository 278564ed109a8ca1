package vault

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"keyturn/auth"
)

const (
	oftenEvery  = time.Second
	seldomEvery = time.Minute

	// TidyBatch is how many rows are removed at a time, so that no lock is felt.
	TidyBatch = 200
	// TidyGrants is how many grants are: each takes up to auth.KeptRenewals rows of history with it. 20 such took SQLite 24 ms.
	TidyGrants = 20
	// OrphanAge is how old a grant without a session must be to be removed: a sign-in stores its grant a moment before its
	// session.
	OrphanAge = 10 * time.Minute
)

// TouchEvery is how old a session's last-seen mark may grow before a request renews it, where sessions idle away after the given time:
// a minute, and less where that would be long beside it.
func TouchEvery(idle time.Duration) time.Duration {
	if idle <= 0 {
		return time.Minute
	}
	return min(time.Minute, idle/20)
}

// Mark is when a session was seen last, and the grant that it names.
type Mark struct {
	GrantID string
	At      time.Time
}

// Marks collects last-seen marks, so that reading a session writes nothing. It is safe for concurrent use; the zero value is
// ready.
type Marks struct {
	mu      sync.Mutex
	pending map[string]Mark // by session hash
}

// Seen notes that a session was seen.
func (m *Marks) Seen(hash string, mark Mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pending == nil {
		m.pending = map[string]Mark{}
	}
	m.pending[hash] = mark
}

// Take returns the marks since the last Take.
func (m *Marks) Take() map[string]Mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := m.pending
	m.pending = nil
	return taken
}

// Upkeep runs often every second and seldom every minute, beside each other, until ctx is done, and then last. What fails is logged, once a
// minute, and done again at its next turn; marks that were taken and not written come again with the next requests.
func Upkeep(ctx context.Context, log *slog.Logger, often, seldom, last func(context.Context) error) {
	say := auth.Complaint{Every: seldomEvery}
	run := func(ctx context.Context, what func(context.Context) error) {
		if err := what(ctx); err != nil && ctx.Err() == nil {
			say.Make(func(int) { log.ErrorContext(ctx, "database upkeep failed; it is tried again", "error", err) })
		}
	}
	repeat := func(every time.Duration, what func(context.Context) error) {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
			case <-ctx.Done():
			}
			if ctx.Err() != nil {
				return
			}
			run(ctx, what)
		}
	}
	var both sync.WaitGroup
	both.Go(func() { repeat(oftenEvery, often) })
	both.Go(func() { repeat(seldomEvery, seldom) })
	both.Wait()
	run(context.WithoutCancel(ctx), last)
}
