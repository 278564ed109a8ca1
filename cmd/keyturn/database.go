package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	"keyturn/auth"
	"keyturn/auth/session"
	"keyturn/auth/vault"
	"keyturn/auth/vault/keyset"
	"keyturn/auth/vault/postgres"
	"keyturn/auth/vault/spool"
	"keyturn/auth/vault/sqlite"
)

// database is an open engine.
type database interface {
	auth.Vault
	Sessions() session.Store
	Ready(ctx context.Context) error
	Migrated(ctx context.Context) error
	Census(ctx context.Context) (vault.Census, error)
	Overdue(ctx context.Context, provider string, now time.Time, limit int) ([]auth.Candidate, error)
	Pool() vault.Pool
	SealedAfter(ctx context.Context, after string) (vault.Sealed, error)
	SealedBefore(ctx context.Context, before string) (vault.Sealed, error)
	Live(ctx context.Context, whose auth.Person, after string, limit int) ([]*auth.Grant, error)
	SessionValues(ctx context.Context) ([][]byte, error)
	Reseal(ctx context.Context) (resealed, unreadable int, err error)
	Close() error
}

// openVault opens the keyset and the database. A keyset is made only where there is nothing yet that another one sealed. An
// error is one line that names the setting.
func openVault(ctx context.Context, settings Settings, log *slog.Logger) (database, *keyset.File, error) {
	keys, err := keyset.Open(settings.KeysetFile)
	if errors.Is(err, keyset.ErrMissing) {
		holds, unseen := holdsGrants(ctx, settings)
		if unseen != nil {
			return nil, nil, unusable(settings, unseen)
		}
		keys, err = newKeyset(settings, holds)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("--keyset-file (KEYTURN_KEYSET_FILE): %w", err)
	}
	db, err := openDatabase(ctx, settings, keys, false, log)
	return db, keys, err
}

// openExistingVault is openVault for a command, which makes and migrates nothing: a mistyped data dir is easily taken for the right one.
func openExistingVault(ctx context.Context, settings Settings, log *slog.Logger) (database, *keyset.File, error) {
	keys, err := keyset.Open(settings.KeysetFile)
	if errors.Is(err, keyset.ErrMissing) {
		err = fmt.Errorf("%w; is %s right? The server makes it when it starts", err, settings.whereSet("data-dir"))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("--keyset-file (KEYTURN_KEYSET_FILE): %w", err)
	}
	db, err := openDatabase(ctx, settings, keys, true, log)
	return db, keys, err
}

// openDatabase opens the database, and looks whether the keyset is the one that it needs.
func openDatabase(ctx context.Context, settings Settings, keys *keyset.File, existing bool, log *slog.Logger) (database, error) {
	db, err := openEngine(ctx, settings, vault.Sealer{Keys: keys}, existing, log)
	missing := settings.Database.Engine == engineSQLite && errors.Is(err, fs.ErrNotExist)
	if existing && (missing || errors.Is(err, vault.ErrLacksMigration)) {
		err = fmt.Errorf("%w; start the server first", err)
	}
	if err != nil {
		return nil, unusable(settings, err)
	}
	var unknown vault.UnknownKeyError
	switch err = checkKeys(ctx, settings.SessionLifetime, keys, db); {
	case errors.As(err, &unknown):
		return nil, errors.Join(oneLine(fmt.Errorf("--keyset-file (KEYTURN_KEYSET_FILE): %s: %w; bring back the keyset of this database",
			settings.KeysetFile, err)), db.Close())
	case err != nil:
		return nil, errors.Join(unusable(settings, err), db.Close())
	}
	return db, nil
}

// checkKeys looks whether the keyset opens what was sealed lately, and what was sealed for a session that is as old as may be.
func checkKeys(ctx context.Context, lifetime time.Duration, keys *keyset.File, db database) error {
	age := rand.N(max(lifetime, time.Second)) //nolint:gosec // a sample
	return vault.CheckKeys(keys.Has, func(before string) (vault.Sealed, error) { return db.SealedBefore(ctx, before) }, time.Now().Add(-age))
}

func openEngine(ctx context.Context, settings Settings, sealer vault.Sealer, existing bool, log *slog.Logger) (database, error) {
	if settings.Database.Engine == enginePostgres {
		owners := filepath.Join(settings.DataDir, "lease.owner-")
		if existing { // a command, which is nobody's heir
			owners = ""
		}
		return postgres.Open(ctx, postgres.Options{
			URL: settings.Database.URL, Existing: existing, Sealer: sealer, Owners: owners, SessionIdle: settings.SessionIdle, Now: time.Now, Log: log,
		})
	}
	return sqlite.Open(ctx, sqlite.Options{
		Path: settings.Database.Path, Existing: existing, Sealer: sealer, SessionIdle: settings.SessionIdle, Now: time.Now, Log: log,
	})
}

func holdsGrants(ctx context.Context, settings Settings) (bool, error) {
	if settings.Database.Engine == enginePostgres {
		return postgres.HoldsGrants(ctx, settings.Database.URL)
	}
	return sqlite.HoldsGrants(ctx, settings.Database.Path)
}

// unusable says which database cannot be used and why, without its password. A driver's words may take several lines.
func unusable(settings Settings, err error) error {
	if settings.Database.Engine == engineSQLite {
		err = onFullDisk(filepath.Dir(settings.Database.Path), err)
	}
	why := strings.Join(strings.Fields(err.Error()), " ")
	return oneLine(fmt.Errorf("%s: %s cannot be used: %s", settings.whereSet("database"), shown(settings.Database.String()), why))
}

// onFullDisk says of what kept SQLite from a file in a folder if it is that the disk is full: SQLite's own words are of an I/O error, or of
// a table that is not there.
func onFullDisk(folder string, err error) error {
	if spool.Full(folder) {
		return fmt.Errorf("the disk is full, there is no room left in %q: %w", folder, err)
	}
	return err
}

func newKeyset(settings Settings, sealedBefore bool) (*keyset.File, error) {
	if sealedBefore {
		return nil, fmt.Errorf("%w: %s; the database holds grants that it sealed, and a new keyset would not open them: "+
			"bring it back, or move the database away", keyset.ErrMissing, settings.KeysetFile)
	}
	if err := keyset.Create(settings.KeysetFile); err != nil {
		return nil, err
	}
	return keyset.Open(settings.KeysetFile)
}
