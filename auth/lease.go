package auth

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// LeaseTTL is how soon after its holder's death a grant is free again, at the latest. A running call extends its
	// lease well before.
	LeaseTTL    = 5 * time.Second
	leaseExtend = 2 * time.Second
	leaseAgain  = 100 * time.Millisecond // after an extension that failed
	// storageWait bounds the wait for a database before a renewal begins. Nothing is lost by giving up then.
	storageWait = 3 * time.Second
)

// acquire takes the lease of a grant. While another process holds it, acquire waits. What that process leaves may be the answer: held is
// false when answered says so of the grant. The error is ErrLeased when the other process takes too long. A grant that comes free after
// over is closed is not taken; where nothing ends the wait, over is nil.
func (r *Rotator) acquire(
	ctx context.Context, id string, answered func(*Grant) bool, over <-chan struct{},
) (g *Grant, held bool, err error) {
	if g, held, err = r.take(ctx, id, answered); !errors.Is(err, ErrLeased) {
		return g, held, err
	}
	r.Counters.leaseWaits.Add(1)
	r.Counters.waiting.Add(1)
	defer r.Counters.waiting.Add(-1)
	ctx, cancel := context.WithTimeout(ctx, 2*r.RenewTimeout+LeaseTTL)
	defer cancel()
	for delay := 20 * time.Millisecond; ; delay = min(2*delay, 250*time.Millisecond) {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, false, ErrLeased
		}
		if g, err = r.Vault.Get(ctx, id); err != nil || answered(g) {
			return g, false, err
		}
		if g.takenAt(r.Now()) { // a look before the try, which is a write
			continue
		}
		select {
		case <-over:
			return nil, false, ErrLeased
		default:
		}
		if g, held, err = r.take(ctx, id, answered); !errors.Is(err, ErrLeased) {
			return g, held, err
		}
	}
}

// take takes a free lease, and gives it back if the grant as it is then is the answer. ErrLeased while another holds it.
func (r *Rotator) take(ctx context.Context, id string, answered func(*Grant) bool) (g *Grant, held bool, err error) {
	if g, err = r.lease(ctx, id); err != nil {
		return nil, false, err
	}
	if answered(g) {
		err := r.Vault.Release(ctx, id, r.owner)
		g.LeasedUntil = time.Time{}
		return g, false, err
	}
	return g, true, nil
}

func (r *Rotator) lease(ctx context.Context, id string) (*Grant, error) {
	ctx, cancel := context.WithTimeout(ctx, storageWait)
	defer cancel()
	return r.Vault.Lease(ctx, id, r.owner, LeaseTTL)
}

// keepLease extends the lease until the returned function is called. That does not wait for an extension under way, which may take as long
// as the database does: one that comes late meets no lease of this owner, or a newer one.
func (r *Rotator) keepLease(ctx context.Context, id string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var mu sync.Mutex
	var timer *time.Timer
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(leaseExtend, func() {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		switch err := r.Vault.Extend(ctx, id, r.owner, LeaseTTL); {
		case err == nil:
			timer.Reset(leaseExtend)
		case !errors.Is(err, ErrStale): // whatever kept it from that may be over any moment
			timer.Reset(leaseAgain)
		}
	})
	return func() {
		cancel()
		timer.Stop()
	}
}

// patience is a context that ends after a time in which this process ran. A process that was paused, or a machine that
// slept, finds an answer that came meanwhile, and must not throw it away for its clock's sake.
type patience struct {
	context.Context
	done  chan struct{}
	every time.Duration

	mu    sync.Mutex
	timer *time.Timer
	next  time.Time
	left  int // ticks until it ends
	err   error
}

// withPatience returns a context that ends with context.DeadlineExceeded when the process has run for d.
func withPatience(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	const ticks = 40
	p := &patience{Context: parent, done: make(chan struct{}), every: max(d/ticks, time.Millisecond), left: ticks}
	p.mu.Lock()
	p.next = time.Now().Add(p.every)
	p.timer = time.AfterFunc(p.every, p.tick)
	p.mu.Unlock()
	orphan := context.AfterFunc(parent, func() { p.end(parent.Err()) })
	return p, func() { orphan(); p.end(context.Canceled) }
}

// tick counts one that the process was there for. Those that it missed do not count.
func (p *patience) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return
	}
	if p.left--; p.left == 0 {
		p.endLocked(context.DeadlineExceeded)
		return
	}
	now := time.Now()
	p.next = p.next.Add(p.every * (1 + max(0, now.Sub(p.next))/p.every))
	p.timer.Reset(p.next.Sub(now))
}

func (p *patience) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLocked(err)
}

func (p *patience) endLocked(err error) {
	if p.err == nil {
		p.timer.Stop()
		p.err = err
		close(p.done)
	}
}

// Deadline implements context.Context: there is none on the clock.
func (p *patience) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements context.Context.
func (p *patience) Done() <-chan struct{} { return p.done }

// Err implements context.Context.
func (p *patience) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
