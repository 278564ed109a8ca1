package handlers

import (
	"context"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"keyturn/auth/provider"
	"keyturn/auth/session"
)

const (
	// insistAgain is how long people are not asked for consent once more who got no refresh token even so.
	insistAgain = time.Hour
	// manyInVain is how many of them make it the client's matter, and not theirs.
	manyInVain = 3
)

// vain is who was asked for consent in vain lately. It is safe for concurrent use; the zero value is ready.
type vain struct {
	mu    sync.Mutex
	asked map[string]map[string]time.Time // when, by provider and subject; at most manyInVain of a provider
}

// note remembers a person whom consent brought no refresh token, and says whether they are the only one of the provider's lately.
func (v *vain) note(provider, subject string, now time.Time) (only bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	recent := v.recent(provider, now)
	if recent == nil {
		recent = map[string]time.Time{}
		v.asked[provider] = recent
	}
	if len(recent) < manyInVain {
		recent[subject] = now
	}
	return len(recent) == 1
}

// holds says whether a person would be asked in vain: they were, or as many others as tell of the client.
func (v *vain) holds(provider, subject string, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	recent := v.recent(provider, now)
	_, themselves := recent[subject]
	return themselves || len(recent) == manyInVain
}

// forget is for a provider that gave a refresh token with consent.
func (v *vain) forget(provider string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.asked, provider)
}

// roundFailed ends a sign-in that failed at the provider. If it was the second round, for consent, the first one stands.
func (a *app) roundFailed(c echo.Context, p provider.Provider, pending session.Pending, err error) error {
	ctx := c.Request().Context()
	if _, in := a.Sessions.SignedIn(ctx); in && pending.Asked != "" {
		a.askedInVain(ctx, p, pending.Asked, err)
		return a.arrive(c, pending.ReturnTo)
	}
	return a.signInFailed(c, p, pending.ReturnTo, err)
}

// askedInVain is for a person whom consent brought no refresh token. err is what it brought instead, if that was no sign-in.
func (a *app) askedInVain(ctx context.Context, p provider.Provider, subject string, err error) {
	only := a.inVain.note(p.Name(), subject, a.Now())
	switch {
	case err != nil:
		a.Log.WarnContext(ctx, "no refresh token was to be had", "provider", p.Name(), "code", signInFailure(err).Code)
	case only:
		a.Log.WarnContext(ctx, "no refresh token is given, even with consent: is the client registered there for the grant type refresh_token?",
			"provider", p.Name())
	}
}

// recent are those of a provider's that count still, or nil; v.mu is held.
func (v *vain) recent(provider string, now time.Time) map[string]time.Time {
	if v.asked == nil {
		v.asked = map[string]map[string]time.Time{}
	}
	for subject, at := range v.asked[provider] {
		if now.Sub(at) > insistAgain {
			delete(v.asked[provider], subject)
		}
	}
	return v.asked[provider]
}
