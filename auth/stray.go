package auth

import "time"

// strayFor is how long a stray mark is remembered.
const strayFor = 10 * time.Minute

// noteStray remembers a mark of Claim or Present whose write failed, as far as this process knows. A commit may have come through, and its
// answer not: the mark is found later, and tells of no call.
func (r *Rotator) noteStray(id string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, has := r.strays[id]; has {
		return // and is in the vault, if one of them is: a mark that is there stays
	}
	r.strays[id] = at
	time.AfterFunc(strayFor, func() { r.takeStray(id) })
}

// takeStray is the grant's stray mark, which is remembered no more; zero if it has none.
func (r *Rotator) takeStray(id string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.strays[id]
	delete(r.strays, id)
	return at
}

// presented says whether the mark that a grant has may tell of a call. Vaults keep microseconds.
func (r *Rotator) presented(g *Grant) bool {
	stray := r.takeStray(g.ID)
	return !g.PresentingAt.IsZero() && g.PresentingAt.UnixMicro() != stray.UnixMicro()
}
