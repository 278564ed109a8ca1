package sqlite

import (
	"context"
	"encoding/json"
	"fmt"

	"keyturn/auth"
	"keyturn/auth/vault"
)

// Changes implements auth.Journal.
func (db *DB) Changes(ctx context.Context, last int64) (grants []string, newest int64, err error) {
	if last < 0 {
		err := db.read.QueryRowContext(ctx, `SELECT coalesce(max(id), 0) FROM renewals`).Scan(&newest)
		return nil, newest, err
	}
	rows, err := db.read.QueryContext(ctx, `SELECT id, grant_id FROM renewals WHERE id > ? ORDER BY id LIMIT 1000`, last)
	if err != nil {
		return nil, last, err
	}
	defer rows.Close()
	newest = last
	for rows.Next() {
		var grant string
		if err := rows.Scan(&newest, &grant); err != nil {
			return nil, last, err
		}
		grants = append(grants, grant)
	}
	return grants, newest, rows.Err()
}

// Person implements auth.Vault.
func (db *DB) Person(ctx context.Context, provider, subject string) ([]*auth.Grant, error) {
	now := db.Now()
	return many(ctx, db, vault.ScanSessions, `SELECT g.id, g.session_hash, g.provider, g.subject, g.generation, g.created_at, s.seen_at,
			g.user_agent, g.ip
		FROM sessions s INDEXED BY sessions_person JOIN grants g ON g.id = s.grant_id
		WHERE s.provider = ? AND s.subject = ? AND s.grant_id <> '' AND s.expires_at > ? AND s.seen_at > ?
		ORDER BY s.seen_at DESC LIMIT 200`, provider, subject, vault.Micros(now), db.seenSince(now))
}

// All implements auth.Vault.
func (db *DB) All(ctx context.Context, whose auth.Person, after string, limit int) ([]*auth.Grant, error) {
	from, args := `grants WHERE id > ?`, []any{after, limit}
	if whose != (auth.Person{}) {
		from, args = `grants INDEXED BY grants_person WHERE provider = ? AND subject = ? AND id > ?`, []any{whose.Provider, whose.Subject, after, limit}
	}
	return many(ctx, db, vault.ScanSessions, `SELECT id, session_hash, provider, subject, generation, created_at, seen_at, user_agent, ip
		FROM `+from+` ORDER BY id LIMIT ?`, args...)
}

// Missing implements auth.Journal.
func (db *DB) Missing(ctx context.Context, ids []string) ([]string, error) {
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	rows, err := db.read.QueryContext(ctx, `SELECT value FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM grants WHERE grants.id = value)`, string(list))
	if err != nil {
		return nil, fmt.Errorf("look for ended grants: %w", err)
	}
	defer rows.Close()
	var missing []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		missing = append(missing, id)
	}
	return missing, rows.Err()
}
