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

// Grants begins and ends grants. It is safe for concurrent use.
type Grants struct {
	vault     Vault
	providers Providers
	callbacks Callbacks
	events    *Events
	now       func() time.Time
	log       *slog.Logger
	revoking  sync.WaitGroup
	owing     sync.Map      // the providers at which Run has what is owed revoked
	owed      chan struct{} // has Run look now
	unread    Complaint     // that what is owed cannot be read
}

// NewGrants returns a Grants over the vault.
func NewGrants(vault Vault, providers Providers, callbacks Callbacks, events *Events, now func() time.Time, log *slog.Logger) *Grants {
	return &Grants{
		vault: vault, providers: providers, callbacks: callbacks, events: events, now: now, log: log,
		owed: make(chan struct{}, 1), unread: Complaint{Every: time.Minute},
	}
}

// Begin stores the grant of a finished sign-in as generation 1. ErrOver when its provider has ended it meanwhile; then its refresh token is
// revoked in the background.
func (s *Grants) Begin(ctx context.Context, in SignedIn) (*Grant, error) {
	provider, ok := s.providers.Lookup(in.Identity.Provider)
	if !ok {
		return nil, fmt.Errorf("begin grant: provider %q is not configured", in.Identity.Provider)
	}
	policy := provider.Policy()
	now := s.now()
	g := &Grant{
		ID: NewGrantID(now), SessionHash: in.SessionHash, Identity: in.Identity, Generation: 1,
		Tokens:    in.Answer.TokenSet(TokenSet{ID: in.IDToken}, policy.Assumed),
		CreatedAt: now, SeenAt: now, UserAgent: in.UserAgent, IP: in.IP,
	}
	g.DueAt = policy.PlanAt(g)
	if g.Tokens.None() {
		g.Standing.Failure = tokenless
	}
	account := g.Tokens
	s.callbacks.token(ctx, s.log, TokenEvent{Account: &account, Profile: in.Identity.Profile(), Grant: g})
	if err := s.vault.Create(ctx, g); err != nil {
		return nil, fmt.Errorf("begin grant: %w", err)
	}
	if err := s.notOver(ctx, g, in.Answer.RequestedAt); err != nil {
		_, failed := s.endAtProvider(ctx, g.ID)
		return nil, errors.Join(err, failed)
	}
	s.log.InfoContext(ctx, "signed in", "grant", g.ID, "provider", in.Identity.Provider, "tokens", g.Tokens)
	return g, nil
}

// discardTimeout bounds what a sign-in that comes to nothing still waits for.
const discardTimeout = 2 * time.Second

// Discard revokes the tokens of a sign-in that comes to nothing, in one try: the next sign-in, which may be of the same grant to the
// provider, must not be struck by a later one.
func (s *Grants) Discard(ctx context.Context, in SignedIn) {
	provider, ok := s.providers.Lookup(in.Identity.Provider)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTimeout)
	defer cancel()
	err := spares(ctx, s.vault, provider, in.Identity)
	if err == nil {
		err = provider.Revoke(ctx, in.Answer.TokenSet(TokenSet{}, 0))
	}
	switch {
	case err == nil:
	case errors.Is(err, errSpared):
		s.log.InfoContext(ctx, "the tokens of a refused sign-in are left to run out", "provider", in.Identity.Provider, "because", err)
	default:
		s.log.WarnContext(ctx, "the tokens of a refused sign-in could not be revoked", "provider", in.Identity.Provider, "error", err)
	}
}

// Forget deletes a grant that a newer sign-in of the same person at the same provider takes the place of. Its tokens are not
// revoked: to many providers the two are one grant, and with any token of it they would revoke the new ones.
func (s *Grants) Forget(ctx context.Context, id string) error {
	ctx = context.WithoutCancel(ctx)
	// Before it is gone: a renewal that is under way, perhaps in another process, has to know.
	if _, err := s.vault.Use(ctx, replacedMark(id), s.now().Add(replacedFor)); err != nil {
		return fmt.Errorf("forget grant: %w", err)
	}
	if _, err := s.vault.Delete(ctx, id); err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("forget grant: %w", err)
	}
	s.log.InfoContext(ctx, "grant replaced by a new sign-in", "grant", id)
	s.events.End(id)
	return nil
}

// replacedFor is for how long it is remembered that a new sign-in took a grant's place: longer than a renewal takes, and its wait for a
// database that is away.
const replacedFor = time.Hour

func replacedMark(id string) string { return "replaced " + id }

// replaced says whether a new sign-in took the grant's place. If nobody can say, the grant counts as ended.
func (s *Grants) replaced(ctx context.Context, id string) bool {
	replaced, err := s.vault.Used(ctx, replacedMark(id))
	if err != nil {
		s.log.WarnContext(ctx, "it is not known whether a new sign-in has replaced the grant", "grant", id, "error", err)
	}
	return replaced
}

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
