// Package sqlite keeps grants and sessions in one SQLite file.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	driver "modernc.org/sqlite" // and the driver named "sqlite"

	"keyturn/auth/vault"
	"keyturn/auth/vault/filelock"
	"keyturn/auth/vault/owners"
)

//go:embed migrations/*.sql
var migrations embed.FS

// readers bounds the connections that read at once; SQLite has one writer anyway.
const readers = 8

// Options are what a database is opened with.
type Options struct {
	Path        string
	Sealer      vault.Sealer
	Existing    bool          // neither make nor migrate the file
	SessionIdle time.Duration // a session unseen for this long is gone; 0: never
	Now         func() time.Time
	Log         *slog.Logger
}

// DB is an open database: the vault of grants and, through Sessions, the store of sessions. It is safe for
// concurrent use, and other processes may have the same file open.
type DB struct {
	Options
	file     fs.FileInfo // what is open
	read     *sql.DB
	write    *sql.DB
	writer   *writer
	index    *walIndex
	cache    *cache
	opened   vault.Opened
	get      *sql.Stmt
	find     *sql.Stmt
	marks    vault.Marks
	orphans  vault.Orphans
	owners   *owners.Owners
	steady   vault.Steadiness
	probe    vault.Probe
	stop     context.CancelFunc
	tidiness sync.WaitGroup
}

// Open opens the file, creating it readable by the owner only, migrates it and begins to keep it tidy until Close. With
// Existing it does neither of the first two: the error is fs.ErrNotExist or vault.ErrLacksMigration where that would be needed.
func Open(ctx context.Context, options Options) (*DB, error) {
	db := &DB{Options: options, opened: vault.NewOpened(), owners: owners.New(options.Path + ".owner-")}
	if err := db.open(ctx); err != nil {
		return nil, fmt.Errorf("open database %s: %w", options.Path, errors.Join(err, db.closePools()))
	}
	db.heedClock()
	db.report(db.freeLeases(ctx))
	ctx, db.stop = context.WithCancel(context.WithoutCancel(ctx))
	db.tidiness.Go(func() { vault.Upkeep(ctx, db.Log, db.oftenTidy, db.Tidy, db.writeMarks) })
	return db, nil
}

func (db *DB) open(ctx context.Context) error {
	flags, prepare := os.O_RDWR, func(ctx context.Context) error { return migrated(ctx, db.write) }
	if !db.Existing {
		flags, prepare = flags|os.O_CREATE, db.migrate
		if err := os.MkdirAll(filepath.Dir(db.Path), 0o700); err != nil {
			return err
		}
	}
	file, err := os.OpenFile(db.Path, flags, 0o600)
	if err != nil {
		return err
	}
	db.file, err = file.Stat()
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	// Where there is that call, a commit does not wait for the journal to note the file's time. It is as safe.
	_, _ = driver.Fdatasync(true)
	if db.write, err = sql.Open("sqlite", dsn(db.Path, "immediate")); err != nil {
		return err
	}
	db.write.SetMaxOpenConns(1)
	if err := prepare(ctx); err != nil {
		return err
	}
	db.closeToOthers() // not before it is known to be ours
	if db.read, err = sql.Open("sqlite", dsn(db.Path, "deferred")); err != nil {
		return err
	}
	db.read.SetMaxOpenConns(readers)
	db.read.SetMaxIdleConns(readers)
	if err := db.openReaders(ctx); err != nil {
		return err
	}
	if db.get, err = db.read.PrepareContext(ctx, selectGrant); err != nil {
		return err
	}
	if db.find, err = db.read.PrepareContext(ctx, selectSession); err != nil {
		return err
	}
	if db.index, err = openWALIndex(db.Path); err != nil {
		db.Log.Debug("rows are not cached on this system", "error", err)
	} else if db.cache, err = newCache(db.index); err != nil {
		return err
	}
	db.writer, err = newWriter(ctx, db.write, db.cache, &db.steady, newFlusher(db.flush), db.inPlace)
	return err
}

// openReaders opens all connections that read. One that was opened later might find another file at the path, and would read that with
// this one's write-ahead log, or write that log into it when it closes
// (https://sqlite.org/howtocorrupt.html, "Unlinking or renaming a database file while in use").
func (db *DB) openReaders(ctx context.Context) (err error) {
	for range readers {
		conn, failed := db.read.Conn(ctx)
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, conn.Close()) }() // only now: else it would be taken again
	}
	return nil
}

// closeToOthers takes from everybody but owner and group what a restored copy may have given them: names and addresses are not sealed.
func (db *DB) closeToOthers() {
	info, err := os.Stat(db.Path)
	if err != nil || runtime.GOOS == "windows" || info.Mode().Perm()&0o007 == 0 {
		return
	}
	mode := info.Mode().Perm() &^ 0o007
	err = os.Chmod(db.Path, mode)
	for _, beside := range []string{"-wal", "-shm"} {
		if failed := os.Chmod(db.Path+beside, mode); !errors.Is(failed, fs.ErrNotExist) {
			err = errors.Join(err, failed)
		}
	}
	db.Log.Warn("the database was open to every user of this machine", "file", db.Path, "was", info.Mode().Perm(), "is", mode, "error", err)
}

// dsn carries the pragmas, because they are per connection. A lost commit is a lost session: synchronous=FULL.
func dsn(path, txlock string) string {
	query := url.Values{"_txlock": {txlock}, "_pragma": {
		"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)",
	}}
	return "file:" + escaped(path) + "?" + query.Encode()
}

// escaped is a path as it stands in a URI.
func escaped(path string) string { return (&url.URL{Path: path}).EscapedPath() }

func (db *DB) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db.write, files)
	if err != nil {
		return err
	}
	// Not asking for the write lock without need lets Keyturn start while somebody else holds it.
	if pending, err := provider.HasPending(ctx); err == nil && !pending {
		return nil
	}
	alone, err := migrateAlone(ctx, filepath.Dir(db.Path))
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx) // whoever was first may have done it by now
	return errors.Join(err, alone.Release())
}

// migrateWait is how long another process is waited for that migrates a database in the same folder.
const migrateWait = 30 * time.Second

// migrateAlone waits until no other process migrates a database in the folder. It is the folder that is locked: SQLite's own locks on
// the file would be dropped with ours.
func migrateAlone(ctx context.Context, folder string) (*filelock.Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, migrateWait)
	defer cancel()
	for {
		lock, err := filelock.Try(folder)
		if !errors.Is(err, filelock.ErrHeld) {
			return lock, err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("the folder is locked by another process, which migrates a database or keeps everybody out: %w", ctx.Err())
		}
	}
}

// HoldsGrants says whether the file at path is a database with grants in it, without opening it for use.
func HoldsGrants(ctx context.Context, path string) (holds bool, err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	// The file may be anybody's: its journal's mode stays as it is. To read what a crash has left in a write-ahead log, and to leave nothing
	// beside the file, SQLite has to write.
	db, err := sql.Open("sqlite", "file:"+escaped(path)+"?mode=rw&_pragma=busy_timeout(5000)")
	if err != nil {
		return false, fmt.Errorf("look into %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'grants')`).Scan(&holds)
	if err == nil && holds {
		err = db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM grants)`).Scan(&holds)
	}
	if err != nil {
		return false, fmt.Errorf("look into %s: %w", path, err)
	}
	return holds, nil
}

// Close stores what is not yet stored and closes the file.
func (db *DB) Close() error {
	db.stop()
	db.tidiness.Wait()
	db.report(db.owners.Release())
	db.report(db.freeLeases(context.Background()))
	return db.closePools()
}

func (db *DB) closePools() error {
	var err error
	if db.writer != nil {
		err = db.writer.close()
	}
	for _, pool := range []*sql.DB{db.read, db.write} {
		if pool != nil {
			err = errors.Join(err, pool.Close())
		}
	}
	return err
}
