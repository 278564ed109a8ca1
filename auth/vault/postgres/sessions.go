package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"keyturn/auth"
	"keyturn/auth/session"
	"keyturn/auth/vault"
)

const selectSession = `SELECT data, grant_id, provider, subject, seen_at, keyturn_now() - seen_at FROM sessions
	WHERE token_hash = $1 AND expires_at > keyturn_now() AND seen_at > keyturn_now() - $2`

const selectGrantOf = `SELECT ` + grantColumnsSince + ` FROM grants
	WHERE id = (SELECT grant_id FROM sessions WHERE token_hash = $1 AND grant_id <> '')`

// sessions is the session store in the same database.
type sessions struct{ db *DB }

// Sessions returns the session store.
func (db *DB) Sessions() session.Store { return session.Complete(sessions{db}) }

// FindCtx implements scs.CtxStore. It does not write: a last-seen mark that has grown old is left for the upkeep. The session's
// grant, which is looked at next, comes on the same way.
func (s sessions) FindCtx(ctx context.Context, hash string) ([]byte, bool, error) {
	var data []byte
	var p session.Person
	var seen, ago int64
	var grant *auth.Grant
	request := session.FromContext(ctx)
	known := s.db.knownOf(hash)
	err := s.db.queued(ctx, func(ctx context.Context) error {
		return s.db.use(ctx, func(ctx context.Context) error {
			var batch pgx.Batch
			batch.Queue(selectSession, hash, vault.IdleMicros(s.db.SessionIdle))
			if !request.Passive {
				batch.Queue(selectGrantOf, hash, known.ID, known.Revision)
			}
			answers := s.db.pool.SendBatch(ctx, &batch)
			err := answers.QueryRow().Scan(&data, &p.GrantID, &p.Provider, &p.Subject, &seen, &ago)
			if err == nil && !request.Passive && p.GrantID != "" {
				// One that cannot be read is read again by whoever needs it, and the reason is theirs.
				grant, _ = s.db.scan(answers.QueryRow(), known)
			}
			return errors.Join(err, answers.Close())
		})
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read session: %w", err)
	}
	request.Loaded, request.Person, request.SeenAt = hash, p, vault.FromMicros(seen)
	if grant != nil {
		s.db.grantOf.Add(hash, grant.ID)
		request.Beside.Store(&session.Beside{What: grant, At: time.Now()})
	}
	if !request.Passive && ago >= vault.TouchEvery.Microseconds() {
		s.db.marks.Seen(hash, vault.Mark{GrantID: p.GrantID, At: s.db.Now()})
	}
	return data, true, nil
}

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

// CommitCtx implements scs.CtxStore as session.Store asks. To save a session that is gone meanwhile is no error and
// does nothing.
func (s sessions) CommitCtx(ctx context.Context, hash string, data []byte, expiry time.Time) error {
	request := session.FromContext(ctx)
	statement := `INSERT INTO sessions (token_hash, data, expires_at, created_at, seen_at, grant_id, provider, subject)
		VALUES ($1, $2, $3, keyturn_now(), keyturn_now(), $4, $5, $6)`
	if request.Loaded == hash {
		statement = `UPDATE sessions SET data = $2, expires_at = $3, grant_id = $4, provider = $5, subject = $6 WHERE token_hash = $1`
	}
	p := request.Person
	if _, err := s.db.exec(ctx, statement, hash, data, vault.Micros(expiry), p.GrantID, p.Provider, p.Subject); err != nil {
		return fmt.Errorf("save session: %w", err)
	}
	request.Loaded = hash
	return nil
}

// DeleteCtx implements scs.CtxStore.
func (s sessions) DeleteCtx(ctx context.Context, hash string) error {
	if _, err := s.db.exec(ctx, `DELETE FROM sessions WHERE token_hash = $1`, hash); err != nil {
		return fmt.Errorf("delete session: %w", err)
	}
	return nil
}
