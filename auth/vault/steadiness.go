package vault

import (
	"sync"
	"time"
)

// AfterOutage is how long leases that ran out are left alone when the database could not be reached, or not be written to: their holders
// could not extend them, and may have an answer to store. It is many times what passes between two tries of a Rotator to do that.
const AfterOutage = 10 * time.Second

// Steadiness is whether this process has had the database, to write as well, without a break for so long that a lease which ran out means
// that its holder died. It is safe for concurrent use.
type Steadiness struct {
	mu sync.Mutex
	at time.Time // with a monotonic reading
}

// Wait makes it unsteady for the time d.
func (s *Steadiness) Wait(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := time.Now().Add(d); at.After(s.at) {
		s.at = at
	}
}

// Left is how long it is not steady yet; not positive when it is.
func (s *Steadiness) Left() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Until(s.at)
}

// Steady says whether it is steady.
func (s *Steadiness) Steady() bool { return s.Left() <= 0 }

// Reset makes it steady at once.
func (s *Steadiness) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = time.Time{}
}
