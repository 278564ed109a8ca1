package postgres

import (
	"context"
	"fmt"

	"keyturn/auth/vault"
)

// censusExact is up to how many rows a census counts. Beyond, PostgreSQL's own estimate is good enough: a count would read them all.
const censusExact = 200_000

// Census counts what there is, or estimates it when that is much.
func (db *DB) Census(ctx context.Context) (c vault.Census, err error) {
	rows := func(index, exact string) (int64, error) {
		return db.count(ctx, `SELECT CASE WHEN reltuples > $1 THEN reltuples::bigint ELSE (`+exact+`) END
			FROM pg_class WHERE oid = to_regclass($2)`, censusExact, index)
	}
	if c.Grants, err = rows("grants_pkey", `SELECT count(*) FROM grants`); err != nil {
		return c, err
	}
	if c.Owed, err = rows("owed_revocations_pkey", `SELECT count(*) FROM owed_revocations`); err != nil {
		return c, err
	}
	c.Sessions, err = rows("sessions_grant", `SELECT count(*) FROM sessions WHERE grant_id <> ''`)
	return c, err
}

func (db *DB) count(ctx context.Context, query string, args ...any) (n int64, err error) {
	if err := db.one(ctx, into(&n), query, args...); err != nil {
		return 0, fmt.Errorf("count: %w", err)
	}
	return n, nil
}

// Pool tells of the connections.
func (db *DB) Pool() vault.Pool {
	s := db.pool.Stat()
	return vault.Pool{
		InUse: int(s.AcquiredConns()), Idle: int(s.IdleConns()), Most: int(s.MaxConns()), Waits: s.EmptyAcquireCount(),
		Waited: s.EmptyAcquireWaitTime(),
	}
}

// Migrated says whether the database has the newest schema that this program knows, or a newer one.
func (db *DB) Migrated(ctx context.Context) error {
	have, err := db.count(ctx, vault.SchemaVersion)
	if err != nil {
		return err
	}
	return vault.Migrated(migrations, have)
}
