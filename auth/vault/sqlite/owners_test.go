package sqlite

import (
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/vault/vaulttest"
)

// second opens the same file as another process would.
func second(t *testing.T, db testDB) *DB {
	t.Helper()
	other, err := Open(t.Context(), Options{
		Path: db.Path, Sealer: db.Sealer, SessionIdle: db.SessionIdle, Now: db.clock.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return other
}

// locked locks the file as another process would, with a transaction of the given kind, until unlock or the test's end.
func locked(t *testing.T, db testDB, kind string) (unlock func()) {
	t.Helper()
	locker, err := sql.Open("sqlite", dsn(db.Path, kind))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = locker.Close() })
	lock, err := locker.Begin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Rollback() })
	return func() {
		if err := lock.Rollback(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheLeaseOfADeadProcessIsFreeAtOnce(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	g := create(t, db)
	other := second(t, db)
	if _, err := other.Lease(t.Context(), g.ID, "other", time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := db.freeLeases(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Lease(t.Context(), g.ID, "me", time.Minute); !errors.Is(err, auth.ErrLeased) {
		t.Fatalf("the lease of a living process: %v, want ErrLeased", err)
	}
	// What the system does when a process is killed.
	if err := other.owners.Release(); err != nil {
		t.Fatal(err)
	}
	if err := db.freeLeases(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Lease(t.Context(), g.ID, "me", time.Minute); err != nil {
		t.Errorf("the lease of a dead process: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(db.Path), "*.owner-*"))
	if err != nil || len(left) > 1 {
		t.Errorf("%d owners' files are left, %v; want one at most", len(left), err)
	}
}

func TestOpeningDoesNotNeedTheWriteLock(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	locked(t, db, "exclusive")
	if err := second(t, db).Close(); err != nil {
		t.Error(err)
	}
}

// Whoever was locked out could not extend a lease, and may have an answer to store.
func TestAfterALockALeaseThatRanOutIsItsHoldersFirst(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	other := second(t, db)
	t.Cleanup(func() { _ = other.Close() })
	g := create(t, db)
	if _, err := db.Lease(t.Context(), g.ID, "holder", time.Second); err != nil {
		t.Fatal(err)
	}
	take := func() error {
		_, err := other.Lease(t.Context(), g.ID, "other", time.Second)
		return err
	}
	db.clock.Advance(time.Minute)
	other.steady.Reset() // it is the lock that the lease is left alone for, and not the clock
	unlock := locked(t, db, "immediate")
	took := make(chan error)
	go func() { took <- take() }()
	time.Sleep(lockedLong + 200*time.Millisecond)
	unlock()
	if err := <-took; !errors.Is(err, auth.ErrLeased) {
		t.Errorf("who waited for the lock: %v, want ErrLeased", err)
	}
	if _, err := db.Lease(t.Context(), g.ID, "holder", time.Second); err != nil {
		t.Errorf("the holder: %v", err)
	}
	db.clock.Advance(time.Minute)
	other.steady.Reset()
	if err := take(); err != nil {
		t.Errorf("later on: %v", err)
	}
}
