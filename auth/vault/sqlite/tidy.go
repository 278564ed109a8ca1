package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"keyturn/auth/vault"
)

// oftenTidy writes marks and frees what dead processes held.
func (db *DB) oftenTidy(ctx context.Context) error {
	return errors.Join(db.writeMarks(ctx), db.freeLeases(ctx))
}

func (db *DB) report(err error) {
	if err != nil {
		db.Log.Error("database upkeep failed; it is tried again", "error", err)
	}
}

func (db *DB) writeMarks(ctx context.Context) error {
	marks := db.marks.Take()
	if len(marks) == 0 {
		return nil
	}
	return db.inTx(ctx, func(tx *writer) error {
		for hash, at := range marks {
			if _, err := tx.Exec(`UPDATE sessions SET seen_at = ? WHERE token_hash = ?`, vault.Micros(at), hash); err != nil {
				return err
			}
			_, err := tx.Exec(`UPDATE grants SET seen_at = ?
				WHERE id = (SELECT grant_id FROM sessions WHERE token_hash = ?)`, vault.Micros(at), hash)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Tidy removes sessions that have expired or idled away, grants whose session is gone, and used tokens that would be refused as
// too old by now, in small batches.
func (db *DB) Tidy(ctx context.Context) error {
	now := db.Now()
	for _, removal := range []struct {
		statement string // its last parameter is the batch
		before    any
		batch     int64
	}{
		{`DELETE FROM sessions WHERE token_hash IN (SELECT token_hash FROM sessions WHERE expires_at <= ? LIMIT ?)`, vault.Micros(now), vault.TidyBatch},
		{`DELETE FROM sessions WHERE token_hash IN (SELECT token_hash FROM sessions WHERE seen_at <= ? LIMIT ?)`, db.seenSince(now), vault.TidyBatch},
		{`DELETE FROM grants WHERE id IN (SELECT id FROM grants WHERE created_at <= ?
			AND NOT EXISTS (SELECT 1 FROM sessions WHERE sessions.grant_id = grants.id) LIMIT ?)`, vault.Micros(now.Add(-vault.OrphanAge)), vault.TidyGrants},
		{`DELETE FROM used_tokens WHERE fingerprint IN (SELECT fingerprint FROM used_tokens WHERE expires_at <= ? LIMIT ?)`, vault.Micros(now), vault.TidyBatch},
	} {
		if err := db.removeAll(ctx, removal.statement, removal.before, removal.batch); err != nil {
			return err
		}
	}
	return nil
}

func (db *DB) removeAll(ctx context.Context, statement string, before any, batch int64) error {
	for {
		var n int64
		err := db.inTx(ctx, func(tx *writer) (err error) {
			n, err = affected(tx.Exec(statement, before, batch))
			return err
		})
		if err != nil || n < batch {
			return err
		}
	}
}

// SealedAfter returns the blob of the grant that follows the id after; none has an empty ID.
func (db *DB) SealedAfter(ctx context.Context, after string) (s vault.Sealed, err error) {
	err = db.read.QueryRowContext(ctx, `SELECT id, sealed FROM grants WHERE id > ? ORDER BY id LIMIT 1`, after).Scan(&s.ID, &s.Blob)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return s, err
}

// Reseal seals every grant anew with the primary key, and returns how many, and how many no key opens. A grant
// that changes meanwhile keeps what was written then.
func (db *DB) Reseal(ctx context.Context) (resealed, unreadable int, err error) {
	next := func(after string) (vault.Sealed, error) { return db.SealedAfter(ctx, after) }
	swap := func(id string, old, anew []byte) (n int64, err error) {
		err = db.inTx(ctx, func(tx *writer) error {
			n, err = affected(tx.Exec(`UPDATE grants SET sealed = ? WHERE id = ? AND sealed = ?`, anew, id, old))
			return err
		})
		return n, err
	}
	return db.Sealer.ResealAll(next, swap)
}
