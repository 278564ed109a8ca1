package postgres

import (
	"context"
	"fmt"
	"sync"
	"time"

	"keyturn/auth"
	"keyturn/auth/session"
	"keyturn/auth/vault"
)

const (
	// searchSlow is how long a look for sessions may take before another begins beside it, and searches how many there are then at
	// the most. Whoever asks before that is in the next one, with everybody else who does: a busy process asks the database seldom,
	// and each answer is still from after its question.
	searchSlow = 20 * time.Millisecond
	searches   = 4
	// crowd is how many have to wait for a second search to begin at once: while one answers those whom it has found, PostgreSQL looks for
	// the next.
	crowd = 16
	// soughtTogether bounds how many sessions are looked for at a time.
	soughtTogether = 64
)

// selectSessions reads sessions and their grants. The clock is asked once, not for each row.
const selectSessions = `SELECT s.token_hash, s.data, s.grant_id, s.provider, s.subject, s.seen_at, (SELECT keyturn_now()) - s.seen_at, g.*
	FROM sessions s LEFT JOIN (SELECT ` + beforeSealed + `CASE WHEN revision = ($4::bigint[])[array_position($3::text[], id)] THEN NULL ELSE sealed END` +
	behindSealed + ` FROM grants) g ON g.id = s.grant_id
	WHERE s.token_hash = ANY($1) AND s.expires_at > (SELECT keyturn_now()) AND s.seen_at > (SELECT keyturn_now()) - $2`

// sessionColumns is how many columns of selectSessions are the session's. The next is the id of the grant: NULL when there is none.
const sessionColumns = 7

// finder gathers those who look for a session. It is safe for concurrent use.
type finder struct {
	mu      sync.Mutex
	waiting []*search // all but the last are full
	running int
	began   time.Time // the latest search, with a monotonic reading
}

// search is one way to the database, for everybody who asked before it began.
type search struct {
	hashes []string
	done   chan struct{}     // closed when the rest is set
	list   map[string]*found // nil where there is no such session
	err    error
}

// found is a session, and its grant unless that is gone or cannot be read. Several may have been given the same.
type found struct {
	data  []byte
	owner session.Owner
	seen  int64 // microseconds since 1970
	ago   int64 // microseconds by the database's clock
	grant *auth.Grant
}

// ask returns the search that will find the session, and the one that the caller is to run, if it is to: then it calls next when
// it has done so.
func (f *finder) ask(hash string) (mine, begins *search) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.waiting); n == 0 || len(f.waiting[n-1].hashes) == soughtTogether {
		f.waiting = append(f.waiting, &search{done: make(chan struct{})})
	}
	mine = f.waiting[len(f.waiting)-1]
	mine.hashes = append(mine.hashes, hash)
	slow := f.running < searches && time.Since(f.began) > searchSlow
	crowded := f.running < 2 && (len(mine.hashes) >= crowd || len(f.waiting) > 1)
	if f.running > 0 && !slow && !crowded {
		return mine, nil
	}
	f.running++
	return mine, f.take()
}

// next takes the next search. With none, the search of whoever calls has ended.
func (f *finder) next() *search {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waiting) == 0 {
		f.running--
		return nil
	}
	return f.take()
}

// take takes the search that waits longest; f.mu is held.
func (f *finder) take() *search {
	first := f.waiting[0]
	f.waiting = f.waiting[1:]
	f.began = time.Now()
	return first
}

// find looks for a session; nil when there is none.
func (db *DB) find(ctx context.Context, hash string) (*found, error) {
	mine, begins := db.finder.ask(hash)
	if begins != nil {
		db.run(begins)
		db.runOthers()
	}
	select {
	case <-mine.done: // also when the caller has gone: that is no failure of ours
		return mine.list[hash], mine.err
	default:
	}
	patience := time.NewTimer(queueWait + statementWait)
	defer patience.Stop()
	select {
	case <-mine.done:
		return mine.list[hash], mine.err
	case <-patience.C:
		return nil, fmt.Errorf("wait for a look: %w", context.DeadlineExceeded)
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a look: %w", ctx.Err())
	}
}

// runOthers runs the searches of those who asked meanwhile. Whoever calls waits for none of them; Close does.
func (db *DB) runOthers() {
	if more := db.finder.next(); more != nil {
		db.searching.Go(func() {
			for ; more != nil; more = db.finder.next() {
				db.run(more)
			}
		})
	}
}

// run runs a search, and answers it. It is for others too, so that it does not end with who runs it.
func (db *DB) run(s *search) {
	s.err = db.queued(db.open, func(ctx context.Context) error {
		return db.bounded(ctx, func(ctx context.Context) (err error) {
			s.list, err = db.lookFor(ctx, s.hashes)
			return err
		})
	})
	close(s.done)
}

// lookFor reads sessions and their grants, on one way to the database. The same may be sought twice.
func (db *DB) lookFor(ctx context.Context, sought []string) (map[string]*found, error) {
	list := make(map[string]*found, len(sought))
	known := make(map[string]*auth.Grant, len(sought))
	hashes, ids, revisions := make([]string, 0, len(sought)), make([]string, 0, len(sought)), make([]int64, 0, len(sought))
	for _, hash := range sought {
		if _, twice := list[hash]; twice {
			continue
		}
		list[hash] = nil
		hashes = append(hashes, hash)
		if g := db.knownOf(hash); g.ID != "" {
			known[g.ID] = g
			ids, revisions = append(ids, g.ID), append(revisions, g.Revision)
		}
	}
	rows, err := db.pool.Query(ctx, selectSessions, hashes, vault.IdleMicros(db.SessionIdle), ids, revisions)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var hash string
		var f found
		row := besideSession{rows, []any{&hash, &f.data, &f.owner.GrantID, &f.owner.Provider, &f.owner.Subject, &f.seen, &f.ago}}
		if id := rows.RawValues()[sessionColumns]; id == nil {
			err = row.Scan(make([]any, len(rows.RawValues())-sessionColumns)...) // into nowhere
		} else if f.grant, err = db.scan(row, known[string(id)]); err != nil {
			f.grant, err = nil, rows.Err() // one that does not open is read again by whoever needs it, and the reason is theirs
		}
		if err != nil {
			return nil, err
		}
		list[hash] = &f
	}
	return list, rows.Err()
}

// besideSession is a row of selectSessions, of which the session goes to where it says.
type besideSession struct {
	row     vault.Row
	session []any
}

// Scan implements vault.Row for the grant.
func (b besideSession) Scan(grant ...any) error { return b.row.Scan(append(b.session, grant...)...) }

// knownOf is the session's grant as it was read last; an empty one if it is not remembered.
func (db *DB) knownOf(hash string) *auth.Grant {
	id, _ := db.grantOf.Get(hash)
	return db.opened.Known(id)
}

// besideFor is how long a grant that was read beside its session stands for one that is read now.
const besideFor = 20 * time.Millisecond

// takeBeside returns the grant that was read beside the request's session, once and at once; else nil.
func takeBeside(ctx context.Context, id string) *auth.Grant {
	beside := session.FromContext(ctx).Beside.Swap(nil)
	if beside == nil || time.Since(beside.At) > besideFor {
		return nil
	}
	if g, ok := beside.What.(*auth.Grant); ok && g.ID == id {
		return g
	}
	return nil
}
