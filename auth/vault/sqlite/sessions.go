package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"keyturn/auth/session"
	"keyturn/auth/vault"
)

const selectSession = `SELECT data, grant_id, provider, subject, seen_at FROM sessions
	WHERE token_hash = ? AND expires_at > ? AND seen_at > ?`

// sessions is the session store in the same file.
type sessions struct{ db *DB }

// Sessions returns the session store.
func (db *DB) Sessions() session.Store { return session.Complete(sessions{db}) }

// FindCtx implements scs.CtxStore. It does not write: a last-seen mark that has grown old is left for the keeper.
func (s sessions) FindCtx(ctx context.Context, hash string) ([]byte, bool, error) {
	now := s.db.Now()
	var data []byte
	var p session.Person
	var seen int64
	err := s.db.find.QueryRowContext(ctx, hash, vault.Micros(now), s.db.seenSince(now)).Scan(&data, &p.GrantID, &p.Provider, &p.Subject, &seen)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read session: %w", err)
	}
	request := session.FromContext(ctx)
	request.Loaded, request.Person, request.SeenAt = hash, p, vault.FromMicros(seen)
	if !request.Passive && now.Sub(request.SeenAt) >= vault.TouchEvery {
		s.db.marks.Seen(hash, now)
	}
	return data, true, nil
}

// seenSince is when a session must have been seen last, at the least, to live at now.
func (db *DB) seenSince(now time.Time) int64 {
	return vault.Micros(now) - vault.IdleMicros(db.SessionIdle)
}

// CommitCtx implements scs.CtxStore as session.Store asks. To save a session that is gone meanwhile is no error and
// does nothing.
func (s sessions) CommitCtx(ctx context.Context, hash string, data []byte, expiry time.Time) error {
	request := session.FromContext(ctx)
	p, now := request.Person, vault.Micros(s.db.Now())
	err := s.db.inTx(ctx, func(tx *writer) (err error) {
		if request.Loaded == hash {
			_, err = tx.Exec(`UPDATE sessions SET data = ?, expires_at = ?, grant_id = ?, provider = ?, subject = ?
				WHERE token_hash = ?`, data, vault.Micros(expiry), p.GrantID, p.Provider, p.Subject, hash)
			return err
		}
		_, err = tx.Exec(`INSERT INTO sessions
			(token_hash, data, expires_at, created_at, seen_at, grant_id, provider, subject) VALUES (?,?,?,?,?,?,?,?)`,
			hash, data, vault.Micros(expiry), now, now, p.GrantID, p.Provider, p.Subject)
		return err
	})
	if err != nil {
		return fmt.Errorf("save session: %w", err)
	}
	request.Loaded = hash
	return nil
}

// DeleteCtx implements scs.CtxStore.
func (s sessions) DeleteCtx(ctx context.Context, hash string) error {
	err := s.db.inTx(ctx, func(tx *writer) error {
		_, err := tx.Exec(`DELETE FROM sessions WHERE token_hash = ?`, hash)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete session: %w", err)
	}
	return nil
}
