package auth

import (
	"sync/atomic"

	"golang.org/x/time/rate"
)

// complaint is a line of the log for which there is reason again and again while something is amiss. It is written now and then. It is
// safe for concurrent use.
type complaint struct {
	rate.Sometimes
	unsaid atomic.Int64
}

// make counts one more, and has it said, of how many, unless that was done lately.
func (c *complaint) make(say func(times int64)) {
	c.unsaid.Add(1)
	c.Do(func() { say(c.unsaid.Swap(0)) })
}
