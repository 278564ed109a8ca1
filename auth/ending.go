package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// endBatch is how many grants to end are looked up at a time.
const endBatch = 100

// ErrReplayed says that a logout token has been used before.
var ErrReplayed = errors.New("the logout token was used before")

// ProviderSession is what a provider means when it says that somebody's session there is over: one session of its own (SID), or
// all of a person's (Subject); with both, that session if it is that person's, and those of the person's that the provider has not
// named to us, any of which may be that session (OpenID Connect Back-Channel Logout 1.0 section 2.7).
type ProviderSession struct {
	Provider string // configured name
	SID      string // may be empty
	Subject  string // may be empty
}

// Logout is a verified logout token (OpenID Connect Back-Channel Logout 1.0 section 2.4).
type Logout struct {
	Session ProviderSession
	Issuer  string
	ID      string    // jti
	Until   time.Time // when the token would be refused for its age
}

// EndAll ends the grants that a provider says are over, and their sessions by endSession, which comes first and is given the
// session's hash. ErrReplayed when the token was used before; then nothing ends. When it cannot be done to the end, the error is
// the storage's and the token may be used again. Refresh tokens are revoked in the background; what else the provider gave it
// has ended itself. The number is of grants that ended.
func (s *Grants) EndAll(
	ctx context.Context, logout Logout, endSession func(ctx context.Context, hash string) error,
) (ended int, err error) {
	sum := sha256.Sum256([]byte(logout.Session.Provider + "\n" + logout.Issuer + "\n" + logout.ID))
	fingerprint := base64.RawURLEncoding.EncodeToString(sum[:])
	switch used, err := s.vault.Used(ctx, fingerprint); {
	case err != nil:
		return 0, err
	case used:
		return 0, ErrReplayed
	}
	// What has begun is done to its end: a provider that hangs up has said all.
	ctx = context.WithoutCancel(ctx)
	if err := s.markOver(ctx, logout.Session); err != nil {
		return 0, err
	}
	if ended, err = s.endSessions(ctx, logout.Session, endSession); err != nil {
		return ended, err
	}
	switch first, err := s.vault.Use(ctx, fingerprint, logout.Until); {
	case err != nil:
		return ended, err
	case !first:
		return ended, ErrReplayed
	}
	return ended, nil
}

// endSessions ends the grants that the given session of a provider, or person, is about, and their sessions, as EndAll does.
func (s *Grants) endSessions(
	ctx context.Context, at ProviderSession, endSession func(ctx context.Context, hash string) error,
) (ended int, err error) {
	for {
		list, err := s.vault.Concerned(ctx, at, endBatch)
		if err != nil || len(list) == 0 {
			return ended, err
		}
		n, err := s.endEach(ctx, list, endSession, s.endAtProvider)
		ended += n
		if err != nil {
			return ended, err
		}
	}
}

// EndFor ends all grants of a person, and their sessions as EndAll does. revoke is given each as it was, and may hold up the next; with
// nil, their tokens are left to run out. What it does not see to within a minute is for a process that runs.
func (s *Grants) EndFor(
	ctx context.Context, whose Person, endSession func(ctx context.Context, hash string) error, revoke func(ctx context.Context, gone *Grant),
) (ended int, err error) {
	end := s.drop
	if revoke != nil {
		end = func(ctx context.Context, id string) (*Grant, error) {
			g, err := s.end(ctx, id, time.Minute)
			if g != nil {
				revoke(ctx, g)
			}
			return g, err
		}
	}
	err = s.Each(ctx, whose, func(list []*Grant) error {
		n, err := s.endEach(ctx, list, endSession, end)
		ended += n
		return err
	})
	return ended, err
}

// Unconfigured lists the providers of a person's grants that are not configured, by name: nothing can be revoked there.
func (s *Grants) Unconfigured(ctx context.Context, whose Person) ([]string, error) {
	unknown := map[string]bool{}
	err := s.Each(ctx, whose, func(list []*Grant) error {
		for _, g := range list {
			if unknown[g.Identity.Provider] {
				continue
			}
			switch known, err := s.configured(ctx, g); {
			case err != nil:
				return err
			case !known:
				unknown[g.Identity.Provider] = true
			}
		}
		return nil
	})
	return slices.Sorted(maps.Keys(unknown)), err
}

// configured says whether the provider of a grant, as All lists it, is configured. Of a grant that does not open only the provider's name
// is known.
func (s *Grants) configured(ctx context.Context, listed *Grant) (bool, error) {
	g, err := s.vault.Get(ctx, listed.ID)
	switch {
	case errors.Is(err, ErrNotFound):
		return true, nil
	case errors.Is(err, ErrUnreadable):
		_, ok := s.providers.Lookup(listed.Identity.Provider)
		return ok, nil
	case err != nil:
		return false, err
	}
	_, ok := s.providers.Of(g.Identity)
	return ok, nil
}

// Each calls do with all grants of a person, whether or not their sessions live, some at a time, until it fails. do may end them. The
// error is do's, or the storage's.
func (s *Grants) Each(ctx context.Context, whose Person, do func([]*Grant) error) error {
	for after := ""; ; {
		list, err := s.vault.All(ctx, whose, after, endBatch)
		if err != nil || len(list) == 0 {
			return err
		}
		if err := do(list); err != nil {
			return err
		}
		after = list[len(list)-1].ID
	}
}

// EndOldest ends those of the grants of latest's person that have more than keep newer ones, and their sessions as EndAll does. latest
// itself stays, wherever a clock that was set back, or another replica's, puts it. The error is the storage's.
func (s *Grants) EndOldest(
	ctx context.Context, latest *Grant, keep int, endSession func(ctx context.Context, hash string) error,
) error {
	ctx = context.WithoutCancel(ctx)
	list, err := s.vault.Beyond(ctx, latest.Identity.Provider, latest.Identity.Subject, keep, endBatch)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(list, func(g *Grant) bool { return g.ID == latest.ID }) {
		return nil // the clock was set back: which are the oldest can be told when it is right again
	}
	n, err := s.endEach(ctx, list, endSession, s.endQueued)
	if n > 0 {
		s.log.InfoContext(ctx, "the oldest sessions of a person ended: there were too many", "ended", n)
	}
	return err
}

// endEach ends grants and their sessions, the grants by end, which returns nil for those that are gone already; and says how many there
// still were.
func (s *Grants) endEach(
	ctx context.Context, list []*Grant, endSession func(ctx context.Context, hash string) error,
	end func(ctx context.Context, id string) (*Grant, error),
) (ended int, err error) {
	for _, g := range list {
		if err := endSession(ctx, g.SessionHash); err != nil {
			return ended, fmt.Errorf("end session: %w", err)
		}
		gone, err := end(ctx, g.ID)
		if err != nil {
			return ended, err
		}
		if gone != nil {
			ended++
		}
	}
	return ended, nil
}

// endQueued ends a grant of perhaps many; its tokens are revoked in their turn.
func (s *Grants) endQueued(ctx context.Context, id string) (*Grant, error) {
	g, err := s.end(ctx, id, 0)
	s.soon()
	return g, err
}

// endAtProvider is endQueued for a grant that has ended at the provider: of its tokens only a refresh token may be good for anything still.
func (s *Grants) endAtProvider(ctx context.Context, id string) (*Grant, error) {
	g, err := s.end(ctx, id, 0)
	if g != nil && g.Tokens.Access != "" && g.Tokens.Refresh == "" {
		s.answered(ctx, Owed{Grant: g}, nil)
	} else {
		s.soon()
	}
	return g, err
}

// End deletes the grant, returns it as it was, and revokes its tokens at the provider. Deletion is what counts: it is
// done when End returns, and a renewal that is under way finds nothing to write to. From then on the revocation is owed, whatever becomes
// of this process. It queues for none and is waited for until ctx is done; if ctx is done before, it queues. For a grant that is gone
// already End returns nil and no error.
func (s *Grants) End(ctx context.Context, id string) (*Grant, error) {
	if ctx.Err() != nil {
		return s.endQueued(ctx, id)
	}
	g, err := s.end(ctx, id, owedHold)
	if g == nil || err != nil {
		return nil, err
	}
	select {
	case <-s.revokeBeside(ctx, g):
	case <-ctx.Done():
	}
	return g, nil
}

// EndBeside is End, and waits for no revocation.
func (s *Grants) EndBeside(ctx context.Context, id string) error {
	g, err := s.end(ctx, id, owedHold)
	if g != nil {
		s.revokeBeside(ctx, g)
	}
	return err
}

// end deletes a grant whose tokens are to be revoked, which is owed: its turn comes in wait.
func (s *Grants) end(ctx context.Context, id string, wait time.Duration) (*Grant, error) {
	g, err := s.vault.End(context.WithoutCancel(ctx), id, wait)
	return g, s.ended(ctx, id, err)
}

// drop deletes a grant whose tokens are left to run out.
func (s *Grants) drop(ctx context.Context, id string) (*Grant, error) {
	g, err := s.vault.Delete(context.WithoutCancel(ctx), id)
	return g, s.ended(ctx, id, err)
}

// ended tells open pages that a grant was deleted. That it is gone already is no error.
func (s *Grants) ended(ctx context.Context, id string, err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("end grant: %w", err)
	}
	s.log.InfoContext(ctx, "grant ended", "grant", id)
	s.events.End(id)
	return nil
}
