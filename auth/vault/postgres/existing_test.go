package postgres

import (
	"errors"
	"log/slog"
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
