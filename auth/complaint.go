package auth

import (
	"sync"
	"time"
)

// Complaint is a line of the log for which there is reason again and again while something is amiss. It is written now and then. It is
// safe for concurrent use.
type Complaint struct {
	Every time.Duration // at least between two lines

	mu     sync.Mutex
	madeAt time.Time // the latest one
	saidAt time.Time
	unsaid int
}

// Make counts one more, and has it said, of how many, unless that was done lately. What was left unsaid of something that is over by now
// does not count.
func (c *Complaint) Make(say func(times int)) {
	c.mu.Lock()
	now := time.Now()
	if now.Sub(c.madeAt) > 2*c.Every {
		c.unsaid = 0
	}
	c.madeAt, c.unsaid = now, c.unsaid+1
	times, due := c.unsaid, now.Sub(c.saidAt) >= c.Every
	if due {
		c.saidAt, c.unsaid = now, 0
	}
	c.mu.Unlock()
	if due {
		say(times)
	}
}
