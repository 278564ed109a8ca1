package handlers

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/auth/session"
)

const (
	// insistAgain is how long people are not asked for consent once more who got no refresh token even so.
	insistAgain = time.Hour
	// manyInVain is how many of them in a row make it the client's matter, and not theirs.
	manyInVain = 3
)

// consents is what asking for consent has taught, by provider. It is safe for concurrent use; the zero value is ready.
type consents struct {
	mu sync.Mutex
	of map[string]*consent
}

// consent is what it has taught of one provider.
type consent struct {
	insists bool              // it gave a refresh token with consent to somebody who had just got none without
	gave    time.Time         // when it last gave one with consent
	vain    map[string]inVain // whom it gave none even so lately, by subject
}

// inVain is a wish for consent that brought no refresh token.
type inVain struct {
	at     time.Time
	theirs bool // they declined, were not fit to be asked, or were struck by chance: it tells nothing of others
}

// brought remembers that consent brought a person a refresh token. insists says that they had just got none without.
func (c *consents) brought(provider, subject string, insists bool, now time.Time) {
	of, unlock := c.lately(provider, now)
	defer unlock()
	of.insists, of.gave = of.insists || insists, now
	delete(of.vain, subject)
}

// broughtNone remembers a person whom consent brought no refresh token. It says whether they are the only one of the provider's lately, and
// whether it is the client's matter since them.
func (c *consents) broughtNone(provider, subject string, theirs bool, now time.Time) (only, many bool) {
	of, unlock := c.lately(provider, now)
	defer unlock()
	before, again := len(of.vain), of.many()
	of.vain[subject] = inVain{now, theirs}
	return before == 0, !again && of.many()
}

// failed is for a sign-in that began with consent, and brought nobody. The next one begins without, for it may be why.
func (c *consents) failed(provider string, now time.Time) {
	of, unlock := c.lately(provider, now)
	defer unlock()
	of.insists = false
}

// insists says whether a sign-in is to begin with consent. It is not while anybody got no refresh token even so: who comes is not known
// yet, and they would be asked each time.
func (c *consents) insists(provider string, now time.Time) bool {
	of, unlock := c.lately(provider, now)
	defer unlock()
	return of.insists && len(of.vain) == 0
}

// inVain says whether a person would be asked in vain: they were, or as many others as tell of the client.
func (c *consents) inVain(provider, subject string, now time.Time) bool {
	of, unlock := c.lately(provider, now)
	defer unlock()
	_, themselves := of.vain[subject]
	return themselves || of.many()
}

// mayThinkBetter says whether a person was in vain for reasons of their own: to be asked again they have to want it.
func (c *consents) mayThinkBetter(provider, subject string, now time.Time) bool {
	of, unlock := c.lately(provider, now)
	defer unlock()
	return of.vain[subject].theirs
}

// lately is what counts still of a provider, for its caller alone until that calls unlock.
func (c *consents) lately(provider string, now time.Time) (of *consent, unlock func()) {
	c.mu.Lock()
	if c.of == nil {
		c.of = map[string]*consent{}
	}
	of, ok := c.of[provider]
	if !ok {
		of = &consent{vain: map[string]inVain{}}
		c.of[provider] = of
	}
	maps.DeleteFunc(of.vain, func(_ string, v inVain) bool { return now.Sub(v.at) > insistAgain })
	return of, c.mu.Unlock
}

// many says whether so many got no refresh token since somebody did that it is the client's matter.
func (c *consent) many() bool {
	inARow := 0
	for _, v := range c.vain {
		if v.at.After(c.gave) && !v.theirs {
			inARow++
		}
	}
	return inARow >= manyInVain
}

// secondRound is the sign-in that asks a person for consent. It names them to the provider, which may know several in that browser: the
// one who answers takes the place of the one who was asked.
func secondRound(first session.Pending, whose auth.Identity) session.Pending {
	return session.Pending{
		ReturnTo: first.ReturnTo, Prompt: promptConsent, Hint: loginHint(cmp.Or(whose.Email, first.Hint)), Asked: whose.Subject,
	}
}

// roundDone learns from a sign-in, and says whether the person is to be asked for consent in a second round. Who chose another account
// in that one is signed in with it, and tells nothing of the first.
func (a *app) roundDone(ctx context.Context, p provider.Provider, pending session.Pending, signedIn auth.SignedIn) (again bool) {
	whose, refreshed := signedIn.Identity.Subject, signedIn.Answer.Refresh != ""
	switch {
	case refreshed && pending.Prompt == promptConsent:
		a.consents.brought(p.Name(), whose, pending.Asked == whose, a.Now())
	case refreshed || !p.WantsConsent(ctx):
	case pending.Prompt == promptConsent:
		a.askedInVain(ctx, p, whose, nil)
	default:
		return !a.consents.inVain(p.Name(), whose, a.Now())
	}
	return false
}

// roundFailed ends a sign-in that failed at the provider. If it was the second round, for consent, the first one stands.
func (a *app) roundFailed(c echo.Context, p provider.Provider, pending session.Pending, err error) error {
	ctx := c.Request().Context()
	if _, in := a.Sessions.SignedIn(ctx); in && pending.Asked != "" {
		if failure := signInFailure(err); saysNo(failure) {
			a.askedInVain(ctx, p, pending.Asked, failure)
		} else {
			a.Log.WarnContext(ctx, "no refresh token was to be had this time", "provider", p.Name(), "code", failure.Code)
		}
		return a.arrive(c, pending.ReturnTo)
	}
	if pending.Prompt == promptConsent {
		a.consents.failed(p.Name(), a.Now())
	}
	return a.signInFailed(c, p, pending.ReturnTo, err)
}

// saysNo says whether a failure is an answer to the wish for consent: an outage tells nothing of what the next one brings.
func saysNo(failure *provider.SignInError) bool {
	switch failure.Code {
	case provider.CodePushRefused, provider.CodeExchangeFailed:
		return failure.Failure.Status/100 == 4 && !failure.Failure.Unwell()
	}
	return failure.Code != codeInternal && !slices.Contains(ofProvider, failure.Code)
}

// refusesRequest says whether a failure speaks of the request or of the client, as it would to anybody (RFC 6749 section 4.1.2.1).
func refusesRequest(failure *provider.SignInError) bool {
	return settingsRefused(failure.Code) || failure.Code == "invalid_request" || failure.Code == provider.CodePushRefused
}

// askedInVain is for a person whom consent brought no refresh token. instead is what it brought, if that was no sign-in: of such, what does
// not refuse the request is the person's own.
func (a *app) askedInVain(ctx context.Context, p provider.Provider, subject string, instead *provider.SignInError) {
	theirs := instead != nil && !refusesRequest(instead)
	only, many := a.consents.broughtNone(p.Name(), subject, theirs, a.Now())
	switch {
	case instead != nil:
		a.Log.WarnContext(ctx, "no refresh token was to be had", "provider", p.Name(), "code", instead.Code)
	case only:
		a.Log.WarnContext(ctx, "no refresh token is given, even with consent: is the client registered there for the grant type refresh_token?",
			"provider", p.Name())
	}
	if many {
		a.Log.WarnContext(ctx, "several people in a row got no refresh token, even with consent: nobody is asked for it for an hour",
			"provider", p.Name(), "people", manyInVain)
	}
}
