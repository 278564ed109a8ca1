package vault

import (
	"sync"
	"time"
)

// ProbeEvery is how often, at the most, readiness costs a write, however often it is asked for.
const ProbeEvery = time.Second

// Probe is the latest write that was made only to see whether it can be. It is safe for concurrent use; the zero value is ready.
type Probe struct {
	mu  sync.Mutex
	at  time.Time
	err error
}

// Due says whether it is the caller's to write.
func (p *Probe) Due() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.at) < ProbeEvery {
		return false
	}
	p.at = time.Now()
	return true
}

// Done tells how the write ended.
func (p *Probe) Done(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

// Undone leaves the write to the next who asks.
func (p *Probe) Undone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = time.Time{}
}

// Result is how the latest write ended.
func (p *Probe) Result() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
