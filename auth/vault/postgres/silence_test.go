package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth/vault/postgres/pgtest"
	"keyturn/auth/vault/vaulttest"
)

// wire leads to a database. What is on it can be lost without a word, as by a firewall that forgets, or an address that moves.
type wire struct {
	url    string
	losses atomic.Int64
	delay  time.Duration // before what a new connection sends arrives
}

func newWire(t *testing.T, database string) *wire {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	server := u.Host
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u.Host = listener.Addr().String()
	w := &wire{url: u.String()}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { w.carry(t.Context(), near, server) })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); all.Wait() })
	return w
}

// lose has the connections that there are carry nothing any more. New ones do.
func (w *wire) lose() { w.losses.Add(1) }

// carry serves one connection. What it has lost it ends with the test: the driver would wait for that.
func (w *wire) carry(ctx context.Context, near net.Conn, server string) {
	defer near.Close()
	far, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	made := w.losses.Load()
	lost := func() bool { return w.losses.Load() != made }
	defer context.AfterFunc(ctx, func() {
		if lost() {
			_ = near.Close()
		}
	})()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(lossy{near, lost}, far)
		_ = near.Close()
	})
	time.Sleep(w.delay)
	_, _ = io.Copy(lossy{far, lost}, near)
	_ = far.Close()
	back.Wait()
}

// lossy takes what is written, and loses it.
type lossy struct {
	io.Writer
	lost func() bool
}

func (l lossy) Write(p []byte) (int, error) {
	if l.lost() {
		return len(p), nil
	}
	return l.Writer.Write(p)
}

// filled has the pool hold as many connections as it may, and says by which processes of the server.
func (db *DB) filled(t *testing.T) (processes []uint32) {
	t.Helper()
	for range connections {
		conn, err := db.pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
		processes = append(processes, conn.Conn().PgConn().PID())
	}
	return processes
}

// impatiently runs a statement that has little time.
func (db *DB) impatiently(t *testing.T, statement string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := db.exec(ctx, statement)
	return err
}

// A failover leaves connections that answer no more, and nothing says so. Whoever met them one by one would store what a renewal brought
// after another replica has presented the refresh token before.
func TestConnectionsThatDiedWithoutAWordAreGivenUpTogether(t *testing.T) {
	t.Parallel()
	database, keys := pgtest.Database(t), vaulttest.Keyset(t)
	for name, before := range map[string]func(*DB){
		"after a long calm": func(db *DB) {
			db.calm()
			time.AfterFunc(200*time.Millisecond, func() { db.answers.Add(1) }) // to whom has made a connection since
		},
		"during an outage": func(*DB) {}, // as after a start
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWire(t, database)
			db := connect(t, w.url, keys)
			dead := db.filled(t)
			before(db)
			w.lose()
			if err := db.impatiently(t, `SELECT 1`); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("no connection was dead: %v", err)
			}
			for _, conn := range db.pool.AcquireAllIdle(t.Context()) {
				if slices.Contains(dead, conn.Conn().PgConn().PID()) {
					t.Error("whoever comes next meets one more connection that is dead")
				}
				conn.Release()
			}
			if err := db.Ready(t.Context()); err != nil {
				t.Errorf("after that: %v", err)
			}
		})
	}
}

// A statement that takes long says nothing about the other connections where they have answers.
func TestASlowStatementLeavesTheOtherConnections(t *testing.T) {
	t.Parallel()
	db := connect(t, pgtest.Database(t), vaulttest.Keyset(t)) // has just started
	before := db.filled(t)
	var slowly sync.WaitGroup
	slowly.Go(func() {
		if err := db.impatiently(t, `SELECT pg_sleep(2)`); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("slow: %v", err)
		}
	})
	time.Sleep(100 * time.Millisecond)
	if err := db.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	slowly.Wait()
	kept := 0
	for _, process := range db.filled(t) {
		if slices.Contains(before, process) {
			kept++
		}
	}
	if kept < len(before)/2 {
		t.Errorf("%d of %d connections are left", kept, len(before))
	}
}
