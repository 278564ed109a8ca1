package sqlite

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/vault"
	"keyturn/auth/vault/vaulttest"
)

// again opens the file of db once more, as another process does, and counts what it opens.
func again(t testing.TB, db testDB) (testDB, *vaulttest.CountingKeys) {
	t.Helper()
	keys := &vaulttest.CountingKeys{Keys: db.keys}
	second, err := Open(t.Context(), Options{
		Path: db.Path, Sealer: vault.Sealer{Keys: keys}, SessionIdle: db.SessionIdle, Now: db.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := second.Close(); err != nil {
			t.Error(err)
		}
	})
	return testDB{second, db.keys, db.clock}, keys
}

func renew(t testing.TB, db testDB, id, owner string) *auth.Grant {
	t.Helper()
	leased, err := db.Lease(t.Context(), id, owner, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	next, record := vaulttest.Renewed(leased, db.clock.Now())
	if err := db.Replace(t.Context(), owner, next, record); err != nil {
		t.Fatal(err)
	}
	return next
}

func TestAGrantIsOpenedOnceUntilItChanges(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	if db.cache == nil {
		t.Skip("rows are not cached on this system")
	}
	one, other := create(t, db), create(t, db)
	second, keys := again(t, db)
	opened := func(id string) int64 {
		before := keys.Asked()
		for range 10 {
			if _, err := second.Get(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		return keys.Asked() - before
	}
	if n := opened(one.ID) + opened(other.ID); n != 2 {
		t.Errorf("opened %d times, want once each", n)
	}
	renew(t, second, other.ID, "me")
	if n := opened(one.ID); n != 0 {
		t.Errorf("opened %d times after this process changed another grant", n)
	}
	if n := opened(other.ID); n != 0 {
		t.Errorf("opened %d times after this process changed it itself", n)
	}
	renew(t, db, other.ID, "you")
	if n := opened(other.ID); n != 1 {
		t.Errorf("opened %d times after another process changed it, want once", n)
	}
	if n := opened(one.ID); n != 0 {
		t.Errorf("opened %d times after another process changed another grant", n)
	}
}

func TestWhatIsWrittenIsRemembered(t *testing.T) {
	t.Parallel()
	other := open(t, vaulttest.NewClock())
	db, keys := again(t, other)
	if db.cache == nil {
		t.Skip("rows are not cached on this system")
	}
	g := create(t, other)
	vaulttest.WritesWhatIsRead(t, g, db, other, keys)
	if _, cached, _ := db.cache.get(key{grant: g.ID}); !cached {
		t.Error("the row that was written has to be read")
	}
	if err := db.inTx(t.Context(), func(tx *writer) error { tx.keep(row{grant: g}); return auth.ErrStale }, key{grant: g.ID}); err == nil {
		t.Fatal("no error")
	}
	if got, err := db.Get(t.Context(), g.ID); err != nil || got.Generation == g.Generation {
		t.Errorf("what a write that failed would have left is read: %v", err)
	}
}

// A sign-in under way is marked each second, and every tab that waits for it: nothing of that is about a grant.
func TestMarksLeaveWhatIsRemembered(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	if db.cache == nil {
		t.Skip("rows are not cached on this system")
	}
	g, until := create(t, db), db.clock.Now().Add(time.Hour)
	if _, err := db.Get(t.Context(), g.ID); err != nil {
		t.Fatal(err)
	}
	for _, mark := range []struct {
		what string
		do   func() error
	}{
		{"use", func() error { _, err := db.Use(t.Context(), "m", until); return err }},
		{"use again", func() error { _, err := db.Use(t.Context(), "m", until); return err }},
		{"keep", func() error { _, err := db.Keep(t.Context(), "m", until); return err }},
		{"unuse", func() error { return db.Unuse(t.Context(), "m") }},
	} {
		if err := mark.do(); err != nil {
			t.Fatal(err)
		}
		if _, cached, _ := db.cache.get(key{grant: g.ID}); !cached {
			t.Errorf("after %s the grant has to be read", mark.what)
		}
	}
}

// Nothing stale is read after a write has returned, whichever process wrote.
func TestNothingStaleIsReadAfterAWrite(t *testing.T) {
	t.Parallel()
	one := open(t, vaulttest.NewClock())
	two, _ := again(t, one)
	g := create(t, one)
	var reading sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for _, db := range []testDB{one, two, one, two} {
		reading.Go(func() {
			for last := int64(0); ctx.Err() == nil; {
				got, err := db.Get(t.Context(), g.ID)
				if err != nil {
					t.Error(err)
					return
				}
				if got.Generation < last {
					t.Errorf("generation %d after %d", got.Generation, last)
				}
				last = got.Generation
			}
		})
	}
	for n := range 100 {
		writer := []testDB{one, two}[n%2]
		want := renew(t, writer, g.ID, "me").Generation
		for _, db := range []testDB{two, one} {
			if got, err := db.Get(t.Context(), g.ID); err != nil || got.Generation != want {
				t.Fatalf("%v, generation %d, want %d", err, got.Generation, want)
			}
		}
	}
	stop()
	reading.Wait()
	if err := one.Sessions().CommitCtx(t.Context(), "h", []byte(`{}`), one.clock.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	for _, db := range []testDB{one, two} {
		if _, found, err := db.Sessions().FindCtx(t.Context(), "h"); err != nil || !found {
			t.Fatalf("session: %v %v", found, err)
		}
	}
	if err := two.Sessions().DeleteCtx(t.Context(), "h"); err != nil {
		t.Fatal(err)
	}
	for _, db := range []testDB{one, two} {
		if _, found, err := db.Sessions().FindCtx(t.Context(), "h"); err != nil || found {
			t.Fatalf("a session that ended is found: %v %v", found, err)
		}
	}
}

// A transaction that changed nothing looks, when another process commits right after it, like one that was committed here.
func TestASingleCommitMayBeSomebodyElses(t *testing.T) {
	t.Parallel()
	one := open(t, vaulttest.NewClock())
	if one.cache == nil {
		t.Skip("rows are not cached on this system")
	}
	two, _ := again(t, one)
	if err := one.Sessions().CommitCtx(t.Context(), "h", []byte(`1`), one.clock.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, found, err := one.Sessions().FindCtx(t.Context(), "h"); err != nil || !found {
		t.Fatalf("session: %v %v", found, err)
	}
	one.cache.begin()
	if err := two.Sessions().DeleteCtx(t.Context(), "h"); err != nil {
		t.Fatal(err)
	}
	one.cache.end(one.writer.others, []*write{{rows: []key{{}}}}, true)
	if _, found, err := one.Sessions().FindCtx(t.Context(), "h"); err != nil || found {
		t.Errorf("a session that another process ended is found: %v %v", found, err)
	}
}

// What is read while this process commits may be of before or after that.
func TestNothingIsKeptThatIsReadDuringACommit(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	if db.cache == nil {
		t.Skip("rows are not cached on this system")
	}
	g := create(t, db)
	read := func() (kept bool) {
		if _, err := db.Get(t.Context(), g.ID); err != nil {
			t.Fatal(err)
		}
		_, kept, _ = db.cache.get(key{grant: g.ID})
		return kept
	}
	db.cache.begin()
	during := read()
	db.cache.end(db.writer.others, nil, true)
	if during || !read() {
		t.Errorf("kept during the commit: %v", during)
	}
}

func TestAnUnknownWALIndexIsNotTrusted(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keyturn.db")
	if err := os.WriteFile(path+"-shm", make([]byte, 32<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openWALIndex(path); err == nil {
		t.Error("a WAL-index of another version is read as if it were known")
	}
}

func TestAnEndedGrantIsForgotten(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	g := vaulttest.Grant(db.clock.Now())
	if err := db.Create(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Get(t.Context(), g.ID); err != nil || db.opened.Known(g.ID).ID == "" {
		t.Fatalf("it was read and is not remembered: %v", err)
	}
	if _, err := db.Delete(t.Context(), g.ID); err != nil || db.opened.Known(g.ID).ID != "" {
		t.Errorf("it is gone, and its tokens are in memory: %v", err)
	}
}
