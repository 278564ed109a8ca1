package vaulttest

import (
	"sync/atomic"
	"time"
)

// Clock is a clock that a test sets. It is safe for concurrent use.
type Clock struct {
	now atomic.Int64
	// Follow, if set, is told what the clock shows when that changes; for an engine with a clock of its own.
	Follow func(now time.Time)
	// Calm, if set, makes the engine take it that so much time has passed.
	Calm func()
}

// NewClock returns a clock that stands at a fixed moment.
func NewClock() *Clock {
	c := &Clock{}
	c.now.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

// Now is what the clock shows.
func (c *Clock) Now() time.Time { return time.Unix(0, c.now.Load()).UTC() }

// Advance lets time pass.
func (c *Clock) Advance(d time.Duration) {
	c.Set(d)
	if c.Calm != nil {
		c.Calm()
	}
}

// Set sets the clock ahead, or back, while no time passes.
func (c *Clock) Set(by time.Duration) {
	c.now.Add(int64(by))
	if c.Follow != nil {
		c.Follow(c.Now())
	}
}
