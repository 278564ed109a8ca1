package sqlite

import (
	"context"

	"keyturn/auth"
	"keyturn/auth/vault"
)

const (
	// selectLive reads live sessions in which somebody is signed in, by an index of them, and what their grants say.
	selectLive = `SELECT g.id, g.session_hash, g.provider, g.subject, g.generation, g.created_at, s.seen_at, g.user_agent, g.ip
		FROM sessions s INDEXED BY `
	isLive   = ` JOIN grants g ON g.id = s.grant_id WHERE s.grant_id <> '' AND g.state <> 'ended' AND s.expires_at > ? AND s.seen_at > ?`
	ofPerson = ` AND s.provider = ? AND s.subject = ?`
)

// Person implements auth.Vault.
func (db *DB) Person(ctx context.Context, provider, subject string) ([]*auth.Grant, error) {
	now := db.Now()
	return many(ctx, db, vault.ScanSessions, selectLive+`sessions_person`+isLive+ofPerson+` ORDER BY s.seen_at DESC LIMIT ?`,
		vault.Micros(now), db.seenSince(now), provider, subject, auth.ListedSessions)
}

// Live lists the grants of a person's live sessions by ID: those that follow after, which is empty for the first, at most limit. They are
// filled as Person's.
func (db *DB) Live(ctx context.Context, whose auth.Person, after string, limit int) ([]*auth.Grant, error) {
	now := db.Now()
	index, person, args := `sessions_grant`, ``, []any{vault.Micros(now), db.seenSince(now)}
	if whose != (auth.Person{}) {
		index, person, args = `sessions_person`, ofPerson, append(args, whose.Provider, whose.Subject)
	}
	return many(ctx, db, vault.ScanSessions, selectLive+index+isLive+person+` AND s.grant_id > ? ORDER BY s.grant_id LIMIT ?`,
		append(args, after, limit)...)
}

// All implements auth.Vault.
func (db *DB) All(ctx context.Context, whose auth.Person, after string, limit int) ([]*auth.Grant, error) {
	from, args := `grants WHERE id > ?`, []any{after, limit}
	if whose != (auth.Person{}) {
		from = `grants INDEXED BY grants_person WHERE provider = ? AND subject = ? AND id > ?`
		args = []any{whose.Provider, whose.Subject, after, limit}
	}
	return many(ctx, db, vault.ScanSessions, `SELECT id, session_hash, provider, subject, generation, created_at, seen_at, user_agent, ip
		FROM `+from+` ORDER BY id LIMIT ?`, args...)
}

// Beyond implements auth.Vault. Most people have few grants, and those are only counted, in the index.
func (db *DB) Beyond(ctx context.Context, provider, subject string, keep, limit int) ([]*auth.Grant, error) {
	n, err := db.count(ctx, `SELECT count(*) FROM grants INDEXED BY grants_person WHERE provider = ? AND subject = ?`, provider, subject)
	if err != nil || n <= int64(keep) {
		return nil, err
	}
	return many(ctx, db, vault.ScanConcerned, selectConcerned+` INDEXED BY grants_person WHERE provider = ? AND subject = ?
		ORDER BY created_at DESC, id LIMIT ? OFFSET ?`, provider, subject, limit, keep)
}

// SessionValues lists the data of sessions that hold any values: a sign-in under way, for one.
func (db *DB) SessionValues(ctx context.Context) ([][]byte, error) {
	return many(ctx, db, vault.ScanData, `SELECT data FROM sessions WHERE instr(data, x'7B') > 0`)
}
