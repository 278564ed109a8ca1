package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth/session"
	"keyturn/auth/vault/postgres/pgtest"
	"keyturn/auth/vault/vaulttest"
)

// signInAt stores a session with a grant of its own, and returns the grant's ID.
func signInAt(t *testing.T, db *DB, hash string) string {
	t.Helper()
	g := create(t, db)
	ctx := session.NewContext(t.Context())
	session.FromContext(ctx).Owner = session.Owner{GrantID: g.ID, Provider: "p", Subject: "alice"}
	if err := db.Sessions().CommitCtx(ctx, hash, []byte("data of "+hash), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	return g.ID
}

// Who asks at once shares few ways to the database, and each gets what is theirs.
func TestManyLooksShareWays(t *testing.T) {
	t.Parallel()
	db := connect(t, pgtest.Database(t), vaulttest.Keyset(t))
	const people, looks = 100, 2000
	grants := map[string]string{}
	for i := range people {
		hash := fmt.Sprint("h", i)
		grants[hash] = signInAt(t, db, hash)
	}
	if _, err := db.exec(t.Context(), `UPDATE grants SET sealed = '\x00', revision = revision + 1 WHERE id = $1`, grants["h7"]); err != nil {
		t.Fatal(err)
	}
	if _, err := db.exec(t.Context(), `DELETE FROM grants WHERE id = $1`, grants["h8"]); err != nil {
		t.Fatal(err)
	}
	before := db.pool.Stat().AcquireCount()
	var all sync.WaitGroup
	for i := range looks {
		all.Go(func() {
			hash := fmt.Sprint("h", i%(people+1)) // the last is nobody's
			ctx := session.NewContext(t.Context())
			data, found, err := db.Sessions().FindCtx(ctx, hash)
			request := session.FromContext(ctx)
			beside := request.Beside.Load() != nil
			if err != nil || found != (grants[hash] != "") || found && (string(data) != "data of "+hash || request.Owner.GrantID != grants[hash]) {
				t.Errorf("%s: %q of %q, %v, %v", hash, data, request.Owner.GrantID, found, err)
			}
			if want := found && hash != "h7" && hash != "h8"; beside != want { // their grants do not open, and are gone
				t.Errorf("%s came with its grant: %v, want %v", hash, beside, want)
			}
		})
	}
	all.Wait()
	if ways := db.pool.Stat().AcquireCount() - before; ways > looks/2 {
		t.Errorf("%d looks took %d ways", looks, ways)
	}
}

// However busy it is, nobody is given an answer from before their question.
func TestALookIsNotOlderThanItsQuestion(t *testing.T) {
	t.Parallel()
	db := connect(t, pgtest.Database(t), vaulttest.Keyset(t))
	var gone atomic.Int64 // sessions below it have been signed out
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for ctx.Err() == nil {
				last := gone.Load() - 1
				if _, found, err := db.Sessions().FindCtx(session.NewContext(t.Context()), fmt.Sprint("h", last)); err != nil || found {
					t.Errorf("session %d after it was signed out: %v, %v", last, found, err)
					return
				}
				// Interest in the next one keeps it in the searches while it ends.
				_, _, _ = db.Sessions().FindCtx(session.NewContext(t.Context()), fmt.Sprint("h", last+1))
			}
		})
	}
	for i := range int64(50) {
		hash := fmt.Sprint("h", i)
		signInAt(t, db, hash)
		if err := db.Sessions().DeleteCtx(t.Context(), hash); err != nil {
			t.Fatal(err)
		}
		gone.Store(i + 1)
	}
	stop()
	all.Wait()
}

// A search that hangs holds up those in it, and nobody who asks later.
func TestASearchThatHangsHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	db := connect(t, pgtest.Database(t), vaulttest.Keyset(t))
	signInAt(t, db, "h")
	lock, err := db.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Exec(t.Context(), `LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	find := func() error {
		_, _, err := db.Sessions().FindCtx(session.NewContext(t.Context()), "h")
		return err
	}
	hangs := make(chan error)
	go func() { hangs <- find() }()
	for db.pool.Stat().AcquiredConns() < 2 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(2 * searchSlow)
	later := make(chan error)
	go func() { later <- find() }()
	for db.pool.Stat().AcquiredConns() < 3 { // it has a search of its own
		select {
		case err := <-hangs:
			t.Fatalf("the first ended before the second began: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-hangs, <-later); err != nil {
		t.Error(err)
	}
}

// One who is to search takes whom to search for at once: another search must not take them, or both are counted as one.
func TestSearchesAreCounted(t *testing.T) {
	t.Parallel()
	f := &finder{}
	if mine, begins := f.ask("a"); begins != mine || !slices.Equal(mine.hashes, []string{"a"}) {
		t.Fatalf("the first searches for %v", begins)
	}
	f.began = time.Now().Add(time.Minute)
	if _, begins := f.ask("b"); begins != nil {
		t.Errorf("a second search for %v begins at once", begins.hashes)
	}
	f.began = time.Now().Add(-2 * searchSlow)
	if mine, begins := f.ask("c"); begins != mine || !slices.Equal(mine.hashes, []string{"b", "c"}) || f.running != 2 {
		t.Errorf("beside a slow one is a search for %v, %d run", begins, f.running)
	}
	f.next()
	if f.next(); f.running != 0 {
		t.Errorf("afterwards %d run", f.running)
	}
}

// A crowd has a second search at once, and no third one.
func TestACrowdHasASecondSearch(t *testing.T) {
	t.Parallel()
	f := &finder{}
	var batches []int
	for i := range 3 * crowd {
		f.began = time.Now().Add(time.Minute) // none is slow
		if _, begins := f.ask(fmt.Sprint(i)); begins != nil {
			batches = append(batches, len(begins.hashes))
		}
	}
	if !slices.Equal(batches, []int{1, crowd}) || f.running != 2 {
		t.Errorf("searches for %v begin, %d run", batches, f.running)
	}
}

// Those who are too many for one look wait for the next, and each is told which is theirs.
func TestALookHasRoomForSoMany(t *testing.T) {
	t.Parallel()
	f := &finder{}
	f.ask("first")
	f.running = searches // none begins
	for i := range 2*soughtTogether + 1 {
		mine, begins := f.ask(fmt.Sprint(i))
		if begins != nil || mine.hashes[i%soughtTogether] != fmt.Sprint(i) {
			t.Fatalf("%d is sought with %v, %v begins", i, mine.hashes, begins)
		}
	}
	for _, want := range []int{soughtTogether, soughtTogether, 1} {
		if l := f.next(); len(l.hashes) != want {
			t.Errorf("a look for %d, want %d", len(l.hashes), want)
		}
	}
	if l := f.next(); l != nil {
		t.Errorf("one more look for %v", l.hashes)
	}
}

// Whoever hangs up while their own search runs has its answer: that they are gone is no failure of the database.
func TestAnAnswerThatIsThereIsGivenToWhoHangsUp(t *testing.T) {
	t.Parallel()
	db := connect(t, pgtest.Database(t), vaulttest.Keyset(t))
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	for range 50 {
		if _, _, err := db.Sessions().FindCtx(session.NewContext(gone), "h"); err != nil {
			t.Fatal(err)
		}
	}
}

// A search that began for others ends before the connections do, and holds up no stop while it waits for its turn.
func TestCloseWaitsForSearches(t *testing.T) {
	t.Parallel()
	db := connect(t, pgtest.Database(t), vaulttest.Keyset(t))
	for range cap(db.readers) {
		db.readers <- struct{}{}
	}
	db.finder.running, db.finder.began = 1, time.Now().Add(time.Minute)
	others, _ := db.finder.ask("h")
	db.runOthers()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db.finder.running != 0 || !errors.Is(others.err, context.Canceled) {
		t.Errorf("%d still run, and others have %v", db.finder.running, others.err)
	}
}
