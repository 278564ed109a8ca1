package auth

import (
	"errors"
	"slices"
	"time"
)

// undecided is when a grant is tried again of which nobody knows whether the provider took its refresh token.
type undecided struct {
	provider string
	tryAt    time.Time
}

// noteUndecided remembers, where nobody renews in the background, whether a flight has left its grant undecided: a used refresh token is
// taken again for some seconds only, and nobody may ask in that time. What this process forgets at its end, a request decides.
func (r *Rotator) noteUndecided(id string, f *flight) {
	g := f.result.Grant
	gone := errors.Is(f.err, ErrNotFound)
	if g == nil && !gone {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.undecided, id)
	if gone || g.Standing.Open == "" || g.Standing.Refused {
		return
	}
	if provider, ok := r.Providers.Of(g.Identity); ok && !provider.Policy().Spread {
		r.undecided[id] = undecided{g.Identity.Provider, g.Standing.NextTry}
	}
}

// undecidedAt lists the undecided grants of a provider whose next try has come, the longest ago first, at most limit.
func (r *Rotator) undecidedAt(provider string, now time.Time, limit int) []Candidate {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []Candidate
	for id, u := range r.undecided {
		if u.provider == provider && !now.Before(u.tryAt) {
			list = append(list, Candidate{ID: id, DueAt: u.tryAt})
		}
	}
	slices.SortFunc(list, func(a, b Candidate) int { return a.DueAt.Compare(b.DueAt) })
	return list[:min(len(list), limit)]
}
