package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"keyturn/auth"
	"keyturn/auth/authtest"
	"keyturn/auth/session"
	"keyturn/auth/vault"
	"keyturn/auth/vault/postgres/pgtest"
	"keyturn/auth/vault/vaulttest"
)

// ranOut is a grant whose holder has let its lease run out, as far as the other knows without a reason.
func ranOut(t *testing.T, holder, other *DB) *auth.Grant {
	t.Helper()
	g := create(t, holder)
	if _, err := holder.Lease(t.Context(), g.ID, "holder", time.Millisecond); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	other.calm()
	return g
}

// locked is a transaction of somebody else's that holds a lock.
func locked(t *testing.T, operator *pgx.Conn, lock string) pgx.Tx {
	t.Helper()
	tx, err := operator.Begin(t.Context())
	if err == nil {
		_, err = tx.Exec(t.Context(), lock)
	}
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

// A database that answers, and takes no writes, keeps holders from extending their leases as well as one that is gone.
func TestAfterWritesFailedALeaseThatRanOutIsItsHoldersFirst(t *testing.T) {
	t.Parallel()
	database, keys := pgtest.Database(t), vaulttest.Keyset(t)
	holder, other := connect(t, database, keys), connect(t, database, keys)
	for code, waits := range map[string]bool{
		"25006": true, "53100": true, "55P03": true, "57014": true, "58030": true, // read-only, full, locked, too slow, a disk that fails
		"22012": false, // a division by zero
	} {
		g := ranOut(t, holder, other)
		if _, err := other.exec(t.Context(), fmt.Sprintf(`DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '%s'; END $$`, code)); err == nil {
			t.Fatal("nothing failed")
		}
		if _, err := other.Lease(t.Context(), g.ID, "other", time.Second); errors.Is(err, auth.ErrLeased) != waits {
			t.Errorf("after %s: %v", code, err)
		}
	}
}

// A process may start within an outage, and wait for its end.
func TestAProcessLeavesLeasesAloneFromWhenItHasTheDatabase(t *testing.T) {
	t.Parallel()
	w := newWire(t, pgtest.Database(t))
	w.delay = 2 * time.Second
	db := connect(t, w.url, vaulttest.Keyset(t))
	if left := db.steady.Left(); left < afterStart-w.delay {
		t.Errorf("leases are left alone for %v more", left)
	}
}

// Nothing fails when a statement only has to wait. The holder had to wait as long, behind an index that was built, say.
func TestBehindALockALeaseThatRanOutIsItsHoldersFirst(t *testing.T) {
	t.Parallel()
	database, keys := pgtest.Database(t), vaulttest.Keyset(t)
	holder, other := connect(t, database, keys), connect(t, database, keys)
	operator := operatorOf(t, database)
	for _, lock := range []string{
		`LOCK TABLE grants IN SHARE MODE`, `LOCK TABLE grants IN ACCESS EXCLUSIVE MODE`, `SELECT * FROM grants FOR UPDATE`,
	} {
		g := ranOut(t, holder, other)
		tx := locked(t, operator, lock)
		maintained := make(chan error)
		time.AfterFunc(1500*time.Millisecond, func() { maintained <- tx.Commit(t.Context()) })
		if _, err := other.Lease(t.Context(), g.ID, "other", time.Second); err == nil {
			t.Errorf("%s: the lease is taken", lock)
		}
		if err := <-maintained; err != nil {
			t.Fatal(err)
		}
		if _, err := other.Lease(t.Context(), g.ID, "other", time.Second); !errors.Is(err, auth.ErrLeased) {
			t.Errorf("%s: after that: %v", lock, err)
		}
		if err := holder.Extend(t.Context(), g.ID, "holder", time.Second); err != nil {
			t.Errorf("%s: its holder: %v", lock, err)
		}
	}
}

// A lock may end in the very moment in which somebody waits for it, or before. What its holder tries again and again comes first.
func TestAfterALockTheHolderComesFirst(t *testing.T) {
	t.Parallel()
	database, keys := pgtest.Database(t), vaulttest.Keyset(t)
	holder, other := connect(t, database, keys), connect(t, database, keys)
	operator := operatorOf(t, database)
	for _, waits := range []time.Duration{300 * time.Millisecond, 0} {
		g := ranOut(t, holder, other)
		tx := locked(t, operator, `LOCK TABLE grants IN SHARE MODE`)
		maintained := make(chan error, 1)
		lifted := make(chan struct{})
		time.AfterFunc(waits, func() {
			maintained <- tx.Commit(t.Context())
			close(lifted)
			time.Sleep(200 * time.Millisecond) // between two tries
			if err := holder.Extend(t.Context(), g.ID, "holder", auth.LeaseTTL); err != nil {
				t.Error(err)
			}
		})
		if waits == 0 {
			<-lifted
		}
		if _, err := other.Lease(t.Context(), g.ID, "other", auth.LeaseTTL); !errors.Is(err, auth.ErrLeased) {
			t.Errorf("after %v of waiting: %v", waits, err)
		}
		if err := <-maintained; err != nil {
			t.Fatal(err)
		}
	}
}

// Who has nothing to write looks whether others could.
func TestADatabaseThatOnlyReadsIsNoticedWithoutAWrite(t *testing.T) {
	t.Parallel()
	database, keys := pgtest.Database(t), vaulttest.Keyset(t)
	for setting, steady := range map[string]bool{"off": true, "on": false} {
		connect(t, database, keys) // makes the schema
		db := connect(t, database+"&default_transaction_read_only="+setting, keys)
		db.calm()
		if _, err := db.Struck(t.Context(), "work", 1); err != nil || db.steady.Steady() != steady {
			t.Errorf("read-only %s: steady is %v, %v", setting, db.steady.Steady(), err)
		}
	}
}

// A connection that ended while nobody used it costs nobody an answer.
func TestAReadIsTriedOnceMoreWhenItsConnectionHasEnded(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	db, operator := connect(t, database, vaulttest.Keyset(t)), operatorOf(t, database)
	hash := "h"
	id := signInAt(t, db, hash)
	for name, read := range map[string]func() error{
		"a grant":   func() error { _, err := db.Get(t.Context(), id); return err },
		"a history": func() error { _, err := db.History(t.Context(), id, 0, 1); return err },
		"a session": func() error {
			_, found, err := db.Sessions().FindCtx(session.NewContext(t.Context()), hash)
			if err == nil && !found {
				err = auth.ErrNotFound
			}
			return err
		},
	} {
		if _, err := operator.Exec(t.Context(), `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`); err != nil {
			t.Fatal(err)
		}
		if err := read(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A server that gives out no further connection leaves those that there are.
func TestWithoutFurtherConnectionsStatementsTakeTurns(t *testing.T) {
	t.Parallel()
	few := ofRole(t, pgtest.Database(t), "CREATE ROLE $role LOGIN CONNECTION LIMIT 2", "ALTER DATABASE $database OWNER TO $role")
	db := connect(t, few, vaulttest.Keyset(t))
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			if _, err := db.exec(t.Context(), `SELECT pg_sleep(0.02)`); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// ofRole is a database's URL for a role of its own, which the statements make. They name it $role, and the database $database.
func ofRole(t *testing.T, database string, statements ...string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	operator := operatorOf(t, database)
	name := strings.TrimPrefix(u.Path, "/")
	role := "role_" + name
	for _, statement := range statements {
		if _, err := operator.Exec(t.Context(), strings.NewReplacer("$role", role, "$database", name).Replace(statement)); err != nil {
			t.Fatal(err)
		}
	}
	u.User = url.UserPassword(role, pgtest.Password)
	return u.String()
}

// operatorOf is a connection beside those of the programs under test.
func operatorOf(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// An operator learns that a replica's clock is not the database's, and once.
func TestClocksThatAreApartAreToldOnce(t *testing.T) {
	t.Parallel()
	database, keys := pgtest.Database(t), vaulttest.Keyset(t)
	for ahead, told := range map[time.Duration]bool{time.Second: false, -time.Second: false, time.Hour: true, -3 * time.Second: true} {
		log := &authtest.Buffer{}
		db, err := Open(t.Context(), Options{
			URL: auth.Secret(database), Sealer: vault.Sealer{Keys: keys}, Log: slog.New(slog.NewTextHandler(log, nil)),
			Now: func() time.Time { return time.Now().Add(ahead) },
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := db.heed(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if times := strings.Count(log.String(), "the database's are apart"); (times == 1) != told || times > 1 {
			t.Errorf("%v: told %d times: %s", ahead, times, log)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}
