package auth

import (
	"context"
	"errors"
	"slices"
	"time"
)

const (
	storeInterval = 500 * time.Millisecond // at most, between two tries to empty the shelf: whoever comes before may present the old token again
	storeSaid     = 10 * time.Second       // at least, between two lines of the log that say that they fail
)

// shelved is what a renewal left and the database has not taken yet. It is served from memory meanwhile.
type shelved struct {
	Unstored
	spooled bool // it is on disk as well
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
		ctx, over := context.WithCancel(context.Background())
		defer over()
		r.running.Go(func() { r.holdShelf(ctx) })
		say := Complaint{Every: storeSaid}
		for delay := 50 * time.Millisecond; !r.emptyShelf(&say); delay = min(2*delay, storeInterval) {
			select {
			case <-time.After(delay):
			case <-r.quit.Done():
				time.Sleep(50 * time.Millisecond) // draining waits for this, with a bound of its own
			}
		}
	})
}

// holdShelf holds the leases of what is on the shelf until ctx is done, and takes those that a process before it had. Whoever got one would
// present a refresh token whose successor is there. A database may take that while it takes no renewals.
func (r *Rotator) holdShelf(ctx context.Context) {
	for wait := time.Duration(0); ; {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		from := make(map[string]int64, len(r.shelf))
		for id, s := range r.shelf {
			from[id] = s.Record.From()
		}
		r.mu.Unlock()
		wait = leaseExtend
		if held, err := r.Vault.Hold(ctx, from, r.owner, LeaseTTL); err != nil || held < len(from) {
			wait = leaseAgain
		}
	}
}

// emptyShelf stores what is on the shelf, and says whether there is nothing left to do: the shelf is empty, or the process
// ends and all of it is on disk.
func (r *Rotator) emptyShelf(say *Complaint) bool {
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
			say.Make(func(int) {
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
		return errors.Join(r.overtaken(short, u), r.Vault.Release(short, u.Grant.ID, r.owner))
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

// overtaken is what becomes of a renewal that does not follow the grant as it is: it is said to be lost, unless the database had taken it and
// could not say so before others came.
func (r *Rotator) overtaken(ctx context.Context, u Unstored) error {
	list, err := r.Vault.History(ctx, u.Grant.ID, 0, KeptRenewals)
	stored := slices.ContainsFunc(list, func(other Renewal) bool {
		return other.At.UnixMicro() == u.Record.At.UnixMicro() && other.NewRefresh == u.Record.NewRefresh
	})
	if err == nil && !stored {
		r.Log.WarnContext(ctx, "a renewal came too late to be stored", "grant", u.Grant.ID, "generation", u.Grant.Generation)
	}
	return err
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

// History is Vault.History, with what is on the shelf on top, unless the vault has that and could not say so.
func (r *Rotator) History(ctx context.Context, id string, before int64, limit int) ([]Renewal, error) {
	r.mu.Lock()
	s, ok := r.shelf[id]
	r.mu.Unlock()
	list, err := r.Vault.History(ctx, id, before, limit)
	if ok && before == 0 && err == nil && (len(list) == 0 || list[0].At.UnixMicro() != s.Record.At.UnixMicro()) {
		list = append([]Renewal{*s.Record}, list...)
		list = list[:min(limit, len(list))]
	}
	return list, err
}
