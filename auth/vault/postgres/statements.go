package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"keyturn/auth"
	"keyturn/auth/vault"
)

// afterStart is how long leases that ran out are left alone by a process that has just started: it does not know what was before.
const afterStart = 6 * time.Second

// queueWait is how long a read may wait for its turn while the database is well. Otherwise it is statementWait.
const queueWait = 8 * time.Second

// bounded runs something at the database within statementWait. It goes on when the caller hangs up, because the driver would
// close the connection; the caller's deadline holds. Connections may have gone dead without a word when something takes too long for the
// first time, or while nobody else had an answer either: they are not waited for one by one.
func (db *DB) bounded(ctx context.Context, run func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	deadline := time.Now().Add(statementWait)
	if earlier, ok := ctx.Deadline(); ok && earlier.Before(deadline) {
		deadline = earlier
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	heard := db.answers.Load()
	err := run(ctx)
	// The server gives this process no further connection. One that it has will be free in a moment.
	for wait := crowdedWait; crowded(err) && rested(ctx, wait); wait = min(2*wait, crowdedMost) {
		err = run(ctx)
	}
	silent := slow(err) && (db.steady.Steady() || db.answers.Load() == heard)
	if !outOfReach(err) {
		db.answers.Add(1)
	}
	if outOfReach(err) || unwritable(err) {
		db.steady.Wait(vault.AfterOutage)
	}
	if answered(err, diskFull) {
		db.full.Store(time.Now().UnixNano())
	}
	if answered(err, diskFull, readOnly) {
		err = fmt.Errorf("%w: %w", auth.ErrUnwritable, err)
	}
	if broken(err) || silent {
		// The other connections have ended too, most likely. Whoever comes next makes a new one.
		db.pool.Reset()
	}
	return err
}

// crowdedWait is how long a statement waits for a connection before it tries to get one again, at first and at most.
const (
	crowdedWait = 20 * time.Millisecond
	crowdedMost = 300 * time.Millisecond
)

// rested waits for about d, and says whether ctx goes on after that.
func rested(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d/2 + rand.N(d)): //nolint:gosec // spreads load; nothing secret depends on it
		return true
	case <-ctx.Done():
		return false
	}
}

// crowded says that there was no connection to run a statement on, because the server has given out all that it may.
func crowded(err error) bool {
	var dial *pgconn.ConnectError
	var answer *pgconn.PgError
	return errors.As(err, &dial) && errors.As(err, &answer) && answer.Code == "53300"
}

// broken says that a connection ended which was there. One that is only slow is no reason to give up the others.
func broken(err error) bool {
	var dial *pgconn.ConnectError
	return outOfReach(err) && !slow(err) && !errors.As(err, &dial)
}

// slow says that there was no answer in time.
func slow(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}

// queued runs a read in its turn, and once more if its connection ends. Reads leave a quarter of the connections free: however many people
// ask, leases are extended, and what a renewal brought is stored.
func (db *DB) queued(ctx context.Context, read func(context.Context) error) error {
	wait := queueWait
	if !db.steady.Steady() {
		wait = statementWait
	}
	patience, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	select {
	case db.readers <- struct{}{}:
	case <-patience.Done():
		return fmt.Errorf("wait for a connection: %w", patience.Err())
	}
	defer func() { <-db.readers }()
	err := read(ctx)
	if broken(err) { // before it came to this read, perhaps long ago
		err = read(ctx)
	}
	return err
}

// outOfReach says that an error is not the database's answer, or its answer that it ends.
func outOfReach(err error) bool {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		// Class 57P: shut down, starting up or crashed; class 08: connection exception.
		return strings.HasPrefix(answer.Code, "57P") || strings.HasPrefix(answer.Code, "08")
	}
	var dial *pgconn.ConnectError
	var network net.Error // a deadline's error is one too
	return errors.As(err, &dial) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, pgconn.ErrConnClosed)
}

// unwritable says that the database answers that it can write nothing now, or not in time.
func unwritable(err error) bool {
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return false
	}
	switch answer.Code {
	case readOnly, "55P03", "57014": // a lock that cannot be had; a statement that took too long
		return true
	}
	// Class 53: no room or no memory; class 58: the system failed.
	return strings.HasPrefix(answer.Code, "53") || strings.HasPrefix(answer.Code, "58")
}

// What the database answers that takes no writes, whoever asks.
const (
	readOnly = "25006"
	diskFull = "53100"
)

// answered says that an error is the database's answer, with one of the codes.
func answered(err error, codes ...string) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && slices.Contains(codes, answer.Code)
}

// exec runs one statement, which is a transaction of its own, and says how many rows it met.
func (db *DB) exec(ctx context.Context, statement string, args ...any) (n int64, err error) {
	err = db.bounded(ctx, func(ctx context.Context) error {
		tag, err := db.pool.Exec(ctx, statement, args...)
		n = tag.RowsAffected()
		return err
	})
	return n, err
}

// one reads one row; sql.ErrNoRows when there is none.
func (db *DB) one(ctx context.Context, read func(vault.Row) error, statement string, args ...any) error {
	return db.bounded(ctx, func(ctx context.Context) error { return read(db.pool.QueryRow(ctx, statement, args...)) })
}

// into is a reader of one row's columns.
func into(dest ...any) func(vault.Row) error {
	return func(row vault.Row) error { return row.Scan(dest...) }
}

// many reads rows, in their turn.
func many[T any](
	ctx context.Context, db *DB, read func(vault.Rows) ([]T, error), statement string, args ...any,
) (list []T, err error) {
	err = db.queued(ctx, func(ctx context.Context) error {
		return db.bounded(ctx, func(ctx context.Context) error {
			rows, err := db.pool.Query(ctx, statement, args...)
			if err != nil {
				return err
			}
			defer rows.Close()
			list, err = read(rows)
			return err
		})
	})
	return list, err
}
