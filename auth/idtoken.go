package auth

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"time"
)

const (
	checkTimeout = 5 * time.Second // bound on the verification of a new id token, keys included
	checkAgain   = 30 * time.Second
	maxAtOnce    = 16 << 10 // bytes of an id token; a larger one takes its time
)

// settle checks the id token that came with stored tokens, runs the Token callback and stores what follows.
func (r *Rotator) settle(ctx context.Context, provider Provider, g *Grant, record *Renewal) error {
	stored := *g
	if g.Pending != "" {
		r.verify(ctx, provider, g, record)
	}
	if !g.Standing.Refused {
		r.Callbacks.token(ctx, r.Log, TokenEvent{Trigger: record.Trigger, Grant: g})
	}
	if reflect.DeepEqual(&stored, g) {
		return nil
	}
	return r.amend(ctx, g, record)
}

// amend stores what was settled. That it comes too late is no error: a newer generation brings its own id token, and a grant that is
// gone needs none.
func (r *Rotator) amend(ctx context.Context, g *Grant, record *Renewal) error {
	err := r.Vault.Amend(ctx, g, record)
	if errors.Is(err, ErrStale) || errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// verify judges the pending id token of a grant (spec section 5.1, last paragraph).
func (r *Rotator) verify(ctx context.Context, provider Provider, g *Grant, record *Renewal) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	claims, err := provider.VerifyIDToken(ctx, g, g.Pending, true)
	switch {
	case err == nil:
		g.verified(claims)
	case errors.Is(err, ErrKeysUnavailable):
		r.Log.WarnContext(ctx, "new id token not checked yet", "grant", g.ID, "error", err)
	case errors.Is(err, ErrOtherIdentity):
		r.Log.ErrorContext(ctx, "security: renewal brought another identity; grant ended", "grant", g.ID, "provider", g.Identity.Provider)
		r.Grants.Revoke(ctx, g.Identity.Provider, g.ID, g.Tokens)
		g.Tokens = TokenSet{IssuedAt: g.Tokens.IssuedAt, ExpiresAt: g.Tokens.IssuedAt}
		g.Pending, g.DueAt = "", time.Time{}
		why := Failure{Code: CodeIdentityChanged, Party: PartyPerson}
		g.Standing.Outcome, g.Standing.Refused, g.Standing.Failure, g.Standing.TriedAt = OutcomeRefused, true, why, r.Now()
		record.Outcome, record.Code = OutcomeRefused, CodeIdentityChanged
	default:
		r.Log.ErrorContext(ctx, "security: new id token rejected; the old one stays", "grant", g.ID, "provider", g.Identity.Provider, "error", err)
		g.Pending = ""
		record.Warning = CodeIDTokenRejected
	}
}

// verifyAtOnce verifies the pending id token of a grant that is about to be stored, where that takes no more than computing. One
// write then does for the tokens and for what came with them. Anything but a good id token is judged after the tokens are stored.
func (r *Rotator) verifyAtOnce(ctx context.Context, provider Provider, g *Grant) {
	if g.Pending == "" || len(g.Pending) > maxAtOnce {
		return
	}
	ctx, verified := r.step(ctx, "verify")
	claims, err := provider.VerifyIDToken(ctx, g, g.Pending, false)
	if err == nil {
		g.verified(claims)
	} else if errors.Is(err, ErrKeysUnavailable) {
		err = nil
	}
	verified(err)
}

// verified says that the pending id token is good.
func (g *Grant) verified(claims map[string]any) {
	g.Tokens.ID, g.Pending = g.Pending, ""
	g.Identity = g.Identity.updated(claims)
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
	r.verify(ctx, provider, g, &latest[0])
	if err := r.amend(ctx, g, &latest[0]); err != nil {
		return err
	}
	r.Events.Publish(id)
	return nil
}

// updated is the identity with newer claims about the same person.
func (i Identity) updated(claims map[string]any) Identity {
	merged := maps.Clone(i.Claims)
	if merged == nil {
		merged = map[string]any{}
	}
	maps.Copy(merged, claims)
	i.Claims = merged
	for name, field := range map[string]*string{"name": &i.Name, "email": &i.Email, "picture": &i.Picture} {
		if value, ok := claims[name].(string); ok && value != "" {
			*field = value
		}
	}
	return i
}
