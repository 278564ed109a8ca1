package postgres

import (
	"context"
	"database/sql"
	"errors"

	"keyturn/auth/vault"
)

// SealedAfter returns the blob of the grant that follows the id after, present or ended with a revocation owed; none has an empty ID.
func (db *DB) SealedAfter(ctx context.Context, after string) (s vault.Sealed, err error) {
	err = db.one(ctx, into(&s.ID, &s.Blob), `(SELECT id, sealed FROM grants WHERE id > $1 ORDER BY id LIMIT 1)
		UNION ALL (SELECT id, sealed FROM owed_revocations WHERE id > $1 ORDER BY id LIMIT 1) ORDER BY id LIMIT 1`, after)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return s, err
}

// SealedBefore returns the blob of the grant that precedes the id before; none has an empty ID.
func (db *DB) SealedBefore(ctx context.Context, before string) (s vault.Sealed, err error) {
	err = db.one(ctx, into(&s.ID, &s.Blob), `SELECT id, sealed FROM grants WHERE id < $1 ORDER BY id DESC LIMIT 1`, before)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return s, err
}

// Reseal seals every grant anew with the primary key, those that have ended with a revocation owed as well, and returns how many, and how
// many no key opens. A grant that changes meanwhile keeps what was written then.
func (db *DB) Reseal(ctx context.Context) (resealed, unreadable int, err error) {
	next := func(after string) (vault.Sealed, error) { return db.SealedAfter(ctx, after) }
	swap := func(id string, old, anew []byte) (int64, error) {
		n, err := db.exec(ctx, `UPDATE grants SET sealed = $3 WHERE id = $1 AND sealed = $2`, id, old, anew)
		if err == nil && n == 0 {
			n, err = db.exec(ctx, `UPDATE owed_revocations SET sealed = $3 WHERE id = $1 AND sealed = $2`, id, old, anew)
		}
		return n, err
	}
	return db.Sealer.ResealAll(next, swap)
}
