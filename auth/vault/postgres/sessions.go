package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"keyturn/auth/session"
	"keyturn/auth/vault"
)

// sessions is the session store in the same database.
type sessions struct{ db *DB }

// Sessions returns the session store.
func (db *DB) Sessions() session.Store { return session.Complete(sessions{db}) }

// FindCtx implements scs.CtxStore. It does not write: a last-seen mark that has grown old is left for the upkeep. The session's
// grant, which is looked at next, comes on the same way.
func (s sessions) FindCtx(ctx context.Context, hash string) ([]byte, bool, error) {
	f, err := s.db.find(ctx, hash)
	if err != nil {
		return nil, false, fmt.Errorf("read session: %w", err)
	}
	if f == nil {
		return nil, false, nil
	}
	request := session.FromContext(ctx)
	request.Loaded, request.Read, request.Owner, request.SeenAt = hash, f.data, f.owner, vault.FromMicros(f.seen)
	request.IdlesAt = vault.IdlesAt(request.SeenAt, s.db.SessionIdle)
	if request.Passive {
		return f.data, true, nil
	}
	if f.grant != nil {
		s.db.grantOf.Add(hash, f.grant.ID)
		own := *f.grant
		request.Beside.Store(&session.Beside{What: &own, At: time.Now()})
	}
	if f.ago >= vault.TouchEvery(s.db.SessionIdle).Microseconds() {
		s.db.marks.Seen(hash, vault.Mark{}) // whose it is and what time it is the database knows
	}
	return f.data, true, nil
}

// CommitCtx implements scs.CtxStore as session.Store asks. To save a session that is gone meanwhile is no error and
// does nothing.
func (s sessions) CommitCtx(ctx context.Context, hash string, data []byte, expiry time.Time) (err error) {
	request := session.FromContext(ctx)
	switch {
	case request.Former != "":
		err = s.change(ctx, request, request.Former, `WITH former AS (DELETE FROM sessions WHERE token_hash = $8 AND data = $9 RETURNING 1)
			INSERT INTO sessions (token_hash, data, expires_at, created_at, seen_at, grant_id, provider, subject)
			SELECT $1, $2, $3, keyturn_now(), greatest(keyturn_now(), $7), $4, $5, $6 FROM former`, hash, data, expiry)
	case request.Loaded == hash:
		err = s.change(ctx, request, hash, `UPDATE sessions SET data = $2, expires_at = $3, seen_at = greatest(seen_at, $7), grant_id = $4,
			provider = $5, subject = $6 WHERE token_hash = $1 AND token_hash = $8 AND data = $9`, hash, data, expiry)
	default:
		_, err = s.db.exec(ctx, `INSERT INTO sessions (token_hash, data, expires_at, created_at, seen_at, grant_id, provider, subject)
			VALUES ($1, $2, $3, keyturn_now(), greatest(keyturn_now(), $7), $4, $5, $6)`, s.columns(request, hash, data, expiry)...)
		request.Read = data
	}
	if err != nil {
		return fmt.Errorf("save session: %w", err)
	}
	request.Loaded, request.Former = hash, ""
	return nil
}

// columns are what a request leaves of a session, as the statements of CommitCtx take it.
func (s sessions) columns(request *session.Request, hash string, data []byte, expiry time.Time) []any {
	p := request.Owner
	return []any{hash, data, vault.Micros(expiry), p.GrantID, p.Provider, p.Subject, vault.SeenFrom(p.GrantID, expiry, s.db.SessionIdle)}
}

// change runs a statement that stores what the request leaves of the session that is there under a token, unless another has changed that
// since it was looked at: then once more.
func (s sessions) change(ctx context.Context, request *session.Request, there, statement, hash string, left []byte, ends time.Time) error {
	for stored := request.Read; ; {
		data, expiry, err := session.Merge(request.Read, left, stored, ends)
		if err != nil {
			return err
		}
		n, err := s.db.exec(ctx, statement, append(s.columns(request, hash, data, expiry), there, stored)...)
		if err != nil || n == 1 {
			request.Read = left
			return err
		}
		err = s.db.one(ctx, into(&stored), `SELECT data FROM sessions WHERE token_hash = $1`, there)
		if errors.Is(err, pgx.ErrNoRows) {
			request.Gone = true
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// DeleteCtx implements scs.CtxStore.
func (s sessions) DeleteCtx(ctx context.Context, hash string) error {
	n, err := s.db.exec(ctx, `DELETE FROM sessions WHERE token_hash = $1`, hash)
	if err != nil {
		return fmt.Errorf("delete session: %w", err)
	}
	if request := session.FromContext(ctx); request.Loaded == hash {
		request.Deleted = n > 0
	}
	return nil
}
