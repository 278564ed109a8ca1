package postgres

import (
	"context"

	"keyturn/auth"
	"keyturn/auth/vault"
)

// selectLive reads live sessions in which somebody is signed in, and what their grants say; $1 is the idle limit.
const selectLive = `SELECT g.id, g.session_hash, g.provider, g.subject, g.generation, g.created_at, s.seen_at, g.user_agent, g.ip
	FROM sessions s JOIN grants g ON g.id = s.grant_id
	WHERE s.grant_id <> '' AND g.state <> 'ended' AND s.expires_at > keyturn_now() AND s.seen_at > keyturn_now() - $1`

// Person implements auth.Vault.
func (db *DB) Person(ctx context.Context, provider, subject string) ([]*auth.Grant, error) {
	return many(ctx, db, vault.ScanSessions, selectLive+` AND s.provider = $2 AND s.subject = $3 ORDER BY s.seen_at DESC LIMIT $4`,
		vault.IdleMicros(db.SessionIdle), provider, subject, auth.ListedSessions)
}

// Live lists the grants of a person's live sessions by ID: those that follow after, which is empty for the first, at most limit. They are
// filled as Person's.
func (db *DB) Live(ctx context.Context, whose auth.Person, after string, limit int) ([]*auth.Grant, error) {
	person, args := ``, []any{vault.IdleMicros(db.SessionIdle), after, limit}
	if whose != (auth.Person{}) {
		person, args = ` AND s.provider = $4 AND s.subject = $5`, append(args, whose.Provider, whose.Subject)
	}
	return many(ctx, db, vault.ScanSessions, selectLive+` AND s.grant_id > $2`+person+` ORDER BY s.grant_id LIMIT $3`, args...)
}

// All implements auth.Vault.
func (db *DB) All(ctx context.Context, whose auth.Person, after string, limit int) ([]*auth.Grant, error) {
	person, args := ``, []any{after, limit}
	if whose != (auth.Person{}) {
		person, args = ` AND provider = $3 AND subject = $4`, append(args, whose.Provider, whose.Subject)
	}
	return many(ctx, db, vault.ScanSessions, `SELECT id, session_hash, provider, subject, generation, created_at, seen_at, user_agent, ip
		FROM grants WHERE id > $1`+person+` ORDER BY id LIMIT $2`, args...)
}

// Beyond implements auth.Vault. Most people have few grants, and those are only counted, in the index.
func (db *DB) Beyond(ctx context.Context, provider, subject string, keep, limit int) ([]*auth.Grant, error) {
	n, err := db.count(ctx, `SELECT count(*) FROM grants WHERE provider = $1 AND subject = $2`, provider, subject)
	if err != nil || n <= int64(keep) {
		return nil, err
	}
	return many(ctx, db, vault.ScanConcerned, `SELECT id, session_hash FROM grants WHERE provider = $1 AND subject = $2
		ORDER BY created_at DESC, id LIMIT $3 OFFSET $4`, provider, subject, limit, keep)
}

// SessionValues lists the data of sessions that hold any values: a sign-in under way, for one.
func (db *DB) SessionValues(ctx context.Context) ([][]byte, error) {
	return many(ctx, db, vault.ScanData, `SELECT data FROM sessions WHERE position('\x7b'::bytea IN data) > 0`)
}
