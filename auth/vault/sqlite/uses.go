package sqlite

import (
	"context"
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
	err = db.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM used_tokens WHERE fingerprint = ? AND expires_at > ?)`,
		fingerprint, vault.Micros(beyond)).Scan(&lasts)
	if err != nil {
		return false, fmt.Errorf("look for what was used: %w", err)
	}
	return lasts, nil
}

// Use implements auth.Vault.
func (db *DB) Use(ctx context.Context, fingerprint string, until time.Time) (first bool, err error) {
	err = db.inTx(ctx, func(tx *writer) error {
		n, err := affected(tx.Exec(`INSERT INTO used_tokens (fingerprint, expires_at) VALUES (?, ?)
			ON CONFLICT (fingerprint) DO UPDATE SET expires_at = excluded.expires_at WHERE used_tokens.expires_at <= ?`,
			fingerprint, vault.Micros(until), vault.Micros(db.Now())))
		first = n > 0
		return err
	}, elsewhere)
	if err != nil {
		return false, fmt.Errorf("remember what was used: %w", err)
	}
	return first, nil
}

// Keep implements auth.Vault.
func (db *DB) Keep(ctx context.Context, fingerprint string, until time.Time) (kept bool, err error) {
	err = db.inLightTx(ctx, func(tx *writer) error {
		n, err := affected(tx.Exec(`UPDATE used_tokens SET expires_at = ? WHERE fingerprint = ? AND expires_at > ?`,
			vault.Micros(until), fingerprint, vault.Micros(db.Now())))
		kept = n > 0
		return err
	}, elsewhere)
	if err != nil {
		return false, fmt.Errorf("remember for longer what was used: %w", err)
	}
	return kept, nil
}

// Unuse implements auth.Vault.
func (db *DB) Unuse(ctx context.Context, fingerprint string) error {
	err := db.inTx(ctx, func(tx *writer) error {
		_, err := tx.Exec(`DELETE FROM used_tokens WHERE fingerprint = ?`, fingerprint)
		return err
	}, elsewhere)
	if err != nil {
		return fmt.Errorf("forget what was used: %w", err)
	}
	return nil
}
