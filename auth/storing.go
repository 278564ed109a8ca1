package auth

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	storeWait  = 2 * time.Second // for the database to take what a renewal left, before that goes on the shelf
	settleWait = 300 * time.Millisecond
	spoolAfter = 250 * time.Millisecond // that the database takes for new tokens, they go into the spool besides
)

// errEnded says that the grant has Ended while its renewal ran.
var errEnded = errors.New("the grant has ended")

// store writes what a renewal left, the tokens first, then checks what came with them. What the database does not take
// goes on the shelf, and that is no error: ErrNotFound says that the grant is gone, and its new tokens revoked; ErrStale
// that somebody else's successor is there already, or the grant has Ended.
func (r *Rotator) store(ctx context.Context, g *Grant, record *Renewal) error {
	storing, stored := r.step(ctx, "store")
	done := r.spoolIfSlow(storing, g, record)
	err := r.replace(storing, g, record)
	stored(err)
	done(err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, errEnded) || errors.Is(err, ErrStale))
	switch {
	case errors.Is(err, ErrNotFound):
		r.tooLate(ctx, g, record)
		return err
	case errors.Is(err, errEnded):
		r.tooLate(ctx, g, record)
		return ErrStale
	case errors.Is(err, ErrStale):
		return err
	case err != nil:
		r.shelve(ctx, g, record, err)
		return nil
	}
	r.settleStored(ctx, g, record)
	return nil
}

// spoolIfSlow puts new tokens into the spool when the database has not taken them for a while: nobody but this process has them, and it
// may be killed. The result ends that; settled says that the database has answered, so that they are to leave the spool. Nobody waits
// for that: what makes a database slow may make the spool slow too.
func (r *Rotator) spoolIfSlow(ctx context.Context, g *Grant, record *Renewal) (done func(settled bool)) {
	if record.OldRefresh == record.NewRefresh && !record.Outcome.Succeeded() {
		return func(bool) {}
	}
	ownRecord := *record
	u, over, tried := Unstored{Grant: clone(g), Record: &ownRecord}, atomic.Bool{}, make(chan struct{})
	timer := time.AfterFunc(spoolAfter, func() {
		defer close(tried)
		if !over.Load() {
			r.spool(ctx, u)
		}
	})
	return func(settled bool) {
		switch {
		case timer.Stop():
		case !settled:
			<-tried
		default:
			over.Store(true)
			r.running.Go(func() { <-tried; r.unspool(ctx, u) })
		}
	}
}

// replace stores a renewal under our lease. If that ran out, because the process was paused or a clock was set, it is stored all the same
// while the lease is nobody else's, and new tokens unless somebody else has been quicker.
func (r *Rotator) replace(ctx context.Context, g *Grant, record *Renewal) error {
	short, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	err := r.Vault.Replace(short, r.owner, g, record)
	if errors.Is(err, ErrStale) && r.Vault.Extend(short, g.ID, r.owner, LeaseTTL) == nil {
		err = r.Vault.Replace(short, r.owner, g, record)
	}
	if !errors.Is(err, ErrStale) || record.OldToken == record.NewToken && record.OldRefresh == record.NewRefresh {
		return err
	}
	overtaken := func(now *Grant) bool { return now.Generation > record.From() }
	current, held, err := r.acquire(ctx, g.ID, overtaken, nil)
	switch {
	case errors.Is(err, ErrLeased):
		return fmt.Errorf("store a late answer: %w", err)
	case err != nil:
		return err
	case !held:
		return ErrStale
	case current.Generation != record.From():
		return errors.Join(ErrStale, r.Vault.Release(ctx, g.ID, r.owner))
	case current.Ended():
		return errors.Join(errEnded, r.Vault.Release(ctx, g.ID, r.owner))
	}
	return r.Vault.Replace(ctx, r.owner, g, record)
}

// tooLate revokes the tokens that arrive for a grant that is over: ending wins. Those of one that a new sign-in has replaced it leaves
// alone, as Grants.Forget does.
func (r *Rotator) tooLate(ctx context.Context, g *Grant, record *Renewal) {
	if record.OldRefresh == record.NewRefresh && !record.Outcome.Succeeded() {
		return
	}
	if !r.Grants.replaced(ctx, g.ID) {
		r.Grants.Revoke(ctx, g.ID, g.Identity, g.Tokens)
	}
}

// settleStored checks what came with stored tokens, if anything is left to check. That may need the provider, or a callback: whoever waits for
// the renewal waits for settleWait at most, for the tokens serve meanwhile.
func (r *Rotator) settleStored(ctx context.Context, g *Grant, record *Renewal) {
	provider, ok := r.Providers.Of(g.Identity)
	if !ok || !record.Outcome.Succeeded() || g.Pending == "" && r.Callbacks.Token == nil {
		return
	}
	own, ownRecord, done := clone(g), *record, make(chan struct{})
	if g.Pending == "" {
		r.mu.Lock()
		r.settling[g.ID] = done
		r.mu.Unlock()
	}
	r.running.Go(func() {
		settling, settled := r.step(ctx, "settle")
		err := r.settle(settling, provider, own, &ownRecord)
		settled(err)
		if err != nil {
			// The tokens are stored. A pending id token is looked at again by whoever next reads the grant.
			r.Log.ErrorContext(settling, "what came with a renewal is not settled yet", "grant", own.ID, "error", err)
		}
		r.mu.Lock()
		if r.settling[own.ID] == done {
			delete(r.settling, own.ID)
		}
		r.mu.Unlock()
		close(done)
		r.Events.Publish(own.ID)
	})
	select {
	case <-done:
		*g, *record = *own, ownRecord
	case <-time.After(settleWait):
	}
}

// awaitCallback waits for the Token callback of the grant's renewal before, so that what it keeps is there for the next: as long as it may take,
// but for half the time that somebody waits for this one.
func (r *Rotator) awaitCallback(id string) {
	r.mu.Lock()
	done := r.settling[id]
	r.mu.Unlock()
	if done != nil {
		select {
		case <-done:
		case <-time.After(min(callbackTime, r.RenewTimeout/2)):
		}
	}
}
