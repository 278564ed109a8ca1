package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"keyturn/auth/vault"
)

// Used implements auth.Vault.
func (db *DB) Used(ctx context.Context, fingerprint string) (bool, error) {
	return db.Lasts(ctx, fingerprint, db.Now())
}

// Lasts implements auth.Vault. The table has its name from logout tokens, which it held first.
func (db *DB) Lasts(ctx context.Context, fingerprint string, beyond time.Time) (lasts bool, err error) {
	err = db.one(ctx, into(&lasts), `SELECT EXISTS (SELECT 1 FROM used_tokens WHERE fingerprint = $1 AND expires_at > $2)`,
		fingerprint, vault.Micros(beyond))
	if err != nil {
		return false, fmt.Errorf("look for what was used: %w", err)
	}
	return lasts, nil
}

// Use implements auth.Vault.
func (db *DB) Use(ctx context.Context, fingerprint string, until time.Time) (first bool, err error) {
	var written string
	err = db.one(ctx, into(&written), `INSERT INTO used_tokens (fingerprint, expires_at) VALUES ($1, $2)
		ON CONFLICT (fingerprint) DO UPDATE SET expires_at = excluded.expires_at WHERE used_tokens.expires_at <= $3
		RETURNING fingerprint`, fingerprint, vault.Micros(until), vault.Micros(db.Now()))
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("remember what was used: %w", err)
	}
	return true, nil
}

// Keep implements auth.Vault.
func (db *DB) Keep(ctx context.Context, fingerprint string, until time.Time) (kept bool, err error) {
	n, err := db.exec(ctx, `UPDATE used_tokens SET expires_at = $2 WHERE fingerprint = $1 AND expires_at > $3`,
		fingerprint, vault.Micros(until), vault.Micros(db.Now()))
	if err != nil {
		return false, fmt.Errorf("remember for longer what was used: %w", err)
	}
	return n > 0, nil
}

// Unuse implements auth.Vault.
func (db *DB) Unuse(ctx context.Context, fingerprint string) error {
	if _, err := db.exec(ctx, `DELETE FROM used_tokens WHERE fingerprint = $1`, fingerprint); err != nil {
		return fmt.Errorf("forget what was used: %w", err)
	}
	return nil
}
