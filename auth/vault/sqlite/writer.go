package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	driver "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"keyturn/auth/vault"
)

// group is how many waiting writes go into one transaction. The disk is waited for once for all of them.
const group = 64

var errClosed = errors.New("the database is closed")

// writer is the one connection that writes. Writes that wait go into one transaction together, each under a savepoint of its
// own, and none is answered before that transaction is on disk.
type writer struct {
	conn     *sql.Conn
	cache    *cache
	steady   *vault.Steadiness
	flusher  *flusher
	inPlace  func() error // what is written now is there for the next process
	prepared map[string]*sql.Stmt
	light    bool // the transaction's commit does not wait for the disk
	changed  bool // it changes rows: what changes none has the disk take nothing
	kept     *row // what the write that runs leaves of its only row
	waiting  chan *write
	closed   chan struct{} // ends the loop
	ended    chan struct{} // the loop has ended
}

// write is one write that somebody waits for.
type write struct {
	run    func(tx *writer) error
	rows   []key       // that it changes; none: any
	leaves *row        // of its only row, if it says that
	light  bool        // it is answered before the disk has it
	taken  atomic.Bool // by the writer, or by whoever gave up waiting
	done   chan error
}

func newWriter(ctx context.Context, pool *sql.DB, rows *cache, steady *vault.Steadiness, flusher *flusher, inPlace func() error) (*writer, error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, err
	}
	w := &writer{
		conn: conn, cache: rows, steady: steady, flusher: flusher, inPlace: inPlace, prepared: map[string]*sql.Stmt{},
		waiting: make(chan *write, group), closed: make(chan struct{}), ended: make(chan struct{}),
	}
	go w.loop()
	return w, nil
}

func (w *writer) close() error {
	close(w.closed)
	<-w.ended
	var errs []error
	for _, statement := range w.prepared {
		errs = append(errs, statement.Close())
	}
	return errors.Join(append(errs, w.conn.Close())...)
}

func (w *writer) loop() {
	defer close(w.ended)
	for {
		var batch []*write
		select {
		case first := <-w.waiting:
			batch = append(batch, first)
		case <-w.closed:
			return
		}
		for more := true; more && len(batch) < group; {
			select {
			case next := <-w.waiting:
				batch = append(batch, next)
			default:
				more = false
			}
		}
		w.together(batch)
	}
}

// together runs a batch in one transaction and answers it.
func (w *writer) together(batch []*write) {
	ran := batch[:0]
	results := make([]error, 0, len(batch))
	w.changed = false
	err := w.begin(batch)
	w.cache.begin()
	for _, one := range batch {
		if one.taken.Swap(true) {
			continue // nobody waits for it any more
		}
		ran = append(ran, one)
		if err == nil {
			var result error
			if len(batch) == 1 {
				result = w.run(one)
				err = result // there is nothing else in the transaction to keep
			} else {
				result, err = w.one(one)
			}
			if err == nil {
				results = append(results, result)
			}
		}
	}
	if err == nil {
		err = w.exec("COMMIT")
	}
	if err == nil && (w.light || w.changed) {
		w.flusher.committed(w.light)
	}
	if err != nil {
		_ = w.exec("ROLLBACK") // fails where SQLite has done it already
	}
	if unwritable(err) {
		w.steady.Wait(vault.AfterOutage)
	}
	w.cache.end(w.others, ran, err == nil)
	for i, one := range ran {
		if err != nil {
			one.done <- err
		} else {
			one.done <- results[i]
		}
	}
}

// begin begins a transaction for a batch. The disk is waited for unless all of the batch is light: synchronous=NORMAL leaves out
// nothing but that (https://sqlite.org/pragma.html#pragma_synchronous), and the next commit with FULL makes up for it, or the flusher.
func (w *writer) begin(batch []*write) error {
	if err := w.inPlace(); err != nil {
		w.steady.Wait(vault.AfterOutage) // nobody can extend a lease meanwhile
		return err
	}
	light := !slices.ContainsFunc(batch, func(one *write) bool { return !one.light })
	if light != w.light {
		level := "FULL"
		if light {
			level = "NORMAL"
		}
		if err := w.exec("PRAGMA synchronous=" + level); err != nil {
			return err
		}
		w.light = light
	}
	began := time.Now()
	err := w.exec("BEGIN IMMEDIATE")
	if time.Since(began) > lockedLong {
		w.steady.Wait(vault.AfterOutage)
	}
	return err
}

// lockedLong is how long somebody else has had the file for himself when other processes' leases may have run out.
const lockedLong = time.Second

// unwritable says that the file could not be written to: locked by somebody else, on a full disk, or what else keeps SQLite from it.
func unwritable(err error) bool {
	var failed *driver.Error
	return errors.As(err, &failed) && failed.Code()&0xff != codes.SQLITE_CONSTRAINT
}

// one runs one write under a savepoint. result is the write's own error, err the transaction's.
func (w *writer) one(one *write) (result, err error) {
	if err := w.exec("SAVEPOINT one"); err != nil {
		return nil, err
	}
	changed := w.changed
	if result = w.run(one); result != nil {
		w.changed = changed
		if err := w.exec("ROLLBACK TO one"); err != nil {
			return nil, errors.Join(result, err)
		}
	}
	return result, w.exec("RELEASE one")
}

// run runs one write, and turns a panic into an error.
func (w *writer) run(one *write) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("write: panic: %v", p)
		}
		if err == nil {
			one.leaves = w.kept
		}
		w.kept = nil
	}()
	return one.run(w)
}

// keep says what the write that runs leaves of the row that it changes.
func (w *writer) keep(r row) { w.kept = &r }

// exec runs a statement that changes no rows.
func (w *writer) exec(statement string) error {
	prepared, err := w.prepare(statement) //nolint:sqlclosecheck // it is closed with the writer
	if err == nil {
		_, err = prepared.ExecContext(context.Background())
	}
	return err
}

// Exec runs a statement of the transaction. Its context is none of the caller's: SQLite ends the whole transaction with a
// statement that is interrupted.
func (w *writer) Exec(statement string, args ...any) (sql.Result, error) {
	prepared, err := w.prepare(statement) //nolint:sqlclosecheck // it is closed with the writer
	if err != nil {
		return nil, err
	}
	result, err := prepared.ExecContext(context.Background(), args...)
	if err == nil {
		n, _ := result.RowsAffected()
		w.changed = w.changed || n > 0
	}
	return result, err
}

// QueryRow reads one row in the transaction.
func (w *writer) QueryRow(statement string, args ...any) vault.Row {
	prepared, err := w.prepare(statement) //nolint:sqlclosecheck // it is closed with the writer
	if err != nil {
		return failedRow{err}
	}
	return prepared.QueryRowContext(context.Background(), args...)
}

// others is a number that changes when another connection commits, and never for this one's own commits
// (https://sqlite.org/pragma.html#pragma_data_version).
func (w *writer) others() (version int64, err error) {
	err = w.QueryRow("PRAGMA data_version").Scan(&version)
	return version, err
}

func (w *writer) prepare(statement string) (*sql.Stmt, error) {
	if prepared := w.prepared[statement]; prepared != nil {
		return prepared, nil
	}
	prepared, err := w.conn.PrepareContext(context.Background(), statement)
	if err == nil {
		w.prepared[statement] = prepared
	}
	return prepared, err
}

// failedRow is a row that could not be read.
type failedRow struct{ err error }

func (r failedRow) Scan(...any) error { return r.err }

// inTx runs a write that changes the given rows of sessions and grants, or any if none is given. It is on disk when inTx returns
// without an error. When ctx is done before the write has begun, it does not run.
func (db *DB) inTx(ctx context.Context, run func(tx *writer) error, rows ...key) error {
	return db.queue(ctx, &write{run: run, rows: rows, done: make(chan error, 1)})
}

// inLightTx is inTx without a wait for the disk, for leases, marks and what else is easily done again: only a machine that dies within
// flushSoon loses it.
func (db *DB) inLightTx(ctx context.Context, run func(tx *writer) error, rows ...key) error {
	return db.queue(ctx, &write{run: run, rows: rows, light: true, done: make(chan error, 1)})
}

func (db *DB) queue(ctx context.Context, w *write) error {
	select {
	case db.writer.waiting <- w:
	case <-ctx.Done():
		return ctx.Err()
	case <-db.writer.ended:
		return errClosed
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		if !w.taken.Swap(true) {
			return ctx.Err()
		}
	case <-db.writer.ended:
		if !w.taken.Swap(true) {
			return errClosed
		}
	}
	return <-w.done
}
