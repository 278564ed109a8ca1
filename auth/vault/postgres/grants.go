package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"keyturn/auth"
	"keyturn/auth/vault"
)

var (
	_ auth.Vault     = (*DB)(nil)
	_ auth.Announcer = (*DB)(nil)
)

// grantColumns are what scan reads. The last is how long the lease still runs, not positive when it has run out.
const (
	grantColumns = beforeSealed + `sealed` + behindSealed
	sealedSince  = `CASE WHEN id = $2 AND revision = $3 THEN NULL ELSE sealed END`

	beforeSealed = `id, session_hash, provider, subject, `
	behindSealed = `, generation, due_at, presenting_at, created_at, seen_at, user_agent, ip, revision,
		CASE WHEN lease_owner = '' THEN 0 ELSE lease_until - keyturn_now() END`
)

// nextRevision ascends, and none is used twice: a server that crashes, or a standby that takes over, may have lost what a replica has read
// already and knows by its revision.
const nextRevision = `greatest(revision + 1, keyturn_now())`

const selectGrant = `SELECT ` + beforeSealed + sealedSince + behindSealed + ` FROM grants WHERE id = $1`

// Create implements auth.Vault.
func (db *DB) Create(ctx context.Context, g *auth.Grant) error {
	sealed, err := db.Sealer.Seal(g)
	if err != nil {
		return err
	}
	_, err = db.exec(ctx, `INSERT INTO grants (`+vault.GrantColumns+`) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14)`,
		vault.GrantValues(g, sealed)...)
	return err
}

// Get implements auth.Vault. What has been read beside the session a moment ago is not read again.
func (db *DB) Get(ctx context.Context, id string) (g *auth.Grant, err error) {
	if g := takeBeside(ctx, id); g != nil {
		return g, nil
	}
	known := db.opened.Known(id)
	err = db.queued(ctx, func(ctx context.Context) error {
		return db.one(ctx, func(row vault.Row) (err error) {
			g, err = db.scan(row, known)
			return err
		}, selectGrant, id, known.ID, known.Revision)
	})
	return g, err
}

// grant runs a statement that returns one grant.
func (db *DB) grant(ctx context.Context, statement string, args ...any) (g *auth.Grant, err error) {
	err = db.one(ctx, func(row vault.Row) (err error) {
		g, err = db.scan(row, nil)
		return err
	}, statement, args...)
	return g, err
}

// scan reads a grant, opens it unless it is as known, and remembers it.
func (db *DB) scan(row vault.Row, known *auth.Grant) (*auth.Grant, error) {
	g, err := db.Sealer.ScanGrant(row, db.leasedUntil, known)
	if err == nil {
		db.opened.Remember(g)
	}
	return g, err
}

// leasedUntil is, by this process's clock, when a lease ends that runs left microseconds more.
func (db *DB) leasedUntil(left int64) time.Time {
	if left == 0 {
		return time.Time{}
	}
	if left := max(time.Duration(left)*time.Microsecond, db.steady.Left()); left > 0 {
		return db.Now().Add(left)
	}
	return time.Time{}
}

// claimOwner lets the process that starts in the place of this one know whether it has died. Without that its leases run out.
func (db *DB) claimOwner(owner string) {
	if err := db.owners.Claim(owner); err != nil {
		db.unowned.Make(func(int) { db.Log.Warn("the next process cannot know that this one has died", "error", err) })
	}
}

// leaseWait is how long a lease may wait for others' locks, or for a server that stands still. Meanwhile its holder could not extend it.
const leaseWait = time.Second

// firstChance is how long the holder of a lease that ran out has, once the database takes writes, to extend it, or to store what it has: it
// tries both more often than that.
const firstChance = time.Second

// Lease implements auth.Vault. Leases run by the database's clock. One that ran out is taken from its holder only when this
// process has had the database for a while, and its clock has not been set: after that the holder, who could not extend it, gets to
// store first. What this process has inherited is its own to take.
func (db *DB) Lease(ctx context.Context, id, owner string, ttl time.Duration) (*auth.Grant, error) {
	db.claimOwner(owner)
	if err := db.yield(ctx, id, owner); err != nil {
		return nil, err
	}
	shown, err := db.heed(ctx)
	if err != nil {
		return nil, err
	}
	// A lease that ends later than any lease could was taken before the clock was set back.
	var g *auth.Grant
	err = db.promptly(ctx, func(b *pgx.Batch) {
		b.Queue(`UPDATE grants SET lease_owner = $2, lease_until = keyturn_now() + $3
			WHERE id = $1 AND (lease_owner IN ('', $2, $5) OR $4 AND clock_timestamp() < $6
				AND (lease_until <= keyturn_now() OR lease_until > keyturn_now() + 2 * $3))
			RETURNING `+grantColumns, id, owner, ttl.Microseconds(), db.steady.Steady(), db.heir, shown.Add(leaseWait)).QueryRow(
			func(row pgx.Row) (err error) {
				g, err = db.scan(row, nil)
				return err
			})
	})
	if !errors.Is(err, auth.ErrNotFound) {
		return g, err
	}
	if _, err := db.Get(ctx, id); err != nil {
		return nil, err
	}
	return nil, auth.ErrLeased
}

// yield lets the holder of a lease that ran out have its chance, from when the database has taken a write.
func (db *DB) yield(ctx context.Context, id, owner string) error {
	if !db.steady.Steady() {
		return nil
	}
	var overdue bool
	err := db.promptly(ctx, func(b *pgx.Batch) {
		b.Queue(`UPDATE grants SET lease_until = lease_until
			WHERE id = $1 AND lease_owner NOT IN ('', $2, $3) AND lease_until <= keyturn_now()`, id, owner, db.heir).Exec(
			func(tag pgconn.CommandTag) error {
				overdue = tag.RowsAffected() > 0
				return nil
			})
	})
	if err != nil || !overdue {
		return err
	}
	select {
	case <-time.After(db.chance):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// promptly runs a statement that waits for others' locks for leaseWait at most. When it does, or takes as long otherwise, that is an outage.
func (db *DB) promptly(ctx context.Context, queue func(*pgx.Batch)) error {
	began := time.Now()
	err := db.bounded(ctx, func(ctx context.Context) error {
		both := &pgx.Batch{} // is one transaction
		both.Queue(`SELECT set_config('lock_timeout', $1, true)`, fmt.Sprint(leaseWait.Milliseconds()))
		queue(both)
		return db.pool.SendBatch(ctx, both).Close()
	})
	if time.Since(began) > leaseWait {
		db.steady.Wait(vault.AfterOutage)
	}
	return err
}

// Claim implements auth.Vault.
func (db *DB) Claim(ctx context.Context, seen *auth.Grant, owner string, ttl time.Duration, at time.Time) error {
	db.claimOwner(owner)
	return db.underLease(ctx, `UPDATE grants SET lease_owner = $2, lease_until = keyturn_now() + $3, presenting_at = $4
		WHERE id = $1 AND revision = $5 AND presenting_at = 0 AND lease_owner IN ('', $2)`,
		seen.ID, owner, ttl.Microseconds(), vault.Micros(at), seen.Revision)
}

// Extend implements auth.Vault.
func (db *DB) Extend(ctx context.Context, id, owner string, ttl time.Duration) error {
	return db.underLease(ctx, `UPDATE grants SET lease_until = keyturn_now() + $3 WHERE id = $1 AND lease_owner = $2`,
		id, owner, ttl.Microseconds())
}

// holdLeases finds its grants one by one, however many there are besides.
const holdLeases = `UPDATE grants SET lease_owner = $3, lease_until = keyturn_now() + $4 WHERE id IN (
	SELECT g.id FROM unnest($1::text[], $2::bigint[]) AS entry (id, generation) JOIN grants g USING (id, generation)
	WHERE g.lease_owner IN ($3, $5) OR g.lease_owner <> '' AND g.lease_until <= keyturn_now() FOR UPDATE OF g SKIP LOCKED)`

// Hold implements auth.Vault.
func (db *DB) Hold(ctx context.Context, generations map[string]int64, owner string, ttl time.Duration) (held int, err error) {
	db.claimOwner(owner)
	ids, at := slices.Collect(maps.Keys(generations)), make([]int64, 0, len(generations))
	for _, id := range ids {
		at = append(at, generations[id])
	}
	n, err := db.exec(ctx, holdLeases, ids, at, owner, ttl.Microseconds(), db.heir)
	return int(n), err
}

// Present implements auth.Vault.
func (db *DB) Present(ctx context.Context, id, owner string, at time.Time) error {
	return db.underLease(ctx, `UPDATE grants SET presenting_at = CASE presenting_at WHEN 0 THEN $3 ELSE presenting_at END
		WHERE id = $1 AND lease_owner = $2 AND lease_until > keyturn_now()`, id, owner, vault.Micros(at))
}

// Release implements auth.Vault.
func (db *DB) Release(ctx context.Context, id, owner string) error {
	_, err := db.exec(ctx, `UPDATE grants SET lease_owner = '', lease_until = 0 WHERE id = $1 AND lease_owner = $2`, id, owner)
	return err
}

func (db *DB) underLease(ctx context.Context, statement string, args ...any) error {
	n, err := db.exec(ctx, statement, args...)
	if err == nil && n == 0 {
		return auth.ErrStale
	}
	return err
}

// replaceGrant is one statement, and so one transaction and one way to the database. Its parts see what was before it: the
// history holds one record less than it is going to.
const replaceGrant = `WITH replaced AS (
		UPDATE grants SET sealed = $19, generation = $20, state = $21, due_at = $22, issued_at = $23, sid = $28,
			revision = ` + nextRevision + `, presenting_at = 0, lease_owner = '', lease_until = 0
		WHERE id = $24 AND generation = $25 AND lease_owner = $26 AND lease_until > keyturn_now() AND state <> 'ended'
		RETURNING id, revision
	), trimmed AS (
		DELETE FROM renewals USING replaced WHERE grant_id = replaced.id AND renewals.id <=
			(SELECT id FROM renewals WHERE grant_id = $24 ORDER BY id DESC LIMIT 1 OFFSET $27)
	)
	INSERT INTO renewals (` + vault.RenewalColumns + `)
		SELECT $1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18 FROM replaced
		RETURNING id, (SELECT revision FROM replaced)`

// Replace implements auth.Vault.
func (db *DB) Replace(ctx context.Context, owner string, g *auth.Grant, r *auth.Renewal) error {
	sealed, err := db.Sealer.Seal(g)
	if err != nil {
		return err
	}
	stored := *g
	err = db.one(ctx, into(&r.ID, &stored.Revision), replaceGrant, append(vault.RenewalValues(r), sealed, g.Generation, vault.State(g),
		vault.Micros(g.DueAt), vault.Micros(vault.Latest(g)), g.ID, r.From(), owner, auth.KeptRenewals-1, g.SID())...)
	if err == nil {
		db.opened.Written(&stored)
		g.Revision = stored.Revision
	}
	return db.rewritten(ctx, g.ID, err)
}

// Amend implements auth.Vault. It does not wait for the server's disk: should what it writes be lost with the server, the grant is as it
// was before, and what was to be settled is settled again.
func (db *DB) Amend(ctx context.Context, g *auth.Grant, r *auth.Renewal) error {
	sealed, err := db.Sealer.Seal(g)
	if err != nil {
		return err
	}
	var revision int64
	err = db.one(ctx, into(&revision), `WITH unhurried AS (
			SELECT set_config('synchronous_commit', 'off', true)
		), amended AS (
			UPDATE grants SET sealed = $3, state = $4, due_at = $5, sid = $11, revision = `+nextRevision+`,
				presenting_at = CASE $4 WHEN 'ended' THEN 0 ELSE presenting_at END
			WHERE id = $1 AND revision = $2 RETURNING id, revision
		), noted AS (
			UPDATE renewals SET outcome = $7, code = $8, detail = $9, warning = $10 FROM amended
			WHERE grant_id = amended.id AND renewals.id = $6
		)
		SELECT revision FROM amended, unhurried`, g.ID, g.Revision, sealed, vault.State(g), vault.Micros(g.DueAt),
		r.ID, r.Outcome, r.Code, r.Detail, r.Warning, g.SID())
	if err == nil {
		g.Revision = revision
	}
	return db.rewritten(ctx, g.ID, err)
}

// rewritten announces a write, or finds out why it met no row: ErrStale, or ErrNotFound when the grant is gone.
func (db *DB) rewritten(ctx context.Context, id string, err error) error {
	if err == nil {
		db.news.add(id)
		return nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	var exists bool
	if err := db.one(ctx, into(&exists), `SELECT EXISTS (SELECT 1 FROM grants WHERE id = $1)`, id); err != nil {
		return err
	}
	if !exists {
		return auth.ErrNotFound
	}
	return auth.ErrStale
}

// Delete implements auth.Vault.
func (db *DB) Delete(ctx context.Context, id string) (*auth.Grant, error) {
	return db.remove(ctx, `DELETE FROM grants WHERE id = $1 RETURNING `+grantColumns, id)
}

// remove runs a statement that removes a grant, whose id is $1, and returns it.
func (db *DB) remove(ctx context.Context, statement, id string, args ...any) (*auth.Grant, error) {
	g, err := db.grant(ctx, statement, append([]any{id}, args...)...)
	if errors.Is(err, auth.ErrUnreadable) {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	db.opened.Forget(id) // its tokens have no business in memory any more
	db.news.add(id)
	return g, nil
}

// History implements auth.Vault.
func (db *DB) History(ctx context.Context, id string, before int64, limit int) ([]auth.Renewal, error) {
	if before <= 0 {
		before = 1<<63 - 1
	}
	return many(ctx, db, vault.ScanRenewals, `SELECT id, `+vault.RenewalColumns+` FROM renewals
		WHERE grant_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3`, id, before, limit)
}

// Shared implements auth.Vault.
func (db *DB) Shared(ctx context.Context, id string, generation int64, n int) error {
	_, err := db.exec(ctx, `WITH noted AS (
			UPDATE renewals SET shared = shared + $3 WHERE grant_id = $1 AND id =
				(SELECT max(id) FROM renewals WHERE grant_id = $1 AND generation = $2)
		)
		UPDATE grants SET revision = `+nextRevision+` WHERE id = $1`,
		id, generation, n)
	return err
}
