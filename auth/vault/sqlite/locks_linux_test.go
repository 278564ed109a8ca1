package sqlite

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"keyturn/auth/vault"
	"keyturn/auth/vault/vaulttest"
)

// SQLite holds a lock on the WAL-index for as long as it has the file open; whoever opens the file and finds none empties the WAL-index
// under everybody else (https://sqlite.org/walformat.html, section 2.3.1).
func TestSQLiteKeepsItsLockOnTheWALIndex(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	if db.cache == nil {
		t.Fatal("rows are not cached here")
	}
	file, err := os.Open(db.Path + "-shm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() }) // not before the end: closing it drops the locks
	const openFileLocks, deadMansSwitch = 36, 128
	ask := syscall.Flock_t{Type: syscall.F_WRLCK, Start: deadMansSwitch, Len: 1}
	if err := syscall.FcntlFlock(file.Fd(), openFileLocks, &ask); err != nil {
		t.Fatal(err)
	}
	if ask.Type != syscall.F_RDLCK {
		t.Errorf("the lock is of type %d, want a reader's", ask.Type)
	}
}

// Processes that start together on an empty file wait for the one that makes the tables.
func TestFilesAreMigratedByOneAtATime(t *testing.T) {
	t.Parallel()
	sealer := vault.Sealer{Keys: vaulttest.Keyset(t)}
	for range 5 {
		path := filepath.Join(t.TempDir(), "keyturn.db")
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				db, err := Open(context.Background(), Options{Path: path, Sealer: sealer, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() { _ = db.Close() })
			})
		}
		all.Wait()
	}
}
