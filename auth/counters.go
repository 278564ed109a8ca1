package auth

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Counters count what the Rotator does, since the process began. They are safe for concurrent use.
type Counters struct {
	sharers    atomic.Int64
	leaseWaits atomic.Int64
	waiting    atomic.Int64
	shelved    atomic.Int64

	mu       sync.Mutex
	renewals map[RenewalKind]int64
	calls    map[string]int64
	replays  map[string]int64
}

// RenewalKind is what renewals are told apart by.
type RenewalKind struct {
	Provider string
	Trigger  Trigger
	Outcome  Outcome
}

// Counts are the counters at one moment.
type Counts struct {
	Renewals   map[RenewalKind]int64 // that ended
	Calls      map[string]int64      // of a provider's token endpoint, for a renewal
	Replays    map[string]int64      // of them those that presented a refresh token once more
	Shared     int64                 // requests that waited for somebody else's renewal
	LeaseWaits int64                 // renewals that met another process's lease
	Waiting    int64                 // of them those that wait for it now
	Shelved    int64                 // renewals that the database did not take at once
}

// Snapshot returns the counters as they are now.
func (c *Counters) Snapshot() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Counts{
		Renewals: maps.Clone(c.renewals), Calls: maps.Clone(c.calls), Replays: maps.Clone(c.replays),
		Shared: c.sharers.Load(), LeaseWaits: c.leaseWaits.Load(), Waiting: c.waiting.Load(), Shelved: c.shelved.Load(),
	}
}

func (c *Counters) renewed(provider string, record *Renewal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renewals = increased(c.renewals, RenewalKind{provider, record.Trigger, record.Outcome})
	c.sharers.Add(int64(record.Shared))
}

func (c *Counters) presented(provider string, again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = increased(c.calls, provider)
	if again {
		c.replays = increased(c.replays, provider)
	}
}

func (c *Counters) shared(n int) { c.sharers.Add(int64(n)) }

func increased[K comparable](counts map[K]int64, key K) map[K]int64 {
	if counts == nil {
		counts = map[K]int64{}
	}
	counts[key]++
	return counts
}
