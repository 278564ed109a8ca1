package auth

import (
	"context"
	"errors"
	"log/slog"
	"math/bits"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// OwedFor is how long a revocation is owed at most. Then the tokens are left to run out.
	OwedFor = 24 * time.Hour
	// owedEvery is how often it is looked whose turn has come.
	owedEvery = 2 * time.Second
	// owedHold is for how long whoever tries has an owed revocation to itself: longer than a try takes, with a look at the database.
	owedHold = revokeTimeout + 2*storageWait
	// revokeTimeout bounds one try to revoke the tokens of an ended grant at its provider.
	revokeTimeout = 10 * time.Second
	// revokingAtOnce is how many calls at once a provider gets for revocations that nobody waits for: as many as it has connections kept.
	revokingAtOnce = 32
)

const (
	notYet   = "tokens of an ended grant are not revoked yet; it is tried again"
	notNoted = "what came of a revocation could not be stored; it is tried again"
)

// Run has revoked what is owed, whichever process left it, until ctx is done. Calls that run then go on: see Wait.
func (s *Grants) Run(ctx context.Context) {
	for {
		names, err := s.vault.Owing(ctx)
		s.complain(ctx, err)
		for _, name := range names {
			if _, runs := s.owing.LoadOrStore(name, true); !runs {
				s.revoking.Go(func() {
					defer s.owing.Delete(name)
					s.revokeOwed(ctx, name)
				})
			}
		}
		select {
		case <-s.owed:
		case <-time.After(owedEvery):
		case <-ctx.Done():
			return
		}
	}
}

// revokeOwed revokes what is owed at a provider. If nothing of a batch gets through, the provider rests until the next look, and for as
// long as it asks to be left alone.
func (s *Grants) revokeOwed(ctx context.Context, provider string) {
	for ctx.Err() == nil {
		list, err := s.vault.TakeOwed(ctx, provider, owedHold, revokingAtOnce)
		s.complain(ctx, err)
		if err != nil || len(list) == 0 {
			return
		}
		var over atomic.Int32
		var running sync.WaitGroup
		rest := make([]time.Duration, len(list))
		for i, owed := range list {
			running.Go(func() {
				ctx := context.WithoutCancel(ctx)
				result := tryRevoking(ctx, s.vault, s.providers, owed.Grant)
				rest[i] = askedFor(result)
				if s.answered(ctx, owed, result) || errors.Is(result, errSpared) { // for which the provider was not asked
					over.Add(1)
				}
			})
		}
		running.Wait()
		if over.Load() == 0 {
			select {
			case <-time.After(slices.Max(rest)):
			case <-ctx.Done():
			}
			return
		}
	}
}

// complain says, now and then, that what is owed cannot be looked at.
func (s *Grants) complain(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		s.unread.Make(func(times int) {
			s.log.WarnContext(ctx, "owed revocations cannot be read; it is tried again", "times", times, "error", err)
		})
	}
}

// soon has what is owed be looked at now.
func (s *Grants) soon() {
	select {
	case s.owed <- struct{}{}:
	default:
	}
}

// answered settles an owed revocation that was tried with this result, or puts it off, and says whether it is over. One that is spared for
// another session of the person is, too, once that has ended by itself.
func (s *Grants) answered(ctx context.Context, owed Owed, result error) (over bool) {
	log := s.log.With("grant", owed.Grant.ID, "provider", owed.Grant.Identity.Provider)
	note := func() error { return s.vault.Settle(ctx, owed.Grant.ID) }
	switch over = !passes(result) || owed.For >= OwedFor; {
	case result == nil:
	case over && errors.Is(result, errSpared):
		log.InfoContext(ctx, "tokens of an ended grant are left to run out", "because", result)
	case over:
		log.WarnContext(ctx, "tokens of an ended grant could not be revoked", "error", result)
	default:
		level := slog.LevelInfo
		if owed.For >= time.Minute {
			level = slog.LevelDebug // it has been said
		}
		log.Log(ctx, level, notYet, "error", result)
		note = func() error { return s.vault.PutOff(ctx, owed.Grant.ID, putOff(owed.For, result)) }
	}
	if err := note(); err != nil {
		log.WarnContext(ctx, notNoted, "error", err)
	}
	return over
}

// putOff is the wait after a failed try: about as long as the revocation has been owed. There may be many that are spared, and little can be
// gained by asking often.
func putOff(owed time.Duration, why error) time.Duration {
	if errors.Is(why, errSpared) {
		return min(max(owed, time.Minute), time.Hour)
	}
	return backoff(1+bits.Len64(uint64(max(0, owed/time.Second))), askedFor(why))
}

// askedFor is how long a provider that failed is to be left alone.
func askedFor(why error) time.Duration {
	if refusal := new(ProviderError); errors.As(why, &refusal) {
		return min(refusal.RetryAfter, maxRetryAfter)
	}
	return 0
}

// tryRevoking tries once to revoke the tokens of a grant that is gone, within a bound of its own.
func tryRevoking(ctx context.Context, vault Vault, providers Providers, gone *Grant) error {
	provider, err := revoking(ctx, vault, providers, gone)
	if err != nil {
		return err
	}
	return revokeOnce(ctx, provider, gone.Tokens)
}

func revokeOnce(ctx context.Context, provider Provider, tokens TokenSet) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	return provider.Revoke(ctx, tokens)
}

// passes says whether a failed revocation may succeed later: also what refuses the client, until the operator has mended it, and what sends
// it elsewhere, as to a page about maintenance. To revoke twice does no harm (RFC 7009 section 2.2).
func passes(err error) bool {
	if err == nil {
		return false
	}
	var refusal *ProviderError
	if !errors.As(err, &refusal) || refusal.Delivery != DeliveryAnswered {
		return true
	}
	switch f := refusal.Failure; f.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return true
	default:
		return f.Unwell() || f.Status/100 == 3 || RefusesClient(f.Code)
	}
}

// revokeBeside revokes the tokens of a grant that has just ended, which are owed, beside the caller; the channel is closed after the try.
func (s *Grants) revokeBeside(ctx context.Context, gone *Grant) <-chan struct{} {
	tried := make(chan struct{})
	s.revoking.Go(func() {
		ctx := context.WithoutCancel(ctx)
		err := tryRevoking(ctx, s.vault, s.providers, gone)
		close(tried) // what follows nobody needs to wait for
		s.answered(ctx, Owed{Grant: gone}, err)
	})
	return tried
}

// Revoke revokes tokens that came for a grant which is over, and which the vault does not hold; whose they are need not be who the grant
// is of. That is owed like any other revocation, unless it cannot be stored: then there is one try.
func (s *Grants) Revoke(ctx context.Context, over string, whose Identity, tokens TokenSet) {
	ctx = context.WithoutCancel(ctx)
	owed := Owed{Grant: &Grant{ID: NewGrantID(s.now()), Identity: whose, Tokens: tokens}}
	s.log.InfoContext(ctx, "tokens came for a grant that is over; they are revoked", "grant", over, "as", owed.Grant.ID)
	if err := s.vault.Owe(ctx, owed.Grant, owedHold); err != nil {
		s.log.WarnContext(ctx, "an owed revocation could not be stored", "grant", owed.Grant.ID, "error", err)
		owed.For = OwedFor
	}
	s.answered(ctx, owed, tryRevoking(ctx, s.vault, s.providers, owed.Grant))
}

// Wait returns when no revocation runs any more, or ctx is done. Run has to have ended; what is owed then is for the next process.
func (s *Grants) Wait(ctx context.Context) error { return waitGroup(ctx, &s.revoking) }
