package auth

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// followEvery is how often other processes' renewals are looked for while somebody watches.
const followEvery = 250 * time.Millisecond

// endsEvery is in how many of those looks grants are looked for that have ended.
const endsEvery = 2

// Events tells open pages what becomes of their grants. It is safe for concurrent use; the zero value is ready, and bounds
// nothing.
type Events struct {
	Most        int // watches at once; 0: any number
	MostOfGrant int // of one grant; 0: any number

	mu       sync.Mutex
	watchers map[string]map[*Watch]struct{} // by grant
	open     int
	closed   bool
}

// ErrTooManyWatches says that there are as many watches as there may be.
var ErrTooManyWatches = errors.New("too many watches")

// Watch is somebody's interest in one grant.
type Watch struct {
	Changed <-chan struct{} // something is new; several changes may be one signal
	Ended   <-chan struct{} // closed when the grant has ended
	Closed  <-chan struct{} // closed when the process drains

	events                 *Events
	grant                  string
	changed, ended, closed chan struct{}
}

// Subscribe begins to watch a grant, until Watch.Close. The only error is ErrTooManyWatches.
func (e *Events) Subscribe(grant string) (*Watch, error) {
	w := &Watch{events: e, grant: grant, changed: make(chan struct{}, 1), ended: make(chan struct{}), closed: make(chan struct{})}
	w.Changed, w.Ended, w.Closed = w.changed, w.ended, w.closed
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.Most > 0 && e.open >= e.Most || e.MostOfGrant > 0 && len(e.watchers[grant]) >= e.MostOfGrant {
		return nil, ErrTooManyWatches
	}
	e.open++
	if e.closed {
		close(w.closed)
		return w, nil
	}
	if e.watchers == nil {
		e.watchers = map[string]map[*Watch]struct{}{}
	}
	if e.watchers[grant] == nil {
		e.watchers[grant] = map[*Watch]struct{}{}
	}
	e.watchers[grant][w] = struct{}{}
	return w, nil
}

// Open is how many watches there are.
func (e *Events) Open() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.open
}

// Close ends the interest. It is called once.
func (w *Watch) Close() {
	w.events.mu.Lock()
	defer w.events.mu.Unlock()
	w.events.open--
	delete(w.events.watchers[w.grant], w)
	if len(w.events.watchers[w.grant]) == 0 {
		delete(w.events.watchers, w.grant)
	}
}

// Publish tells that something about a grant is new; that may be its end.
func (e *Events) Publish(grant string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for w := range e.watchers[grant] {
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}

// End tells that a grant has ended.
func (e *Events) End(grant string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for w := range e.watchers[grant] {
		close(w.ended)
	}
	delete(e.watchers, grant)
}

// Drain closes every watch, and those that come later at once.
func (e *Events) Drain() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for _, watchers := range e.watchers {
		for w := range watchers {
			close(w.closed)
		}
	}
	e.watchers = nil
}

// watched are the grants that somebody watches.
func (e *Events) watched() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Collect(maps.Keys(e.watchers))
}

// Follow publishes what other processes do to the vault's grants, until ctx is done: as the vault announces it, or by
// looking into its journal while somebody watches.
func (e *Events) Follow(ctx context.Context, vault Vault, log *slog.Logger) {
	switch vault := vault.(type) {
	case Announcer:
		vault.Listen(ctx, e.Publish, e.publishAll)
	case Journal:
		e.followJournal(ctx, vault, log)
	}
}

// publishAll has everybody who watches look for themselves.
func (e *Events) publishAll() {
	for _, grant := range e.watched() {
		e.Publish(grant)
	}
}

func (e *Events) followJournal(ctx context.Context, vault Journal, log *slog.Logger) {
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	last := int64(-1)
	failing := false
	for round := 0; ; round++ {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		watched := e.watched()
		if len(watched) == 0 {
			last = -1
			continue
		}
		if round%endsEvery != 0 {
			watched = nil
		}
		newest, err := e.follow(ctx, vault, last, watched)
		if err != nil && ctx.Err() == nil && !failing {
			log.WarnContext(ctx, "cannot follow other processes' renewals; it is tried again", "error", err)
		}
		if failing = err != nil; !failing {
			last = newest
		}
	}
}

func (e *Events) follow(ctx context.Context, vault Journal, last int64, watched []string) (newest int64, err error) {
	changed, newest, err := vault.Changes(ctx, last)
	if err != nil {
		return last, err
	}
	if last < 0 {
		e.publishAll() // what was recorded between a Subscribe and this first look is not in the list
	}
	for _, grant := range changed {
		e.Publish(grant)
	}
	if len(watched) == 0 {
		return newest, nil
	}
	missing, err := vault.Missing(ctx, watched)
	for _, grant := range missing {
		e.End(grant)
	}
	return newest, err
}
