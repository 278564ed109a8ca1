package vault

import (
	"sync"
	"time"
)

// allOrphansEvery is how often orphans are looked for among all grants.
const allOrphansEvery = time.Hour

// Orphans remembers where grants without a session have been looked for. A sign-in that failed leaves one, which is noticed as soon
// as it is OrphanAge old; others, whose session ended without them, are found by a look at everything now and then. It is safe for
// concurrent use; the zero value has looked nowhere.
type Orphans struct {
	mu       sync.Mutex
	to       time.Time
	latestAt time.Time // look at everything
}

// Window is when the grants were created to look at now: after from, zero for all, and up to to.
func (o *Orphans) Window(now time.Time) (from, to time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Sub(o.latestAt).Abs() < allOrphansEvery {
		from = o.to
	}
	return from, now.Add(-OrphanAge)
}

// Looked tells that a window was looked through.
func (o *Orphans) Looked(now, from, to time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.to = to
	if from.IsZero() {
		o.latestAt = now
	}
}
