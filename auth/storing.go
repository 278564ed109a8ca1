package auth

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	storeWait     = 2 * time.Second        // for the database to take what a renewal left, before that goes on the shelf
	storeInterval = 500 * time.Millisecond // at most, between two tries to empty the shelf: whoever comes before may present the old token again
	storeSaid     = 10 * time.Second       // at least, between two lines of the log that say that they fail
	settleWait    = 300 * time.Millisecond
	spoolAfter    = 250 * time.Millisecond // that the database takes for new tokens, they go into the spool besides
)

// shelved is what a renewal left and the database has not taken yet. It is served from memory meanwhile.
type shelved struct {
	Unstored
	spooled bool // it is on disk as well
}

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
	current, held, err := r.acquire(ctx, g.ID, overtaken, true, nil)
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
		r.Grants.Revoke(ctx, g, g.Tokens)
	}
}

// settleStored checks what came with stored tokens. That may need the provider, or a callback: whoever waits for the renewal waits for
// settleWait at most, for the tokens serve meanwhile.
func (r *Rotator) settleStored(ctx context.Context, g *Grant, record *Renewal) {
	provider, ok := r.Providers.Of(g.Identity)
	if !ok || !record.Outcome.Succeeded() {
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

// settled waits for the Token callback of the grant's renewal before, so that what it keeps is there for the next: as long as it may take,
// but for half the time that somebody waits for this one.
func (r *Rotator) settled(id string) {
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

// shelve keeps a renewal in memory and in the spool until the database takes it, which it has not done because of why.
func (r *Rotator) shelve(ctx context.Context, g *Grant, record *Renewal, why error) {
	r.unstored.Make(func(times int) {
		r.Log.ErrorContext(ctx, "renewal cannot be stored yet", "grant", g.ID, "generation", g.Generation, "renewals", times, "error", why)
	})
	if record.Warning == "" && record.Outcome.Succeeded() {
		record.Warning = CodeStoredLate
	}
	s := shelved{Unstored: Unstored{Grant: clone(g), Record: record}}
	s.spooled = r.spool(ctx, s.Unstored)
	r.Counters.shelved.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shelf[g.ID] = s
	r.startStoring()
}

func clone(g *Grant) *Grant { c := *g; return &c }

func (r *Rotator) spool(ctx context.Context, u Unstored) bool {
	err := r.Spool.Put(u)
	if err != nil {
		r.unspooled.Make(func(times int) {
			r.Log.ErrorContext(ctx, "renewal is neither stored nor spooled: it lives in memory only",
				"grant", u.Grant.ID, "tries", times, "error", err)
		})
	}
	return err == nil
}

// restore takes up what an earlier process left in the spool.
func (r *Rotator) restore() {
	left, err := r.Spool.All()
	if err != nil {
		r.Log.Error("part of the spool cannot be read; it is left where it is", "error", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range left {
		r.shelf[u.Grant.ID] = shelved{Unstored: u, spooled: true}
	}
	if len(left) > 0 {
		r.Log.Info("found renewals that are not stored yet", "count", len(left))
		r.startStoring()
	}
}

// startStoring sees to it that the shelf empties; r.mu is held.
func (r *Rotator) startStoring() {
	if r.storing {
		return
	}
	r.storing = true
	r.running.Go(func() {
		say := rate.Sometimes{Interval: storeSaid}
		for delay := 50 * time.Millisecond; !r.emptyShelf(&say); delay = min(2*delay, storeInterval) {
			select {
			case <-time.After(delay):
			case <-r.quit.Done():
				time.Sleep(50 * time.Millisecond) // draining waits for this, with a bound of its own
			}
		}
	})
}

// emptyShelf stores what is on the shelf, and says whether there is nothing left to do: the shelf is empty, or the process
// ends and all of it is on disk.
func (r *Rotator) emptyShelf(say *rate.Sometimes) bool {
	ctx := context.Background()
	r.mu.Lock()
	var list []shelved
	for _, s := range r.shelf {
		list = append(list, s)
	}
	r.mu.Unlock()
	for _, s := range list {
		err := r.storeLate(ctx, s.Unstored)
		if err == nil {
			r.unshelve(ctx, s)
			continue
		}
		if !s.spooled {
			s.spooled = r.spool(ctx, s.Unstored)
			r.mu.Lock()
			r.shelf[s.Grant.ID] = s
			r.mu.Unlock()
		}
		if !errors.Is(err, ErrLeased) {
			say.Do(func() {
				r.Log.WarnContext(ctx, "the database does not take renewals yet", "waiting", len(list), "error", err)
			})
			break
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	done := true
	for _, s := range r.shelf {
		done = done && s.spooled && r.draining
	}
	r.storing = !done
	return done
}

// storeLate stores one renewal from the shelf; nil when that is done with, also because it is too late for it. ErrLeased
// says that another process has the grant now.
func (r *Rotator) storeLate(ctx context.Context, u Unstored) error {
	record := *u.Record
	u.Grant, u.Record = clone(u.Grant), &record // whoever reads from the shelf meanwhile sees what it was
	short, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	current, err := r.Vault.Lease(short, u.Grant.ID, r.owner, LeaseTTL)
	switch {
	case errors.Is(err, ErrNotFound):
		r.tooLate(ctx, u.Grant, u.Record)
		return nil
	case err != nil:
		return err
	case u.is(current):
		if u, err = r.asStored(short, current); err != nil {
			return err
		}
	case current.Ended():
		r.tooLate(ctx, u.Grant, u.Record)
		return r.Vault.Release(short, u.Grant.ID, r.owner)
	case !u.follows(current):
		r.Log.WarnContext(ctx, "a renewal came too late to be stored", "grant", u.Grant.ID, "generation", u.Grant.Generation)
		return r.Vault.Release(short, u.Grant.ID, r.owner)
	default:
		if err := r.Vault.Replace(short, r.owner, u.Grant, u.Record); err != nil {
			return err
		}
	}
	r.Log.InfoContext(ctx, "renewal stored at last", "grant", u.Grant.ID, "generation", u.Grant.Generation)
	r.settleStored(ctx, u.Grant, u.Record)
	r.Events.Publish(u.Grant.ID)
	return nil
}

// asStored is a renewal that the database took although its answer was lost, as it is stored. Its lease, which has been taken anew, ends.
func (r *Rotator) asStored(ctx context.Context, g *Grant) (Unstored, error) {
	latest, err := r.Vault.History(ctx, g.ID, 0, 1)
	if err == nil && len(latest) == 0 {
		err = ErrNotFound // it ends just now
	}
	if err = errors.Join(err, r.Vault.Release(ctx, g.ID, r.owner)); err != nil {
		return Unstored{}, err
	}
	g.LeasedUntil = time.Time{}
	return Unstored{Grant: g, Record: &latest[0]}, nil
}

func (r *Rotator) unshelve(ctx context.Context, s shelved) {
	r.unspool(ctx, s.Unstored)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.shelf, s.Grant.ID)
}

func (r *Rotator) unspool(ctx context.Context, u Unstored) {
	if err := r.Spool.Remove(u); err != nil {
		r.Log.WarnContext(ctx, "a stored renewal stays in the spool", "grant", u.Grant.ID, "error", err)
	}
}

// follows says that it is what a renewal made of the grant as it is: nothing has been renewed, nor has a refresh token come, since.
func (u Unstored) follows(g *Grant) bool {
	return u.Record.From() == g.Generation && u.Record.OldRefresh == g.Tokens.Refresh.Fingerprint()
}

// is says that the grant is what it left, and nothing has been tried since.
func (u Unstored) is(g *Grant) bool {
	return !g.triedSince(u.Grant) && g.Tokens.Access == u.Grant.Tokens.Access && g.Tokens.Refresh == u.Grant.Tokens.Refresh
}

// Unstored is how many renewals the database has not taken yet.
func (r *Rotator) Unstored() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.shelf)
}

func (r *Rotator) onShelf(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.shelf[id]
	return ok
}

// read is Vault.Get, and what is on the shelf instead of the generation that it follows.
func (r *Rotator) read(ctx context.Context, id string) (*Grant, error) {
	r.mu.Lock()
	s, ok := r.shelf[id]
	r.mu.Unlock()
	g, err := r.Vault.Get(ctx, id)
	if !ok || errors.Is(err, ErrNotFound) || err == nil && g.Generation != s.Record.From() {
		return g, err
	}
	return clone(s.Grant), nil
}

// History is Vault.History, with what is on the shelf on top.
func (r *Rotator) History(ctx context.Context, id string, before int64, limit int) ([]Renewal, error) {
	r.mu.Lock()
	s, ok := r.shelf[id]
	r.mu.Unlock()
	list, err := r.Vault.History(ctx, id, before, limit)
	if ok && before == 0 && err == nil {
		list = append([]Renewal{*s.Record}, list...)
		list = list[:min(limit, len(list))]
	}
	return list, err
}
