package auth

import (
	"context"
	"errors"
	"reflect"
	"time"
)

const (
	checkTimeout = 5 * time.Second // bound on the verification of a new id token, keys included
	checkAgain   = 30 * time.Second
	maxAtOnce    = 16 << 10 // bytes of an id token; a larger one takes its time
)

// finding is what the verification of a pending id token found.
type finding struct {
	token  Secret
	claims map[string]any
	err    error // nil: it is good
}

// settle checks the id token that came with stored tokens, runs the Token callback and stores what follows.
func (r *Rotator) settle(ctx context.Context, provider Provider, g *Grant, record *Renewal) error {
	found := r.verify(ctx, provider, g)
	return r.conclude(ctx, found, g, record, func() {
		if !g.Standing.Refused {
			r.Callbacks.token(ctx, r.Log, TokenEvent{Trigger: record.Trigger, Grant: g})
		}
	})
}

// conclude stores what follows from a finding, and what then changes besides. Others may have written to the grant meanwhile, a renewal
// too: then it goes into what they left. That the grant is gone is no error.
func (r *Rotator) conclude(ctx context.Context, found finding, g *Grant, record *Renewal, then func()) error {
	read := *g
	foreign := []TokenSet{found.apply(g, record, r.Now())}
	then()
	for before, now := &read, g; !reflect.DeepEqual(before, now); {
		err := r.Vault.Amend(ctx, now, record)
		if err == nil || errors.Is(err, ErrNotFound) {
			break
		}
		if !errors.Is(err, ErrStale) {
			return err
		}
		current, err := r.Vault.Get(ctx, g.ID)
		if errors.Is(err, ErrNotFound) {
			break
		}
		if err != nil {
			return err
		}
		before, now = clone(current), current
		if now.Generation == g.Generation {
			now.Kept = g.Kept
		}
		foreign = append(foreign, found.apply(now, record, r.Now()))
	}
	for _, tokens := range foreign {
		if tokens.Access != "" || tokens.Refresh != "" {
			r.Grants.Revoke(ctx, g.ID, g.Identity.other(found.token), tokens)
		}
	}
	return nil
}

// apply makes of a grant what follows from the finding, if it still has the id token that this is about. It returns tokens that are
// somebody else's: the grant is over then, whatever has become of it since.
func (f finding) apply(g *Grant, record *Renewal, now time.Time) (foreign TokenSet) {
	switch {
	case f.token == "", errors.Is(f.err, ErrKeysUnavailable), g.Ended():
	case errors.Is(f.err, ErrOtherIdentity):
		foreign = g.Tokens
		g.end(now)
		record.Outcome, record.Code = OutcomeRefused, CodeIdentityChanged
	case g.Pending != f.token:
	case f.err == nil:
		g.verified(f.claims)
	default:
		g.Pending, g.PendingFor = "", ""
		record.Warning = CodeIDTokenRejected
	}
	return foreign
}

// verify judges the pending id token of a grant, if there is one.
func (r *Rotator) verify(ctx context.Context, provider Provider, g *Grant) finding {
	if g.Pending == "" {
		return finding{}
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	found := finding{token: g.Pending}
	found.claims, found.err = provider.VerifyIDToken(ctx, g, g.Pending, true)
	switch {
	case found.err == nil:
	case errors.Is(found.err, ErrKeysUnavailable):
		r.Log.WarnContext(ctx, "new id token not checked yet", "grant", g.ID, "error", found.err)
	case errors.Is(found.err, ErrOtherIdentity):
		r.sayEnded(ctx, g)
	case errors.Is(found.err, ErrOtherNonce):
		r.nonces.Make(func(times int) {
			r.Log.WarnContext(ctx, "security: new id token rejected, for it carries another sign-in's nonce; the old one stays",
				"grant", g.ID, "provider", g.Identity.Provider, "renewals", times)
		})
	default:
		r.Log.ErrorContext(ctx, "security: new id token rejected; the old one stays", "grant", g.ID, "provider", g.Identity.Provider, "error", found.err)
	}
	return found
}

func (r *Rotator) sayEnded(ctx context.Context, g *Grant) {
	r.Log.ErrorContext(ctx, "security: renewal brought another identity; grant ended", "grant", g.ID, "provider", g.Identity.Provider)
}

// CanonicalIssuer is an id token's iss as the provider's metadata has it. Google's may leave out the scheme, as its documentation says.
func CanonicalIssuer(iss string) string {
	if iss == "accounts.google.com" {
		return "https://" + iss
	}
	return iss
}

// differs says that an id token names somebody else, or another issuer. No key is needed to know that: it came from the token
// endpoint itself (OpenID Connect Core section 3.1.3.7, item 6), and whoever it is of, what came with it is not to be shown.
func (i Identity) differs(idToken Secret) bool {
	jwt, _ := ParseJWT(idToken)
	issuer, hasIssuer := jwt.Claims["iss"].(string)
	subject, hasSubject := jwt.Claims["sub"].(string)
	return hasIssuer && CanonicalIssuer(issuer) != i.Issuer || hasSubject && subject != i.Subject
}

// other is whom an id token names in place of i, which came from the same provider.
func (i Identity) other(idToken Secret) Identity {
	jwt, _ := ParseJWT(idToken)
	if subject, is := jwt.Claims["sub"].(string); is {
		i.Subject = subject
	}
	return Identity{Provider: i.Provider, Issuer: i.Issuer, Subject: i.Subject}
}

// endOther ends the grant of a renewal that brought the tokens of somebody else, whom the id token names. The grant never has them.
func (r *Rotator) endOther(ctx context.Context, a attempt, g *Grant, record *Renewal, idToken Secret) (Result, error) {
	r.sayEnded(ctx, g)
	foreign := g.Tokens
	g.Generation, record.Generation = a.before.Generation, a.before.Generation
	g.end(record.At.Add(record.Duration))
	record.Outcome, record.Code = OutcomeRefused, CodeIdentityChanged
	result, err := r.finish(ctx, g, record)
	revoked := make(chan struct{})
	r.Grants.revoking.Go(func() {
		defer close(revoked)
		r.Grants.Revoke(ctx, g.ID, g.Identity.other(idToken), foreign)
	})
	select {
	case <-revoked:
	case <-time.After(settleWait):
	}
	return result, err
}

// verifyAtOnce verifies the pending id token of a grant that is about to be stored, where that takes no more than computing. One
// write then does for the tokens and for what came with them. Anything but a good id token is judged after the tokens are stored.
func (r *Rotator) verifyAtOnce(ctx context.Context, provider Provider, g *Grant) (good bool) {
	if g.Pending == "" || len(g.Pending) > maxAtOnce {
		return false
	}
	ctx, verified := r.step(ctx, "verify")
	claims, err := provider.VerifyIDToken(ctx, g, g.Pending, false)
	if good = err == nil; good {
		g.verified(claims)
	} else if errors.Is(err, ErrKeysUnavailable) {
		err = nil
	}
	verified(err)
	return good
}

// verified says that the pending id token is good.
func (g *Grant) verified(claims map[string]any) {
	g.Tokens.ID, g.Pending, g.PendingFor = g.Pending, "", ""
	g.Identity = g.Identity.updated(WithoutSecrets(claims, g.Tokens.Secrets()...))
}

// checkPending repeats, beside the request, a verification for which the keys were out of reach.
func (r *Rotator) checkPending(ctx context.Context, provider Provider, g *Grant) {
	if g.Pending == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.flights[g.ID]; r.draining || f != nil && f.ended.IsZero() || time.Now().Before(r.checking[g.ID]) {
		return
	}
	r.checking[g.ID] = time.Now().Add(checkAgain)
	ctx, id := context.WithoutCancel(ctx), g.ID
	r.running.Go(func() {
		err := r.recheck(ctx, provider, id)
		if err != nil {
			r.Log.ErrorContext(ctx, "pending id token could not be settled", "grant", id, "error", err)
		}
	})
	time.AfterFunc(checkAgain, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.checking, id)
	})
}

func (r *Rotator) recheck(ctx context.Context, provider Provider, id string) error {
	g, err := r.Vault.Get(ctx, id)
	if err != nil || g.Pending == "" {
		return err
	}
	latest, err := r.Vault.History(ctx, id, 0, 1)
	if err != nil || len(latest) == 0 {
		return err
	}
	if err := r.conclude(ctx, r.verify(ctx, provider, g), g, &latest[0], func() {}); err != nil {
		return err
	}
	r.Events.Publish(id)
	return nil
}
