package postgres

import (
	"context"
	"fmt"
	"time"

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
	request.Loaded, request.Person, request.SeenAt = hash, f.person, vault.FromMicros(f.seen)
	if request.Passive {
		return f.data, true, nil
	}
	if f.grant != nil {
		s.db.grantOf.Add(hash, f.grant.ID)
		own := *f.grant
		request.Beside.Store(&session.Beside{What: &own, At: time.Now()})
	}
	if f.ago >= vault.TouchEvery(s.db.SessionIdle).Microseconds() {
		s.db.marks.Seen(hash, vault.Mark{GrantID: f.person.GrantID, At: s.db.Now()})
	}
	return f.data, true, nil
}

// CommitCtx implements scs.CtxStore as session.Store asks. To save a session that is gone meanwhile is no error and
// does nothing.
func (s sessions) CommitCtx(ctx context.Context, hash string, data []byte, expiry time.Time) error {
	request := session.FromContext(ctx)
	statement := `INSERT INTO sessions (token_hash, data, expires_at, created_at, seen_at, grant_id, provider, subject)
		VALUES ($1, $2, $3, keyturn_now(), greatest(keyturn_now(), $7), $4, $5, $6)`
	if request.Loaded == hash {
		statement = `UPDATE sessions SET data = $2, expires_at = $3, seen_at = greatest(seen_at, $7), grant_id = $4, provider = $5, subject = $6
			WHERE token_hash = $1`
	}
	p := request.Person
	seen := vault.SeenFrom(p.GrantID, expiry, s.db.SessionIdle)
	if _, err := s.db.exec(ctx, statement, hash, data, vault.Micros(expiry), p.GrantID, p.Provider, p.Subject, seen); err != nil {
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
