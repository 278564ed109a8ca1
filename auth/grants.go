package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// SignedIn is what a finished sign-in brought.
type SignedIn struct {
	Identity    Identity
	Answer      Answer
	IDToken     Secret // verified
	SessionHash string
	UserAgent   string
	IP          string
}

// revokeTimeout bounds the revocation of one ended grant at its provider.
const revokeTimeout = 10 * time.Second

// Grants begins and ends grants. It is safe for concurrent use.
type Grants struct {
	vault     Vault
	providers Providers
	callbacks Callbacks
	events    *Events
	now       func() time.Time
	log       *slog.Logger
	revoking  sync.WaitGroup
}

// NewGrants returns a Grants over the vault.
func NewGrants(vault Vault, providers Providers, callbacks Callbacks, events *Events, now func() time.Time, log *slog.Logger) *Grants {
	return &Grants{vault: vault, providers: providers, callbacks: callbacks, events: events, now: now, log: log}
}

// Begin stores the grant of a finished sign-in as generation 1.
func (s *Grants) Begin(ctx context.Context, in SignedIn) (*Grant, error) {
	provider, ok := s.providers.Lookup(in.Identity.Provider)
	if !ok {
		return nil, fmt.Errorf("begin grant: provider %q is not configured", in.Identity.Provider)
	}
	policy := provider.Policy()
	now := s.now()
	g := &Grant{
		ID: NewGrantID(), SessionHash: in.SessionHash, Identity: in.Identity, Generation: 1,
		Tokens:    in.Answer.TokenSet(TokenSet{ID: in.IDToken}, policy.Assumed),
		CreatedAt: now, SeenAt: now, UserAgent: in.UserAgent, IP: in.IP,
	}
	g.DueAt = policy.PlanAt(g)
	account := g.Tokens
	s.callbacks.token(ctx, s.log, TokenEvent{Account: &account, Profile: in.Identity.Profile(), Grant: g})
	if err := s.vault.Create(ctx, g); err != nil {
		return nil, fmt.Errorf("begin grant: %w", err)
	}
	s.log.InfoContext(ctx, "signed in", "grant", g.ID, "provider", in.Identity.Provider, "tokens", g.Tokens)
	return g, nil
}

// End deletes the grant, returns it as it was, and revokes its tokens at the provider. Deletion is what counts: it is
// done when End returns, and a renewal that is under way finds nothing to write to. The revocation is waited for until
// ctx is done and goes on by itself after that. For a grant that is gone already End returns nil and no error.
func (s *Grants) End(ctx context.Context, id string) (*Grant, error) {
	g, err := s.vault.Delete(context.WithoutCancel(ctx), id)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("end grant: %w", err)
	}
	s.log.InfoContext(ctx, "grant ended", "grant", id)
	s.events.End(id)
	done := make(chan struct{})
	s.revoking.Go(func() {
		defer close(done)
		s.Revoke(context.WithoutCancel(ctx), g.Identity.Provider, g.ID, g.Tokens)
	})
	select {
	case <-done:
	case <-ctx.Done():
	}
	return g, nil
}

// Forget deletes a grant that a newer sign-in of the same person at the same provider takes the place of. Its tokens are not
// revoked: to many providers the two are one grant, and with any token of it they would revoke the new ones.
func (s *Grants) Forget(ctx context.Context, id string) error {
	if _, err := s.vault.Delete(context.WithoutCancel(ctx), id); err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("forget grant: %w", err)
	}
	s.log.InfoContext(ctx, "grant replaced by a new sign-in", "grant", id)
	s.events.End(id)
	return nil
}

// Revoke revokes tokens of a grant that is gone at the provider, within a bound of its own. A failure is logged:
// there is nobody left to whom it matters.
func (s *Grants) Revoke(ctx context.Context, providerName, grantID string, tokens TokenSet) {
	provider, ok := s.providers.Lookup(providerName)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	if err := provider.Revoke(ctx, tokens); err != nil {
		s.log.WarnContext(ctx, "tokens of an ended grant could not be revoked", "grant", grantID, "provider", providerName, "error", err)
	}
}

// Wait returns when no revocation runs any more, or ctx is done.
func (s *Grants) Wait(ctx context.Context) error { return waitGroup(ctx, &s.revoking) }

func waitGroup(ctx context.Context, group *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
