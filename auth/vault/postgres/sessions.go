package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"keyturn/auth/session"
	"keyturn/auth/vault"
)

const selectSession = `SELECT data, grant_id, provider, subject, seen_at, keyturn_now() - seen_at FROM sessions
	WHERE token_hash = $1 AND expires_at > keyturn_now() AND seen_at > keyturn_now() - $2`

// sessions is the session store in the same database.
type sessions struct{ db *DB }

// Sessions returns the session store.
func (db *DB) Sessions() session.Store { return session.Complete(sessions{db}) }

// FindCtx implements scs.CtxStore. It does not write: a last-seen mark that has grown old is left for the upkeep.
func (s sessions) FindCtx(ctx context.Context, hash string) ([]byte, bool, error) {
	var data []byte
	var p session.Person
	var seen, ago int64
	err := s.db.queued(ctx, func(ctx context.Context) error {
		return s.db.one(ctx, into(&data, &p.GrantID, &p.Provider, &p.Subject, &seen, &ago), selectSession,
			hash, vault.IdleMicros(s.db.SessionIdle))
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read session: %w", err)
	}
	request := session.FromContext(ctx)
	request.Loaded, request.Person, request.SeenAt = hash, p, vault.FromMicros(seen)
	if !request.Passive && ago >= vault.TouchEvery.Microseconds() {
		s.db.marks.Seen(hash, vault.Mark{GrantID: p.GrantID, At: s.db.Now()})
	}
	return data, true, nil
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
