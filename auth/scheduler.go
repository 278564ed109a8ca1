package auth

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	lookEvery  = 250 * time.Millisecond // how often the Scheduler looks for due grants
	lookBatch  = 100                    // grants read at a time
	lookDoubts = 10                     // batches looked through for those whom a provider that rests lets through
	idleFor    = 5 * time.Second        // a grant for which nothing could be tried is left alone
	brokenFor  = time.Minute            // one that does not open, or is another issuer's, for longer
	storageLog = time.Minute            // between two complaints about the database
)

// Scheduler hands grants to the Rotator with nobody watching: first those whose renewal was struck by a crash, then those that are due,
// or, if OnDemand, only those whose provider may have taken the refresh token. It reads a bounded batch at a time, and each provider has
// a goroutine of its own, so that one that fails or hangs holds up no other.
type Scheduler struct {
	Vault     Vault
	Rotator   *Rotator
	Providers Providers
	OnDemand  bool // only what was struck, or is undecided
	Now       func() time.Time
	Log       *slog.Logger
}

// Run works until ctx is done. Renewals that it began go on: Rotator.Drain waits for them.
func (s *Scheduler) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, name := range s.Providers.Names() {
		all.Go(func() {
			t := &tender{Scheduler: s, provider: name, lane: s.Rotator.lane(name), begun: map[string]begun{}, unread: Complaint{Every: storageLog}}
			t.run(ctx)
		})
	}
	all.Wait()
}

// tender is the Scheduler at one provider.
type tender struct {
	*Scheduler
	provider string
	lane     *lane
	begun    map[string]begun // by grant: what runs, and what came to nothing lately
	struckAt time.Time        // when it last looked for grants that a crash struck
	unread   Complaint        // that nothing can be looked for in the database
}

func (t *tender) run(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		if err := t.look(ctx); err != nil && ctx.Err() == nil {
			t.unread.Make(func(int) {
				t.Log.ErrorContext(ctx, "cannot look for grants to renew; it is tried again", "provider", t.provider, "error", err)
			})
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// look renews what is to be renewed now; it returns when all of that has begun, or the provider rests.
func (t *tender) look(ctx context.Context) error {
	if ok, err := t.recover(ctx); !ok {
		return err
	}
	if t.OnDemand {
		t.beginAll(ctx, t.Rotator.undecided.due(t.provider, t.Now(), lookBatch), TriggerBackground)
		return nil
	}
	after := Candidate{}
	for batches := 1; ; batches++ {
		due, err := t.Vault.Due(ctx, t.provider, t.Now(), after, lookBatch)
		if err != nil || !t.beginAll(ctx, due, TriggerBackground) || len(due) < lookBatch {
			return err
		}
		if _, doubted := t.lane.doubted(); doubted && batches >= lookDoubts {
			return nil
		}
		after = due[len(due)-1]
	}
}

// recover renews what a crash has struck; ok is false when there will be no turns soon.
func (t *tender) recover(ctx context.Context) (ok bool, err error) {
	t.struckAt = time.Now()
	struck, err := t.Vault.Struck(ctx, t.provider, lookBatch)
	if err != nil {
		return false, err
	}
	return t.beginAll(ctx, struck, TriggerRecovery), nil
}

// beginAll begins a renewal for each, one after the other as there are turns; false when there will be none soon.
func (t *tender) beginAll(ctx context.Context, list []Candidate, trigger Trigger) bool {
	t.prune()
	// Each process in an order of its own: replicas that look at the same list would meet at each grant.
	list = slices.Clone(list)
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] }) //nolint:gosec // nothing secret depends on it
	for _, c := range list {
		// Where many are due this takes long, and what a crash strikes meanwhile cannot wait: reuse intervals are short.
		if trigger != TriggerRecovery && time.Since(t.struckAt) >= lookEvery {
			if ok, err := t.recover(ctx); !ok || err != nil {
				return false // the next look says why
			}
		}
		if _, is := t.begun[c.ID]; is {
			continue
		}
		leave, ok := t.turn(ctx, c.ID)
		if !ok && t.lane.waits(c.ID) {
			continue
		}
		if !ok {
			until, doubted := t.lane.doubted()
			if !doubted {
				return false
			}
			t.begun[c.ID] = begun{until: time.Now().Add(min(idleFor, time.Until(until)))} // this one can wait; another may not
			continue
		}
		f, joined := t.Rotator.join(ctx, c.ID, trigger, time.Now(), leave)
		if f == nil {
			return false
		}
		if !joined {
			t.begun[c.ID] = begun{flight: f}
		}
	}
	return true
}

// prune forgets what has ended, at once where it came to something.
func (t *tender) prune() {
	for id, b := range t.begun {
		if f := b.flight; f != nil {
			select {
			case <-f.done:
				b = begun{until: f.ended.Add(f.rest())}
				t.begun[id] = b // what it holds of the grant is not kept
			default:
				continue
			}
		}
		if time.Now().After(b.until) {
			delete(t.begun, id)
		}
	}
}

// begun is a renewal that the Scheduler has begun, or, once that has ended, how long its grant is left alone.
type begun struct {
	flight *flight
	until  time.Time
}

// rest is how long the Scheduler leaves a grant alone after a flight that has ended.
func (f *flight) rest() time.Duration {
	switch {
	case errors.Is(f.err, ErrUnreadable), f.result.Failure.Code == CodeProviderUnavailable:
		return brokenFor
	case f.idle, f.err != nil:
		return idleFor
	}
	return 0
}

// turn waits for a turn at the provider for a grant; false when it rests for that, others like it have all their places, or ctx is done.
func (t *tender) turn(ctx context.Context, id string) (leave func(), ok bool) {
	for ctx.Err() == nil {
		left := t.left(ctx, id)
		if leave, ok := t.lane.try(id, left); ok {
			return leave, true
		}
		if t.lane.rests(id, left) || t.lane.waits(id) {
			return nil, false
		}
		select {
		case <-t.lane.freed:
		case <-time.After(lookEvery):
		case <-ctx.Done():
		}
	}
	return nil, false
}

// left is how long a grant's access token lives, where that decides: while the provider rests, and lets some through. Elsewhere, and for a
// grant that cannot be read, it is as long as such a rest may be.
func (t *tender) left(ctx context.Context, id string) time.Duration {
	if _, doubted := t.lane.doubted(); doubted {
		if g, err := t.Vault.Get(ctx, id); err == nil {
			return g.Tokens.ExpiresAt.Sub(t.Now())
		}
	}
	return longestRest
}
