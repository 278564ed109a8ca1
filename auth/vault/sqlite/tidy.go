package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"keyturn/auth/vault"
)

// oftenTidy writes marks, frees what dead processes held, and looks after the file.
func (db *DB) oftenTidy(ctx context.Context) error {
	return errors.Join(db.inPlace(), db.writeMarks(ctx), db.freeLeases(ctx))
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
	changed := make([]key, 0, 2*len(marks))
	for hash, mark := range marks {
		changed = append(changed, key{session: hash}, key{grant: mark.GrantID})
	}
	return db.inLightTx(ctx, func(tx *writer) error {
		for hash, mark := range marks {
			at := vault.Micros(mark.At)
			if _, err := tx.Exec(`UPDATE sessions SET seen_at = ? WHERE token_hash = ?`, at, hash); err != nil {
				return err
			}
			if _, err := tx.Exec(`UPDATE grants SET seen_at = ? WHERE id = ?`, at, mark.GrantID); err != nil {
				return err
			}
		}
		return nil
	}, changed...)
}

// Tidy removes sessions that have expired or idled away, with their grants, grants whose session is gone, and what was remembered as used
// until a moment that is over, in small batches.
func (db *DB) Tidy(ctx context.Context) error {
	now := vault.Micros(db.Now())
	const used = `SELECT fingerprint FROM used_tokens WHERE expires_at <= ? LIMIT ?`
	return errors.Join(
		db.removeSessions(ctx, `FROM sessions WHERE expires_at <= ? ORDER BY expires_at, token_hash LIMIT ?`, now),
		db.writeMarks(ctx), // a session that was seen a moment ago stays
		db.removeSessions(ctx, `FROM sessions WHERE seen_at <= ? ORDER BY seen_at, token_hash LIMIT ?`, db.seenSince(db.Now())),
		db.removeOrphans(ctx),
		db.removeAll(ctx, vault.TidyBatch, func(tx *writer) (sql.Result, error) {
			return tx.Exec(`DELETE FROM used_tokens WHERE fingerprint IN (`+used+`)`, now, vault.TidyBatch)
		}),
	)
}

// removeSessions removes the sessions that were over before a moment, and their grants.
func (db *DB) removeSessions(ctx context.Context, over string, before int64) error {
	return db.removeAll(ctx, vault.TidyGrants, func(tx *writer) (sql.Result, error) {
		_, err := tx.Exec(`DELETE FROM grants WHERE id IN (SELECT grant_id `+over+`)`, before, vault.TidyGrants)
		if err != nil {
			return nil, err
		}
		return tx.Exec(`DELETE FROM sessions WHERE token_hash IN (SELECT token_hash `+over+`)`, before, vault.TidyGrants)
	})
}

// alone is the condition that a grant has no session.
const alone = `NOT EXISTS (SELECT 1 FROM sessions INDEXED BY sessions_grant WHERE grant_id = grants.id AND grant_id <> '')`

// removeOrphans removes grants without a session. Only those are written to: to look for them does not hold the writer up.
func (db *DB) removeOrphans(ctx context.Context) error {
	now := db.Now()
	from, to := db.orphans.Window(now)
	for {
		ids, err := many(ctx, db, vault.ScanIDs, `SELECT id FROM grants INDEXED BY grants_created
			WHERE created_at > ? AND created_at <= ? AND `+alone+` LIMIT ?`, vault.Micros(from), vault.Micros(to), vault.TidyGrants)
		if err != nil {
			return err
		}
		if err := db.removeAlone(ctx, ids); err != nil {
			return err
		}
		if len(ids) < vault.TidyGrants {
			db.orphans.Looked(now, from, to)
			return nil
		}
	}
}

// removeAlone removes those of the grants that are still alone.
func (db *DB) removeAlone(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	return db.inTx(ctx, func(tx *writer) error {
		for _, id := range ids {
			if _, err := tx.Exec(`DELETE FROM grants WHERE id = ? AND `+alone, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// removeAll removes batch after batch, until one is not full.
func (db *DB) removeAll(ctx context.Context, batch int64, remove func(tx *writer) (sql.Result, error)) error {
	for {
		var n int64
		err := db.inTx(ctx, func(tx *writer) (err error) {
			n, err = affected(remove(tx))
			return err
		})
		if err != nil || n < batch {
			return err
		}
	}
}

// freeLeases ends the leases of owners that have died, so that what they had begun is taken up at once.
func (db *DB) freeLeases(ctx context.Context) error {
	return db.owners.Bury(func(owner string) error {
		return db.inTx(ctx, func(tx *writer) error {
			_, err := tx.Exec(`UPDATE grants SET lease_owner = '', lease_until = 0 WHERE lease_owner = ?`, owner)
			return err
		})
	})
}
