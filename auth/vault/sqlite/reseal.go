package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"keyturn/auth/vault"
)

// SealedAfter returns the blob of the grant that follows the id after, present or ended with a revocation owed; none has an empty ID.
func (db *DB) SealedAfter(ctx context.Context, after string) (s vault.Sealed, err error) {
	err = db.read.QueryRowContext(ctx, `SELECT * FROM (SELECT id, sealed FROM grants WHERE id > ?1 ORDER BY id LIMIT 1)
		UNION ALL SELECT * FROM (SELECT id, sealed FROM owed_revocations WHERE id > ?1 ORDER BY id LIMIT 1)
		ORDER BY 1 LIMIT 1`, after).Scan(&s.ID, &s.Blob)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return s, err
}

// SealedBefore returns the blob of the grant that precedes the id before; none has an empty ID.
func (db *DB) SealedBefore(ctx context.Context, before string) (s vault.Sealed, err error) {
	err = db.read.QueryRowContext(ctx, `SELECT id, sealed FROM grants WHERE id < ? ORDER BY id DESC LIMIT 1`, before).Scan(&s.ID, &s.Blob)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return s, err
}

// Reseal seals every grant anew with the primary key, those that have ended with a revocation owed as well, and returns how many, and how
// many no key opens. A grant that changes meanwhile keeps what was written then.
func (db *DB) Reseal(ctx context.Context) (resealed, unreadable int, err error) {
	next := func(after string) (vault.Sealed, error) { return db.SealedAfter(ctx, after) }
	swap := func(id string, old, anew []byte) (n int64, err error) {
		err = db.inTx(ctx, func(tx *writer) error {
			n, err = affected(tx.Exec(`UPDATE grants SET sealed = ? WHERE id = ? AND sealed = ?`, anew, id, old))
			if err == nil && n == 0 {
				n, err = affected(tx.Exec(`UPDATE owed_revocations SET sealed = ? WHERE id = ? AND sealed = ?`, anew, id, old))
			}
			return err
		})
		return n, err
	}
	return db.Sealer.ResealAll(next, swap)
}
