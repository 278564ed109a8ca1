package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"keyturn/auth/vault"
)

// Census counts what there is. It reads an index from its one end to the other: not for every request.
func (db *DB) Census(ctx context.Context) (c vault.Census, err error) {
	if c.Grants, err = db.count(ctx, `SELECT count(*) FROM grants INDEXED BY grants_person`); err != nil {
		return c, err
	}
	if c.Owed, err = db.count(ctx, `SELECT count(*) FROM owed_revocations INDEXED BY owed_revocations_turn`); err != nil {
		return c, err
	}
	c.Sessions, err = db.count(ctx, `SELECT count(*) FROM sessions INDEXED BY sessions_grant WHERE grant_id <> ''`)
	return c, err
}

func (db *DB) count(ctx context.Context, query string, args ...any) (n int64, err error) {
	if err := db.read.QueryRowContext(ctx, query, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count: %w", err)
	}
	return n, nil
}

// Pool tells of the connections that read.
func (db *DB) Pool() vault.Pool {
	s := db.read.Stats()
	return vault.Pool{InUse: s.InUse, Idle: s.Idle, Most: s.MaxOpenConnections, Waits: s.WaitCount, Waited: s.WaitDuration}
}

// Migrated says whether the database has the newest schema that this program knows, or a newer one.
func (db *DB) Migrated(ctx context.Context) error {
	return migrated(ctx, db.read)
}

func migrated(ctx context.Context, pool *sql.DB) error {
	var have int64
	var exists bool
	err := pool.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'goose_db_version')`).Scan(&exists)
	if err == nil && exists {
		err = pool.QueryRowContext(ctx, vault.SchemaVersion).Scan(&have)
	}
	if err != nil {
		return fmt.Errorf("look for migrations: %w", err)
	}
	return vault.Migrated(migrations, have)
}
