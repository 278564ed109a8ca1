package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"keyturn/auth"
)

var _ auth.Vault = (*DB)(nil)

// keepRenewals is how many renewals of a grant the history keeps.
const keepRenewals = 200

const grantColumns = `id, session_hash, provider, subject, sealed, generation, due_at, presenting_at, lease_until,
	created_at, seen_at, user_agent, ip`

const selectGrant = `SELECT ` + grantColumns + ` FROM grants WHERE id = ?`

const renewalColumns = `grant_id, generation, at, trigger_name, outcome, micros, code, detail, warning,
	old_token, new_token, old_refresh, new_refresh, old_scope, new_scope, old_expiry, new_expiry, shared`

// Create implements auth.Vault.
func (db *DB) Create(ctx context.Context, g *auth.Grant) error {
	sealed, err := db.Sealer.Seal(g)
	if err != nil {
		return err
	}
	return db.inTx(ctx, func(tx *writer) error {
		_, err := tx.Exec(`INSERT INTO grants (`+grantColumns+`, state, issued_at, sid) VALUES (?,?,?,?,?,?,?,0,0,?,?,?,?,?,?,?)`,
			g.ID, g.SessionHash, g.Identity.Provider, g.Identity.Subject, sealed, g.Generation, micros(g.DueAt),
			micros(g.CreatedAt), micros(g.SeenAt), g.UserAgent, g.IP, state(g), micros(g.Tokens.IssuedAt), g.SID())
		return err
	})
}

// Get implements auth.Vault.
func (db *DB) Get(ctx context.Context, id string) (*auth.Grant, error) {
	return db.scan(db.get.QueryRowContext(ctx, id))
}

// Lease implements auth.Vault.
func (db *DB) Lease(ctx context.Context, id, owner string, ttl time.Duration) (g *auth.Grant, err error) {
	if err := db.owners.claim(owner); err != nil {
		return nil, err
	}
	now := db.Now()
	err = db.inTx(ctx, func(tx *writer) error {
		// A lease that ends later than any lease could was taken before the clock was set back.
		taken, err := affected(tx.Exec(`UPDATE grants SET lease_owner = ?, lease_until = ?
			WHERE id = ? AND (lease_owner IN ('', ?) OR lease_until <= ? OR lease_until > ?)`,
			owner, micros(now.Add(ttl)), id, owner, micros(now), micros(now.Add(2*ttl))))
		if err != nil {
			return err
		}
		g, err = db.scan(tx.QueryRow(selectGrant, id))
		if err == nil && taken == 0 {
			return auth.ErrLeased
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return g, nil
}

// Extend implements auth.Vault.
func (db *DB) Extend(ctx context.Context, id, owner string, ttl time.Duration) error {
	return db.underLease(ctx, `UPDATE grants SET lease_until = ? WHERE id = ? AND lease_owner = ?`,
		micros(db.Now().Add(ttl)), id, owner)
}

// Present implements auth.Vault.
func (db *DB) Present(ctx context.Context, id, owner string, at time.Time) error {
	return db.underLease(ctx, `UPDATE grants SET presenting_at = CASE presenting_at WHEN 0 THEN ? ELSE presenting_at END
		WHERE id = ? AND lease_owner = ? AND lease_until > ?`,
		micros(at), id, owner, micros(db.Now()))
}

// Release implements auth.Vault.
func (db *DB) Release(ctx context.Context, id, owner string) error {
	err := db.underLease(ctx, `UPDATE grants SET lease_owner = '', lease_until = 0 WHERE id = ? AND lease_owner = ?`, id, owner)
	if errors.Is(err, auth.ErrStale) {
		return nil
	}
	return err
}

func (db *DB) underLease(ctx context.Context, statement string, args ...any) error {
	return db.inTx(ctx, func(tx *writer) error {
		n, err := affected(tx.Exec(statement, args...))
		if err == nil && n == 0 {
			return auth.ErrStale
		}
		return err
	})
}

// Replace implements auth.Vault.
func (db *DB) Replace(ctx context.Context, owner string, g *auth.Grant, r *auth.Renewal) error {
	return db.rewrite(ctx, g, func(tx *writer, sealed []byte) error {
		n, err := affected(tx.Exec(`UPDATE grants SET sealed = ?, generation = ?, state = ?, due_at = ?, issued_at = ?, sid = ?,
			presenting_at = 0, lease_owner = '', lease_until = 0
			WHERE id = ? AND generation = ? AND lease_owner = ? AND lease_until > ?`,
			sealed, g.Generation, state(g), micros(g.DueAt), micros(g.Tokens.IssuedAt), g.SID(), g.ID, r.From(), owner, micros(db.Now())))
		if err != nil || n == 0 {
			return noRow(err)
		}
		return addRenewal(tx, r)
	})
}

// Amend implements auth.Vault.
func (db *DB) Amend(ctx context.Context, g *auth.Grant, r *auth.Renewal) error {
	return db.rewrite(ctx, g, func(tx *writer, sealed []byte) error {
		n, err := affected(tx.Exec(`UPDATE grants SET sealed = ?, state = ?, due_at = ?, sid = ?
			WHERE id = ? AND generation = ?`, sealed, state(g), micros(g.DueAt), g.SID(), g.ID, g.Generation))
		if err != nil || n == 0 {
			return noRow(err)
		}
		_, err = tx.Exec(`UPDATE renewals SET outcome = ?, code = ?, detail = ?, warning = ? WHERE id = ?`,
			r.Outcome, r.Code, r.Detail, r.Warning, r.ID)
		return err
	})
}

// rewrite seals the grant and runs the write in a transaction; a write that met no row is ErrStale, or ErrNotFound when the
// grant is gone.
func (db *DB) rewrite(ctx context.Context, g *auth.Grant, write func(tx *writer, sealed []byte) error) error {
	sealed, err := db.Sealer.Seal(g)
	if err != nil {
		return err
	}
	return db.inTx(ctx, func(tx *writer) error {
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
	})
}

func noRow(err error) error {
	if err == nil {
		return auth.ErrStale
	}
	return err
}

// Delete implements auth.Vault.
func (db *DB) Delete(ctx context.Context, id string) (g *auth.Grant, err error) {
	err = db.inTx(ctx, func(tx *writer) error {
		g, err = db.scan(tx.QueryRow(selectGrant, id))
		if errors.Is(err, auth.ErrUnreadable) {
			g, err = &auth.Grant{ID: id}, nil
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(`DELETE FROM grants WHERE id = ?`, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return g, nil
}

// scan reads and opens one grant.
func (db *DB) scan(row rowScanner) (*auth.Grant, error) {
	var g auth.Grant
	var sealed []byte
	var due, presenting, leased, created, seen int64
	err := row.Scan(&g.ID, &g.SessionHash, &g.Identity.Provider, &g.Identity.Subject, &sealed, &g.Generation, &due, &presenting,
		&leased, &created, &seen, &g.UserAgent, &g.IP)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, auth.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read grant: %w", err)
	}
	g.DueAt, g.PresentingAt, g.LeasedUntil = fromMicros(due), fromMicros(presenting), fromMicros(leased)
	g.CreatedAt, g.SeenAt = fromMicros(created), fromMicros(seen)
	return &g, db.Sealer.Open(&g, sealed)
}

// History implements auth.Vault.
func (db *DB) History(ctx context.Context, id string, before int64, limit int) ([]auth.Renewal, error) {
	if before <= 0 {
		before = 1<<63 - 1
	}
	rows, err := db.read.QueryContext(ctx, `SELECT id, `+renewalColumns+` FROM renewals
		WHERE grant_id = ? AND id < ? ORDER BY id DESC LIMIT ?`, id, before, limit)
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	defer rows.Close()
	var list []auth.Renewal
	for rows.Next() {
		var r auth.Renewal
		var at, us, oldExpiry, newExpiry int64
		err := rows.Scan(&r.ID, &r.GrantID, &r.Generation, &at, &r.Trigger, &r.Outcome, &us, &r.Code, &r.Detail, &r.Warning,
			&r.OldToken, &r.NewToken, &r.OldRefresh, &r.NewRefresh, &r.OldScope, &r.NewScope, &oldExpiry, &newExpiry, &r.Shared)
		if err != nil {
			return nil, fmt.Errorf("read history: %w", err)
		}
		r.At, r.Duration = fromMicros(at), time.Duration(us)*time.Microsecond
		r.OldExpiry, r.NewExpiry = fromMicros(oldExpiry), fromMicros(newExpiry)
		list = append(list, r)
	}
	return list, rows.Err()
}

// Shared implements auth.Vault.
func (db *DB) Shared(ctx context.Context, id string, generation int64, n int) error {
	return db.inTx(ctx, func(tx *writer) error {
		_, err := tx.Exec(`UPDATE renewals SET shared = shared + ? WHERE id =
			(SELECT max(id) FROM renewals WHERE grant_id = ? AND generation = ? AND outcome IN ('rotated', 'renewed'))`, n, id, generation)
		return err
	})
}

// addRenewal records a renewal and drops what is beyond the history's bound.
func addRenewal(tx *writer, r *auth.Renewal) error {
	result, err := tx.Exec(`INSERT INTO renewals (`+renewalColumns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
		r.GrantID, r.Generation, micros(r.At), r.Trigger, r.Outcome, r.Duration.Microseconds(), r.Code, r.Detail, r.Warning,
		r.OldToken, r.NewToken, r.OldRefresh, r.NewRefresh, r.OldScope, r.NewScope, micros(r.OldExpiry), micros(r.NewExpiry), r.Shared)
	if err != nil {
		return err
	}
	if r.ID, err = result.LastInsertId(); err != nil {
		return err
	}
	_, err = tx.Exec(`DELETE FROM renewals WHERE grant_id = ? AND id <=
		(SELECT id FROM renewals WHERE grant_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?)`, r.GrantID, r.GrantID, keepRenewals)
	return err
}

func state(g *auth.Grant) string {
	if g.Standing.Refused {
		return "refused"
	}
	return "active"
}

func affected(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}
