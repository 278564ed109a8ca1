package handlers

import (
	"sync"
	"time"
)

const (
	// insistAgain is how long people are not asked for consent once more who got no refresh token even so.
	insistAgain = time.Hour
	// manyInVain is how many of them make it the client's matter, and not theirs.
	manyInVain = 3
)

// vain is who was asked for consent in vain lately. It is safe for concurrent use; the zero value is ready.
type vain struct {
	mu     sync.Mutex
	asked  map[string]map[string]time.Time // when, by provider and subject; at most manyInVain of a provider
	warned map[string]bool
}

// note remembers a person whom consent brought no refresh token, and says whether that is the first of the provider's.
func (v *vain) note(provider, subject string, now time.Time) (first bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.asked == nil {
		v.asked, v.warned = map[string]map[string]time.Time{}, map[string]bool{}
	}
	if recent := v.recent(provider, now); len(recent) < manyInVain {
		recent[subject] = now
	}
	first, v.warned[provider] = !v.warned[provider], true
	return first
}

// holds says whether a person would be asked in vain: they were, or as many others as tell of the client.
func (v *vain) holds(provider, subject string, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.asked == nil {
		return false
	}
	recent := v.recent(provider, now)
	_, themselves := recent[subject]
	return themselves || len(recent) == manyInVain
}

// forget is for a provider that gave a refresh token with consent.
func (v *vain) forget(provider string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.asked, provider)
	delete(v.warned, provider)
}

// recent are those of a provider's that count still; v.mu is held.
func (v *vain) recent(provider string, now time.Time) map[string]time.Time {
	recent := v.asked[provider]
	if recent == nil {
		recent = map[string]time.Time{}
		v.asked[provider] = recent
	}
	for subject, at := range recent {
		if now.Sub(at) > insistAgain {
			delete(recent, subject)
		}
	}
	return recent
}
