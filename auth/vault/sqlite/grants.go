package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"keyturn/auth"
	"keyturn/auth/vault"
)

var (
	_ auth.Vault   = (*DB)(nil)
	_ auth.Journal = (*DB)(nil)
)

const (
	beforeSealed = `id, session_hash, provider, subject, `
	behindSealed = `, generation, due_at, presenting_at, created_at, seen_at, user_agent, ip, revision, lease_until`

	selectGrant = `SELECT ` + beforeSealed + `CASE WHEN id = ?2 AND revision = ?3 THEN NULL ELSE sealed END` + behindSealed +
		` FROM grants WHERE id = ?1`
)

// Create implements auth.Vault.
func (db *DB) Create(ctx context.Context, g *auth.Grant) error {
	sealed, err := db.Sealer.Seal(g)
	if err != nil {
		return err
	}
	return db.inTx(ctx, func(tx *writer) error {
		_, err := tx.Exec(`INSERT INTO grants (`+vault.GrantColumns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)`, vault.GrantValues(g, sealed)...)
		return err
	}, key{grant: g.ID})
}

// Get implements auth.Vault.
func (db *DB) Get(ctx context.Context, id string) (*auth.Grant, error) {
	found, ok, ticket := db.cache.get(key{grant: id})
	if !ok {
		known := db.opened.Known(id)
		g, err := db.Sealer.ScanGrant(db.get.QueryRowContext(ctx, id, known.ID, known.Revision), vault.FromMicros, known)
		if err != nil {
			return nil, err
		}
		db.opened.Remember(g)
		found = row{grant: g}
		db.cache.put(key{grant: id}, ticket, found)
	}
	own := *found.grant
	return &own, nil
}

// Lease implements auth.Vault. A lease that ran out is taken from its holder only when the file has been there to write to for a while, and
// the clock has not been set: after that the holder, who could not extend it, gets to store first.
func (db *DB) Lease(ctx context.Context, id, owner string, ttl time.Duration) (g *auth.Grant, err error) {
	if err := db.owners.Claim(owner); err != nil {
		return nil, err
	}
	now := db.heedClock()
	err = db.inLightTx(ctx, func(tx *writer) error {
		// A lease that ends later than any lease could was taken before the clock was set back.
		taken, err := affected(tx.Exec(`UPDATE grants SET lease_owner = ?, lease_until = ?
			WHERE id = ? AND (lease_owner IN ('', ?) OR ? AND (lease_until <= ? OR lease_until > ?))`,
			owner, vault.Micros(now.Add(ttl)), id, owner, db.steady.Steady(), vault.Micros(now), vault.Micros(now.Add(2*ttl))))
		if err != nil {
			return err
		}
		g, err = db.readIn(tx, id)
		if err == nil && taken == 0 {
			return auth.ErrLeased
		}
		return err
	}, key{grant: id})
	if err != nil {
		return nil, err
	}
	db.opened.Remember(g)
	return g, nil
}

// heedClock is what the clock shows, and a look whether it was set.
func (db *DB) heedClock() (now time.Time) {
	asked := time.Now()
	now = db.Now()
	db.steady.Heed(asked, now)
	return now
}

// Claim implements auth.Vault.
func (db *DB) Claim(ctx context.Context, seen *auth.Grant, owner string, ttl time.Duration, at time.Time) error {
	if err := db.owners.Claim(owner); err != nil {
		return err
	}
	return db.underLease(ctx, seen.ID, `UPDATE grants SET lease_owner = ?1, lease_until = ?2, presenting_at = ?3
		WHERE id = ?4 AND revision = ?5 AND presenting_at = 0 AND lease_owner IN ('', ?1)`,
		owner, vault.Micros(db.Now().Add(ttl)), vault.Micros(at), seen.ID, seen.Revision)
}

// Extend implements auth.Vault.
func (db *DB) Extend(ctx context.Context, id, owner string, ttl time.Duration) error {
	return db.underLease(ctx, id, `UPDATE grants SET lease_until = ? WHERE id = ? AND lease_owner = ?`,
		vault.Micros(db.Now().Add(ttl)), id, owner)
}

// Hold implements auth.Vault.
func (db *DB) Hold(ctx context.Context, generations map[string]int64, owner string, ttl time.Duration) (held int, err error) {
	if err := db.owners.Claim(owner); err != nil {
		return 0, err
	}
	rows := make([]key, 0, len(generations))
	for id := range generations {
		rows = append(rows, key{grant: id})
	}
	err = db.inLightTx(ctx, func(tx *writer) error {
		held = 0
		now := db.Now()
		for id, generation := range generations {
			n, err := affected(tx.Exec(`UPDATE grants SET lease_owner = ?1, lease_until = ?2
				WHERE id = ?3 AND generation = ?4 AND (lease_owner = ?1 OR lease_owner <> '' AND lease_until <= ?5)`,
				owner, vault.Micros(now.Add(ttl)), id, generation, vault.Micros(now)))
			if err != nil {
				return err
			}
			held += int(n)
		}
		return nil
	}, rows...)
	return held, err
}

// Present implements auth.Vault.
func (db *DB) Present(ctx context.Context, id, owner string, at time.Time) error {
	return db.underLease(ctx, id, `UPDATE grants SET presenting_at = CASE presenting_at WHEN 0 THEN ? ELSE presenting_at END
		WHERE id = ? AND lease_owner = ? AND lease_until > ?`,
		vault.Micros(at), id, owner, vault.Micros(db.Now()))
}

// Release implements auth.Vault.
func (db *DB) Release(ctx context.Context, id, owner string) error {
	err := db.underLease(ctx, id, `UPDATE grants SET lease_owner = '', lease_until = 0 WHERE id = ? AND lease_owner = ?`, id, owner)
	if errors.Is(err, auth.ErrStale) {
		return nil
	}
	return err
}

func (db *DB) underLease(ctx context.Context, id, statement string, args ...any) error {
	return db.inLightTx(ctx, func(tx *writer) error {
		n, err := affected(tx.Exec(statement, args...))
		if err == nil && n == 0 {
			return auth.ErrStale
		}
		return err
	}, key{grant: id})
}

// Replace implements auth.Vault.
func (db *DB) Replace(ctx context.Context, owner string, g *auth.Grant, r *auth.Renewal) error {
	var stored *auth.Grant
	err := db.rewrite(ctx, g, db.inTx, func(tx *writer, sealed []byte) (err error) {
		stored, err = vault.ScanWritten(tx.QueryRow(`UPDATE grants SET sealed = ?, generation = ?, state = ?, due_at = ?, issued_at = ?, sid = ?,
			revision = revision + 1, presenting_at = 0, lease_owner = '', lease_until = 0
			WHERE id = ? AND generation = ? AND lease_owner = ? AND lease_until > ? AND state <> 'ended'
			RETURNING `+beforeSealed+`NULL`+behindSealed,
			sealed, g.Generation, vault.State(g), vault.Micros(g.DueAt), vault.Micros(vault.Latest(g)), g.SID(),
			g.ID, r.From(), owner, vault.Micros(db.Now())), vault.FromMicros, g)
		if errors.Is(err, auth.ErrNotFound) {
			return auth.ErrStale
		}
		if err == nil {
			err = addRenewal(tx, r)
		}
		if err == nil {
			tx.keep(row{grant: stored})
		}
		return err
	})
	if err == nil {
		db.opened.Remember(stored)
		g.Revision = stored.Revision
	}
	return err
}

// Amend implements auth.Vault. With the machine goes what it writes at the most, and then the grant is as it was before: what was to be
// settled is settled again.
func (db *DB) Amend(ctx context.Context, g *auth.Grant, r *auth.Renewal) error {
	err := db.rewrite(ctx, g, db.inLightTx, func(tx *writer, sealed []byte) error {
		n, err := affected(tx.Exec(`UPDATE grants SET sealed = ?1, state = ?2, due_at = ?3, sid = ?4, revision = revision + 1,
			presenting_at = CASE ?2 WHEN 'ended' THEN 0 ELSE presenting_at END
			WHERE id = ?5 AND revision = ?6`, sealed, vault.State(g), vault.Micros(g.DueAt), g.SID(), g.ID, g.Revision))
		if err != nil || n == 0 {
			return noRow(err)
		}
		_, err = tx.Exec(`UPDATE renewals SET outcome = ?, code = ?, detail = ?, warning = ? WHERE id = ?`,
			r.Outcome, r.Code, r.Detail, r.Warning, r.ID)
		return err
	})
	if err == nil {
		g.Revision++
	}
	return err
}

// rewrite seals the grant and runs the write in a transaction; a write that met no row is ErrStale, or ErrNotFound when the
// grant is gone.
func (db *DB) rewrite(
	ctx context.Context, g *auth.Grant, inTx func(context.Context, func(tx *writer) error, ...key) error,
	write func(tx *writer, sealed []byte) error,
) error {
	sealed, err := db.Sealer.Seal(g)
	if err != nil {
		return err
	}
	return inTx(ctx, func(tx *writer) error {
		err := write(tx, sealed)
		if !errors.Is(err, auth.ErrStale) {
			return err
		}
		var exists bool
		if err := tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM grants WHERE id = ?)`, g.ID).Scan(&exists); err != nil {
			return err
		}
		if !exists {
			return auth.ErrNotFound
		}
		return auth.ErrStale
	}, key{grant: g.ID})
}

func noRow(err error) error {
	if err == nil {
		return auth.ErrStale
	}
	return err
}

// Delete implements auth.Vault.
func (db *DB) Delete(ctx context.Context, id string) (*auth.Grant, error) {
	return db.remove(ctx, id, func(*writer) error { return nil })
}

// remove removes a grant after what is to be done before, in one transaction.
func (db *DB) remove(ctx context.Context, id string, before func(tx *writer) error) (g *auth.Grant, err error) {
	err = db.inTx(ctx, func(tx *writer) error {
		g, err = db.readIn(tx, id)
		if errors.Is(err, auth.ErrUnreadable) {
			err = nil
		}
		if err == nil {
			err = before(tx)
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(`DELETE FROM grants WHERE id = ?`, id)
		return err
	}, key{grant: id})
	if err != nil {
		return nil, err
	}
	db.opened.Forget(id) // its tokens have no business in memory any more
	return g, nil
}

// readIn reads a grant in a transaction. Only when that is over may the grant be remembered.
func (db *DB) readIn(tx *writer, id string) (*auth.Grant, error) {
	known := db.opened.Known(id)
	return db.Sealer.ScanGrant(tx.QueryRow(selectGrant, id, known.ID, known.Revision), vault.FromMicros, known)
}

// History implements auth.Vault.
func (db *DB) History(ctx context.Context, id string, before int64, limit int) ([]auth.Renewal, error) {
	if before <= 0 {
		before = 1<<63 - 1
	}
	return many(ctx, db, vault.ScanRenewals, `SELECT id, `+vault.RenewalColumns+` FROM renewals
		WHERE grant_id = ? AND id < ? ORDER BY id DESC LIMIT ?`, id, before, limit)
}

// Shared implements auth.Vault.
func (db *DB) Shared(ctx context.Context, id string, generation int64, n int) error {
	return db.inLightTx(ctx, func(tx *writer) error {
		_, err := tx.Exec(`UPDATE renewals SET shared = shared + ? WHERE id =
			(SELECT max(id) FROM renewals WHERE grant_id = ? AND generation = ?)`, n, id, generation)
		if err == nil {
			_, err = tx.Exec(`UPDATE grants SET revision = revision + 1 WHERE id = ?`, id)
		}
		return err
	}, key{grant: id})
}

// addRenewal records a renewal and drops what is beyond the history's bound.
func addRenewal(tx *writer, r *auth.Renewal) error {
	result, err := tx.Exec(`INSERT INTO renewals (`+vault.RenewalColumns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
		vault.RenewalValues(r)...)
	if err != nil {
		return err
	}
	if r.ID, err = result.LastInsertId(); err != nil {
		return err
	}
	_, err = tx.Exec(`DELETE FROM renewals WHERE grant_id = ? AND id <=
		(SELECT id FROM renewals WHERE grant_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?)`, r.GrantID, r.GrantID, auth.KeptRenewals)
	return err
}

func affected(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// many reads rows.
func many[T any](
	ctx context.Context, db *DB, read func(vault.Rows) ([]T, error), query string, args ...any,
) ([]T, error) {
	rows, err := db.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	defer rows.Close()
	list, err := read(rows)
	if err != nil {
		return nil, err
	}
	return list, rows.Err()
}
