package postgres

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/vault"
	"keyturn/auth/vault/postgres/pgtest"
	"keyturn/auth/vault/vaulttest"
)

func TestAnExistingDatabaseIsNotMigrated(t *testing.T) {
	t.Parallel()
	url, keys := pgtest.Database(t), vaulttest.Keyset(t)
	options := Options{
		URL: auth.Secret(url + "&connect_timeout=30"), Existing: true, Sealer: vault.Sealer{Keys: keys}, Now: time.Now,
		Log: slog.New(slog.DiscardHandler),
	}
	for range 2 { // the first leaves nothing behind
		if _, err := Open(t.Context(), options); !errors.Is(err, vault.ErrLacksMigration) {
			t.Fatalf("without a schema: %v", err)
		}
	}
	migrated := connect(t, url, keys)
	existing, err := Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	if err := existing.Close(); err != nil {
		t.Error(err)
	}
	if _, err := migrated.exec(t.Context(), `DELETE FROM goose_db_version WHERE version_id > 2`); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), options); !errors.Is(err, vault.ErrLacksMigration) {
		t.Errorf("without the last migration: %v", err)
	}
}

// Since PostgreSQL 15 nobody but a database's owner may make tables in it.
func TestARoleThatMayMakeNoTablesIsToldSo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ made, says string }{
		{"SELECT 1", "may create no tables in the schema public: GRANT CREATE ON SCHEMA public TO role_"},
		{
			"GRANT CREATE ON SCHEMA public TO $role; ALTER ROLE $role SET default_transaction_read_only = on",
			"can write nothing, because default_transaction_read_only is on",
		},
		{"ALTER ROLE $role SET search_path = nowhere", "(nowhere) has no schema in it that exists"},
	} {
		database := ofRole(t, pgtest.Database(t), "CREATE ROLE $role LOGIN", c.made)
		_, err := Open(t.Context(), Options{URL: auth.Secret(database), Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.made, err)
		}
	}
	granted := ofRole(t, pgtest.Database(t), "CREATE ROLE $role LOGIN", "GRANT CREATE ON SCHEMA public TO $role")
	create(t, connect(t, granted, vaulttest.Keyset(t)))
}

// A right that is taken away later is missed before somebody needs it.
func TestARoleThatLacksAPrivilegeIsNotReady(t *testing.T) {
	t.Parallel()
	role := ofRole(t, pgtest.Database(t), "CREATE ROLE $role LOGIN", "GRANT CREATE ON SCHEMA public TO $role")
	db := connect(t, role, vaulttest.Keyset(t))
	if err := db.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, right := range []string{"UPDATE ON grants", "DELETE ON used_tokens", "INSERT ON renewals", "SELECT ON sessions", "EXECUTE ON FUNCTION keyturn_now()"} {
		if _, err := db.pool.Exec(t.Context(), "REVOKE "+right+" FROM current_user, PUBLIC"); err != nil {
			t.Fatal(err)
		}
		if err := db.Ready(t.Context()); err == nil {
			t.Errorf("without %s: %v", right, err)
		}
		if _, err := db.pool.Exec(t.Context(), "GRANT "+right+" TO current_user"); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

// Where the schema is another role's, the one that was given nothing of it learns what it needs.
func TestARoleThatWasGivenNothingLearnsWhatItNeeds(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	connect(t, database, vaulttest.Keyset(t))
	role := ofRole(t, database, "CREATE ROLE $role LOGIN")
	_, err := Open(t.Context(), Options{URL: auth.Secret(role), Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES") {
		t.Errorf("opened: %v", err)
	}
	if _, err := HoldsGrants(t.Context(), auth.Secret(role)); err == nil || !strings.Contains(err.Error(), "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES") {
		t.Errorf("looked into: %v", err)
	}
}
