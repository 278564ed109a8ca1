package vault

import (
	"sync"
	"time"
)

// AfterOutage is how long leases that ran out are left alone when the database could not be reached, or not be written to: their holders
// could not extend them, and may have an answer to store. It is many times what passes between two tries of a Rotator to do that.
const AfterOutage = 10 * time.Second

// clockSlack is how much more or less than what passes the clock that leases run by may show without having been set.
const clockSlack = time.Second

// Steadiness is whether this process has had the database, to write as well, without a break for so long that a lease which ran out means
// that its holder died. It is safe for concurrent use.
type Steadiness struct {
	mu sync.Mutex
	at time.Time // with a monotonic reading

	shown   time.Time     // by the clock that leases run by
	shownAt time.Time     // with a monotonic reading
	blur    time.Duration // by which that may be late
}

// Heed is told what the clock that leases run by shows, and since when that was asked for, with a monotonic reading. When the clock was
// set since the last time, or the machine slept, it is unsteady for AfterOutage: leases have run out which their holders are about to extend.
func (s *Steadiness) Heed(asked, shows time.Time) {
	s.mu.Lock()
	now, shows := time.Now(), shows.Round(0)
	blur := now.Sub(asked)
	set := !s.shown.IsZero() && (shows.Sub(s.shown)-now.Sub(s.shownAt)).Abs() > clockSlack+blur+s.blur
	s.shown, s.shownAt, s.blur = shows, now, blur
	s.mu.Unlock()
	if set {
		s.Wait(AfterOutage)
	}
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

// Reset makes it steady at once, whatever the clock has shown.
func (s *Steadiness) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.shown = time.Time{}, time.Time{}
}
