package auth

import (
	"errors"
	"sync"
	"time"
)

// undecided are the grants of which nobody knows whether the provider took the refresh token, as far as this process has left them so, and
// when each is tried again. It is safe for concurrent use.
type undecided struct {
	mu    sync.Mutex
	tryAt map[string]map[string]time.Time // by provider and grant
}

// noteUndecided remembers, where nobody renews in the background, whether a flight has left its grant undecided: a used refresh token is
// taken again for some seconds only, and nobody may ask in that time. What this process forgets at its end, a request decides.
func (r *Rotator) noteUndecided(id string, f *flight) {
	g := f.result.Grant
	switch {
	case errors.Is(f.err, ErrNotFound):
		r.undecided.decide(id)
	case g == nil:
	case g.Standing.Open == "" || g.Standing.Refused:
		r.undecided.decide(id)
	default:
		if provider, ok := r.Providers.Of(g.Identity); ok && !provider.Policy().Spread {
			r.undecided.note(g.Identity.Provider, id, g.Standing.NextTry)
		}
	}
}

func (u *undecided) note(provider, id string, tryAt time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.tryAt == nil {
		u.tryAt = map[string]map[string]time.Time{}
	}
	if u.tryAt[provider] == nil {
		u.tryAt[provider] = map[string]time.Time{}
	}
	u.tryAt[provider][id] = tryAt
}

func (u *undecided) decide(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, grants := range u.tryAt {
		delete(grants, id)
	}
}

// due lists grants of a provider whose next try has come, at most limit: any, so that none is passed over for good.
func (u *undecided) due(provider string, now time.Time, limit int) (list []Candidate) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, at := range u.tryAt[provider] {
		if len(list) == limit {
			break
		}
		if !now.Before(at) {
			list = append(list, Candidate{ID: id, DueAt: at})
		}
	}
	return list
}
