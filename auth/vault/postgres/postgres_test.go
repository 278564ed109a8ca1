package postgres

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/authtest"
	"keyturn/auth/vault"
	"keyturn/auth/vault/keyset"
	"keyturn/auth/vault/postgres/pgtest"
	"keyturn/auth/vault/vaulttest"
)

func TestMain(m *testing.M) { os.Exit(authtest.Run(m, 16)) }

type testDB struct {
	*DB
	keys  *keyset.File
	clock *vaulttest.Clock
}

// connect opens the database at a URL as one process does, with its own clock.
func connect(t testing.TB, url string, keys vault.Keys) *DB {
	t.Helper()
	db, err := Open(t.Context(), Options{
		URL:    auth.Secret(url + "&pool_min_conns=2&connect_timeout=30"), // a busy machine takes its time
		Sealer: vault.Sealer{Keys: keys}, SessionIdle: vaulttest.IdleLimit, Now: time.Now,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// open opens a fresh database whose time is the clock's, and which has been within reach for long.
func open(t testing.TB, clock *vaulttest.Clock) testDB {
	t.Helper()
	keys := vaulttest.Keyset(t)
	db := connect(t, pgtest.Database(t), keys)
	db.Now, db.chance = clock.Now, 0
	db.calm()
	show := func(now time.Time) {
		if _, err := db.exec(t.Context(), `UPDATE test_clock SET now = $1`, now.UnixMicro()); err != nil {
			t.Fatal(err)
		}
	}
	for _, statement := range []string{
		`CREATE TABLE test_clock AS SELECT 0::bigint AS now`,
		`CREATE OR REPLACE FUNCTION keyturn_now() RETURNS bigint STABLE LANGUAGE sql AS 'SELECT now FROM test_clock'`,
	} {
		if _, err := db.exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	show(clock.Now())
	clock.Follow, clock.Calm = show, db.calm
	return testDB{db, keys, clock}
}

// calm makes the process one that has had the database for long.
func (db *DB) calm() {
	db.steady.Reset()
}

func create(t testing.TB, db *DB) *auth.Grant {
	t.Helper()
	g := vaulttest.Grant(db.Now())
	if err := db.Create(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	return g
}

// renewIn renews a grant, and returns what it left.
func renewIn(t *testing.T, db *DB, id string) (*auth.Grant, *auth.Renewal) {
	t.Helper()
	leased, err := db.Lease(t.Context(), id, "them", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	next, record := vaulttest.Renewed(leased, db.Now())
	if err := db.Replace(t.Context(), "them", next, record); err != nil {
		t.Fatal(err)
	}
	return next, record
}

func TestVault(t *testing.T) {
	t.Parallel()
	vaulttest.Run(t, func(t *testing.T, clock *vaulttest.Clock) vaulttest.Engine {
		db := open(t, clock)
		return vaulttest.Engine{
			Vault: db, Sessions: db.Sessions(), Mark: db.writeMarks, Tidy: db.Tidy, Reseal: db.Reseal, Keys: db.keys, Stats: db,
			SQL: func(statement string) error { _, err := db.exec(t.Context(), statement); return err },
		}
	})
}

func TestReplicasMayStartTogether(t *testing.T) {
	t.Parallel()
	url, keys := pgtest.Database(t), vaulttest.Keyset(t)
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			db, err := Open(t.Context(), Options{
				URL: auth.Secret(url), Sealer: vault.Sealer{Keys: keys}, Now: time.Now, Log: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Error(err)
				return
			}
			if err := errors.Join(db.Ready(t.Context()), db.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// A replica's own clock says nothing about leases: each sees by its own clock what is left of them.
func TestReplicasWithOtherClocks(t *testing.T) {
	t.Parallel()
	url, keys := pgtest.Database(t), vaulttest.Keyset(t)
	one, two := connect(t, url, keys), connect(t, url, keys)
	two.Now = func() time.Time { return time.Now().Add(-time.Hour) }
	one.calm()
	two.calm()
	g := create(t, one)
	for _, pair := range [][2]*DB{{one, two}, {two, one}} {
		if _, err := pair[0].Lease(t.Context(), g.ID, "holder", time.Minute); err != nil {
			t.Fatal(err)
		}
		if _, err := pair[1].Lease(t.Context(), g.ID, "other", time.Minute); !errors.Is(err, auth.ErrLeased) {
			t.Errorf("a lease that runs was taken: %v", err)
		}
		seen, err := pair[1].Get(t.Context(), g.ID)
		if err != nil {
			t.Fatal(err)
		}
		if now := pair[1].Now(); !seen.LeasedAt(now) || seen.LeasedAt(now.Add(time.Minute)) {
			t.Errorf("at %v it seems leased until %v", now, seen.LeasedUntil)
		}
		if err := pair[0].Release(t.Context(), g.ID, "holder"); err != nil {
			t.Fatal(err)
		}
	}
}

// After an outage a lease that ran out is its holder's first: nobody knows who died meanwhile.
func TestALeaseThatRanOutInAnOutage(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t)
	url, keys := server.Database(t), vaulttest.Keyset(t)
	holder, other := connect(t, url, keys), connect(t, url, keys)
	holder.calm()
	other.calm()
	g := create(t, holder)
	vaulttest.SignIn(t, holder.Sessions(), g, "hash", time.Now().Add(time.Hour))
	if _, err := holder.Lease(t.Context(), g.ID, "holder", 500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := holder.Present(t.Context(), g.ID, "holder", time.Now()); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	for _, db := range []*DB{other, holder} {
		began := time.Now()
		if err := db.Ready(t.Context()); err == nil || time.Since(began) > 2*statementWait {
			t.Errorf("without a server: %v, after %v", err, time.Since(began))
		}
	}
	time.Sleep(600 * time.Millisecond)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	look := func() (struck int, seen *auth.Grant, leased error) {
		_, leased = other.Lease(t.Context(), g.ID, "other", time.Second)
		list, err := other.Struck(t.Context(), "work", 10)
		if err != nil {
			t.Fatal(err)
		}
		seen, err = other.Get(t.Context(), g.ID)
		if err != nil {
			t.Fatal(err)
		}
		return len(list), seen, leased
	}
	if struck, seen, err := look(); !errors.Is(err, auth.ErrLeased) || struck != 0 || seen.StruckAt(time.Now()) {
		t.Errorf("just after the outage: %v, %d struck, leased until %v", err, struck, seen.LeasedUntil)
	}
	if _, err := holder.Lease(t.Context(), g.ID, "holder", time.Millisecond); err != nil {
		t.Errorf("the holder after the outage: %v", err)
	}
	other.calm()
	time.Sleep(20 * time.Millisecond)
	if _, _, err := look(); err != nil {
		t.Errorf("later on, the lease of a holder that does not come back: %v", err)
	}
}

// heard is what one replica hears.
type heard struct {
	changed chan string
	missed  chan struct{}
}

func listenAt(t *testing.T, db *DB) heard {
	t.Helper()
	h := heard{make(chan string, 1000), make(chan struct{}, 1000)}
	ctx, cancel := context.WithCancel(t.Context())
	var listening sync.WaitGroup
	listening.Go(func() {
		db.Listen(ctx, func(grant string) { h.changed <- grant }, func() { h.missed <- struct{}{} })
	})
	t.Cleanup(func() { cancel(); listening.Wait() })
	soon(t, "it to listen", h.missed)
	return h
}

// soon waits for something, with a deadline.
func soon[T any](t *testing.T, what string, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(15 * time.Second):
		t.Fatalf("not in time: %s", what)
	}
	return v
}

func TestReplicasHearOfRenewalsAndEnds(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t)
	url, keys := server.Database(t), vaulttest.Keyset(t)
	one, two := connect(t, url, keys), connect(t, url, keys)
	h := listenAt(t, two)
	g := create(t, one)
	renew := func() { renewIn(t, one, g.ID) }
	renew()
	if got := soon(t, "the renewal", h.changed); got != g.ID {
		t.Errorf("heard of %q, want %q", got, g.ID)
	}
	server.Crash()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	soon(t, "it to look again after the gap", h.missed)
	for one.Ready(t.Context()) != nil {
		time.Sleep(10 * time.Millisecond)
	}
	renew()
	soon(t, "the renewal after the gap", h.changed)
	if _, err := one.Delete(t.Context(), g.ID); err != nil {
		t.Fatal(err)
	}
	soon(t, "the end", h.changed)
}

func TestHoldsGrants(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	holds := func(want bool) {
		t.Helper()
		if got, err := HoldsGrants(t.Context(), auth.Secret(url)); got != want || err != nil {
			t.Errorf("holds grants: %v, %v; want %v", got, err, want)
		}
	}
	holds(false)
	db := connect(t, url, vaulttest.Keyset(t))
	holds(false)
	create(t, db)
	holds(true)
}

func TestNoErrorShowsThePassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgres://u:CANARY@127.0.0.1:1/d?connect_timeout=1", "postgres://u:CANARY@127.0.0.1:1/d?sslmode=bogus",
		"postgres://u:CANARY@127.0.0.1:1/d?pool_max_conns=x", "postgres://u:CANARY@127.0.0.1:port/d",
		"postgres://u:CAN%ARY@127.0.0.1:1/d", "postgres://127.0.0.1:1/d?user=u&password=CANARY&connect_timeout=x",
		"postgres://u:CANARY@127.0.0.1:1/d?sslrootcert=/nowhere&sslmode=verify-full",
	} {
		_, opened := Open(t.Context(), Options{URL: auth.Secret(url), Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		_, looked := HoldsGrants(t.Context(), auth.Secret(url))
		for _, err := range []error{opened, looked} {
			if err == nil || strings.Contains(err.Error(), "CANARY") || strings.Contains(err.Error(), "CAN%ARY") {
				t.Errorf("%s: %v", url, err)
			}
		}
		t.Log(opened)
	}
}

// A caller who hangs up does not cost a connection, and one who has hung up already asks nothing.
func TestCallersWhoHangUp(t *testing.T) {
	t.Parallel()
	db := connect(t, pgtest.Database(t), vaulttest.Keyset(t))
	g := create(t, db)
	made := db.pool.Stat().NewConnsCount()
	for range 50 {
		ctx, hangUp := context.WithCancel(t.Context())
		go hangUp()
		if _, err := db.Get(ctx, g.ID); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		hangUp()
		if _, err := db.Get(ctx, g.ID); !errors.Is(err, context.Canceled) {
			t.Errorf("hung up already: %v", err)
		}
	}
	if more := db.pool.Stat().NewConnsCount() - made; more > 2 {
		t.Errorf("%d connections were made anew", more)
	}
}

// However many people ask, a renewal finds a connection: a lease that is not extended would be taken.
func TestReadsLeaveRoomForRenewals(t *testing.T) {
	t.Parallel()
	db := connect(t, pgtest.Database(t), vaulttest.Keyset(t))
	db.calm()
	g := create(t, db)
	if _, err := db.Lease(t.Context(), g.ID, "me", time.Minute); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			_, _ = many(t.Context(), db, vault.ScanCandidates, `SELECT g.id, g.due_at FROM grants g, pg_sleep(1)`)
		})
	}
	for db.pool.Stat().AcquiredConns() < int32(cap(db.readers)) {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	if err := db.Extend(ctx, g.ID, "me", time.Minute); err != nil {
		t.Errorf("a lease cannot be extended meanwhile: %v", err)
	}
	all.Wait()
}

// What was used counts by the clock of who remembers it, and the database's may be ahead.
func TestWhatWasUsedRunsOutByTheClockOfWhoRemembersIt(t *testing.T) {
	t.Parallel()
	clock := vaulttest.NewClock()
	db := open(t, clock)
	if first, err := db.Use(t.Context(), "state", db.Now().Add(10*time.Minute)); err != nil || !first {
		t.Fatalf("%v, %v", first, err)
	}
	clock.Follow(clock.Now().Add(time.Hour))
	if err := db.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if used, err := db.Used(t.Context(), "state"); err != nil || !used {
		t.Errorf("it is used: %v, %v", used, err)
	}
	clock.Advance(10 * time.Minute)
	clock.Advance(usedLonger)
	if err := db.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := db.count(t.Context(), `SELECT count(*) FROM used_tokens`); err != nil || n != 0 {
		t.Errorf("%d stay, %v", n, err)
	}
}
