package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"
)

const (
	// endBatch is how many grants to end are looked up at a time.
	endBatch = 100
	// revokeTimeout bounds one try to revoke the tokens of an ended grant at its provider.
	revokeTimeout = 10 * time.Second
	// revokeFor is how long a revocation is tried again after the first try, and maxRevoking how many wait for that at a time.
	revokeFor   = 5 * time.Minute
	maxRevoking = 1000
	// revokingAtOnce is how many calls at once a provider gets for revocations that nobody waits for: as many as it has connections kept.
	revokingAtOnce = 32
)

// ErrReplayed says that a logout token has been used before.
var ErrReplayed = errors.New("the logout token was used before")

// ProviderSession is what a provider means when it says that somebody's session there is over: one session of its own (SID), or
// all of a person's (Subject); with both, that session if it is that person's.
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
		n, err := s.endEach(ctx, list, endSession, s.revokeRefresh)
		ended += n
		if err != nil {
			return ended, err
		}
	}
}

// EndFor ends all grants of a person, and their sessions as EndAll does. Their tokens are the caller's to revoke: revoke is given
// each grant as it was, and may hold up the next.
func (s *Grants) EndFor(
	ctx context.Context, whose Person, endSession func(ctx context.Context, hash string) error, revoke func(ctx context.Context, gone *Grant),
) (ended int, err error) {
	err = s.Each(ctx, whose, func(list []*Grant) error {
		n, err := s.endEach(ctx, list, endSession, revoke)
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
	n, err := s.endEach(ctx, list, endSession, s.revokeQueued)
	if n > 0 {
		s.log.InfoContext(ctx, "the oldest sessions of a person ended: there were too many", "ended", n)
	}
	return err
}

// endEach ends grants and their sessions, and says how many grants there still were. revoke is given each of those.
func (s *Grants) endEach(
	ctx context.Context, list []*Grant, endSession func(ctx context.Context, hash string) error, revoke func(ctx context.Context, gone *Grant),
) (ended int, err error) {
	for _, g := range list {
		if err := endSession(ctx, g.SessionHash); err != nil {
			return ended, fmt.Errorf("end session: %w", err)
		}
		gone, err := s.remove(ctx, g.ID)
		if err != nil {
			return ended, err
		}
		if gone != nil {
			ended++
			revoke(ctx, gone)
		}
	}
	return ended, nil
}

// revokeRefresh is revokeQueued of the refresh token alone: what else the provider gave it has ended itself.
func (s *Grants) revokeRefresh(ctx context.Context, gone *Grant) {
	s.queueRevocation(ctx, gone, TokenSet{Refresh: gone.Tokens.Refresh, ClientAuth: gone.Tokens.ClientAuth})
}

// revokeQueued revokes a grant's tokens beside the caller, who may have ended many.
func (s *Grants) revokeQueued(ctx context.Context, gone *Grant) {
	s.queueRevocation(ctx, gone, gone.Tokens)
}

func (s *Grants) queueRevocation(ctx context.Context, gone *Grant, tokens TokenSet) {
	room := s.revokingAt(gone.Identity.Provider)
	s.revoking.Go(func() {
		select {
		case room <- struct{}{}:
			defer func() { <-room }()
		case <-s.quit: // those that wait go now, or nobody ever revokes them
		}
		s.Revoke(ctx, gone, tokens)
	})
}

// revokingAt holds one for each revocation that runs at a provider with nobody waiting for it.
func (s *Grants) revokingAt(provider string) chan struct{} {
	room, _ := s.rooms.LoadOrStore(provider, make(chan struct{}, revokingAtOnce))
	return room.(chan struct{})
}

// End deletes the grant, returns it as it was, and revokes its tokens at the provider. Deletion is what counts: it is
// done when End returns, and a renewal that is under way finds nothing to write to. The revocation, which queues for none, is waited for
// until ctx is done and goes on by itself after that; if ctx is done before, it queues. For a grant that is gone already End returns nil
// and no error.
func (s *Grants) End(ctx context.Context, id string) (*Grant, error) {
	g, err := s.remove(ctx, id)
	if g == nil || err != nil {
		return nil, err
	}
	if ctx.Err() == nil {
		select {
		case <-s.revokeBeside(ctx, g, g.Tokens):
		case <-ctx.Done():
		}
	} else {
		s.revokeQueued(ctx, g)
	}
	return g, nil
}

// EndBeside is End, and waits for no revocation.
func (s *Grants) EndBeside(ctx context.Context, id string) error {
	g, err := s.remove(ctx, id)
	if g != nil {
		s.revokeBeside(ctx, g, g.Tokens)
	}
	return err
}

// remove deletes a grant and tells open pages; nil and no error when it is gone already.
func (s *Grants) remove(ctx context.Context, id string) (*Grant, error) {
	g, err := s.vault.Delete(context.WithoutCancel(ctx), id)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("end grant: %w", err)
	}
	s.log.InfoContext(ctx, "grant ended", "grant", id)
	s.events.End(id)
	return g, nil
}

// revokeBeside revokes tokens beside the caller; the channel is closed after the first try.
func (s *Grants) revokeBeside(ctx context.Context, g *Grant, tokens TokenSet) <-chan struct{} {
	done := make(chan struct{})
	s.revoking.Go(func() {
		defer close(done)
		s.Revoke(context.WithoutCancel(ctx), g, tokens)
	})
	return done
}

// Revoke revokes tokens of a grant that is gone at the provider, within a bound of its own. If the provider cannot be reached or
// is not well, it is tried again in the background, for a few minutes and as long as the process lives. Any other failure is
// logged: there is nobody left to whom it matters.
func (s *Grants) Revoke(ctx context.Context, gone *Grant, tokens TokenSet) {
	log := s.log.With("grant", gone.ID, "provider", gone.Identity.Provider)
	provider, err := revoking(ctx, s.vault, s.providers, gone)
	switch {
	case errors.Is(err, errSpared):
		log.InfoContext(ctx, "tokens of an ended grant are left to run out", "because", err)
		return
	case err != nil:
		log.WarnContext(ctx, "tokens of an ended grant could not be revoked", "error", err)
		return
	}
	try := func() error { return tryRevoking(context.WithoutCancel(ctx), provider, tokens) }
	if err = try(); err == nil {
		return
	}
	room := false
	if passes(err) {
		select {
		case s.waiting <- struct{}{}:
			room = true
		default:
		}
	}
	if !room {
		log.WarnContext(ctx, "tokens of an ended grant could not be revoked", "error", err)
		return
	}
	log.InfoContext(ctx, "tokens of an ended grant are not revoked yet; it is tried again", "error", err)
	running := s.revokingAt(gone.Identity.Provider)
	s.revoking.Go(func() {
		defer func() { <-s.waiting }()
		ctx := context.WithoutCancel(ctx)
		began := time.Now()
		for failures := 1; err != nil && passes(err) && time.Since(began) < revokeFor; failures++ {
			if !s.again(failures, running) {
				log.WarnContext(ctx, "tokens of an ended grant are not revoked: Keyturn ends")
				return
			}
			err = try()
			<-running
		}
		if err != nil {
			log.WarnContext(ctx, "tokens of an ended grant could not be revoked", "error", err)
		}
	})
}

// again waits for the time of another try, and for room among those that run; false, and no room taken: Keyturn ends.
func (s *Grants) again(failures int, running chan<- struct{}) bool {
	select {
	case <-time.After(backoff(failures, 0)):
	case <-s.quit:
		return false
	}
	select {
	case running <- struct{}{}:
		return true
	case <-s.quit:
		return false
	}
}

// tryRevoking tries once to revoke tokens, within a bound of its own.
func tryRevoking(ctx context.Context, provider Provider, tokens TokenSet) error {
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	return provider.Revoke(ctx, tokens)
}

// passes says whether a failed revocation may succeed later. To revoke twice does no harm (RFC 7009 section 2.2).
func passes(err error) bool {
	var refusal *ProviderError
	if !errors.As(err, &refusal) || refusal.Delivery != DeliveryAnswered {
		return true
	}
	status := refusal.Failure.Status
	return status >= http.StatusInternalServerError || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
}

// Wait returns when no revocation runs any more, or ctx is done. Those that wait for another try give up.
func (s *Grants) Wait(ctx context.Context) error {
	s.stop.Do(func() { close(s.quit) })
	return waitGroup(ctx, &s.revoking)
}
