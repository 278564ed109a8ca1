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

const selectSession = `SELECT data, grant_id, provider, subject, expires_at, seen_at FROM sessions WHERE token_hash = ?`

// sessions is the session store in the same file.
type sessions struct{ db *DB }

// Sessions returns the session store.
func (db *DB) Sessions() session.Store { return session.Complete(sessions{db}) }

// FindCtx implements scs.CtxStore. It does not write: a last-seen mark that has grown old is left for the upkeep.
func (s sessions) FindCtx(ctx context.Context, hash string) ([]byte, bool, error) {
	found, err := s.stored(ctx, hash)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read session: %w", err)
	}
	now := s.db.Now()
	if found.expires <= vault.Micros(now) || found.seenAt <= s.db.seenSince(now) {
		return nil, false, nil
	}
	request := session.FromContext(ctx)
	request.Loaded, request.Read, request.Owner, request.SeenAt = hash, found.data, found.owner, vault.FromMicros(found.seenAt)
	request.IdlesAt = vault.IdlesAt(request.SeenAt, s.db.SessionIdle)
	if !request.Passive && now.Sub(request.SeenAt) >= vault.TouchEvery(s.db.SessionIdle) {
		s.db.marks.Seen(hash, vault.Mark{GrantID: found.owner.GrantID, At: now})
	}
	return found.data, true, nil
}

// stored reads a session, whether or not it lives; sql.ErrNoRows when there is none.
func (s sessions) stored(ctx context.Context, hash string) (*storedSession, error) {
	found, ok, ticket := s.db.cache.get(key{session: hash})
	if ok {
		return found.session, nil
	}
	read := &storedSession{}
	err := s.db.find.QueryRowContext(ctx, hash).Scan(&read.data, &read.owner.GrantID, &read.owner.Provider, &read.owner.Subject,
		&read.expires, &read.seenAt)
	if err != nil {
		return nil, err
	}
	s.db.cache.put(key{session: hash}, ticket, row{session: read})
	return read, nil
}

// seenSince is when a session must have been seen last, at the least, to live at now.
func (db *DB) seenSince(now time.Time) int64 {
	return vault.Micros(now) - vault.IdleMicros(db.SessionIdle)
}

// CommitCtx implements scs.CtxStore as session.Store asks. To save a session that is gone meanwhile is no error and
// does nothing.
func (s sessions) CommitCtx(ctx context.Context, hash string, data []byte, expiry time.Time) error {
	request := session.FromContext(ctx)
	p, now, left := request.Owner, vault.Micros(s.db.Now()), data
	err := s.db.inTx(ctx, func(tx *writer) (err error) {
		var stored []byte
		switch {
		case request.Former != "":
			err = tx.QueryRow(`DELETE FROM sessions WHERE token_hash = ? RETURNING data`, request.Former).Scan(&stored)
		case request.Loaded == hash:
			err = tx.QueryRow(`SELECT data FROM sessions WHERE token_hash = ?`, hash).Scan(&stored)
		}
		if request.Gone = errors.Is(err, sql.ErrNoRows); request.Gone {
			return nil
		}
		if err == nil && stored != nil {
			data, expiry, err = session.Merge(request.Read, data, stored, expiry)
		}
		if err != nil {
			return err
		}
		seen := vault.SeenFrom(p.GrantID, expiry, s.db.SessionIdle)
		if request.Loaded == hash {
			_, err = tx.Exec(`UPDATE sessions SET data = ?, expires_at = ?, seen_at = max(seen_at, ?), grant_id = ?, provider = ?, subject = ?
				WHERE token_hash = ?`, data, vault.Micros(expiry), seen, p.GrantID, p.Provider, p.Subject, hash)
			return err
		}
		_, err = tx.Exec(`INSERT INTO sessions
			(token_hash, data, expires_at, created_at, seen_at, grant_id, provider, subject) VALUES (?,?,?,?,?,?,?,?)`,
			hash, data, vault.Micros(expiry), now, max(now, seen), p.GrantID, p.Provider, p.Subject)
		return err
	}, key{session: hash}, key{session: request.Former})
	if err != nil {
		return fmt.Errorf("save session: %w", err)
	}
	request.Loaded, request.Former, request.Read = hash, "", left
	return nil
}

// DeleteCtx implements scs.CtxStore.
func (s sessions) DeleteCtx(ctx context.Context, hash string) error {
	var n int64
	err := s.db.inTx(ctx, func(tx *writer) (err error) {
		n, err = affected(tx.Exec(`DELETE FROM sessions WHERE token_hash = ?`, hash))
		return err
	}, key{session: hash})
	if err != nil {
		return fmt.Errorf("delete session: %w", err)
	}
	if request := session.FromContext(ctx); request.Loaded == hash {
		request.Deleted = n > 0
	}
	return nil
}
