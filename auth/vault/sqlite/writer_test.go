package sqlite

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"keyturn/auth/vault"
	"keyturn/auth/vault/vaulttest"
)

func TestAWriteThatFailsTakesNoOtherWithIt(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	insert := func(hash string, then func() error) error {
		return db.inTx(t.Context(), func(tx *writer) error {
			_, err := tx.Exec(`INSERT INTO sessions (token_hash, data, expires_at, created_at, seen_at) VALUES (?, '', 1, 1, 1)`, hash)
			return errors.Join(err, then())
		})
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if err := insert("good"+time.Now().String()+t.Name(), func() error { return nil }); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			if err := insert("bad", func() error { return errClosed }); !errors.Is(err, errClosed) {
				t.Errorf("%v", err)
			}
		})
		all.Go(func() {
			if err := insert("worse", func() error { panic("a broken write") }); err == nil {
				t.Error("a panic went unnoticed")
			}
		})
	}
	all.Wait()
	var good, bad int
	if err := db.read.QueryRow(`SELECT count(*) FILTER (WHERE token_hash LIKE 'good%'), count(*) FILTER (WHERE token_hash NOT LIKE 'good%') FROM sessions`).Scan(&good, &bad); err != nil {
		t.Fatal(err)
	}
	if good != 50 || bad != 0 {
		t.Errorf("%d good and %d bad writes are stored, want 50 and 0", good, bad)
	}
}

func TestAWriteThatNobodyWaitsForIsNotMade(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	unlock := locked(t, db, "immediate")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	ran := false
	if err := db.inTx(ctx, func(*writer) error { ran = true; return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the context's end", err)
	}
	unlock()
	if err := db.Ready(t.Context()); err != nil || ran {
		t.Errorf("afterwards: %v; the write ran: %v", err, ran)
	}
}

// Whoever may ask for readiness cannot make the disk busy with it.
func TestReadinessCostsFewWrites(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	size := func() int64 {
		info, err := os.Stat(db.Path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	before, began := size(), time.Now()
	for range 200 {
		if err := db.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	const page = 4096 + 24 // with its header
	if pages, most := (size()-before)/page, 1+int64(time.Since(began)/vault.ProbeEvery); pages < 1 || pages > most {
		t.Errorf("%d pages were written, want 1 to %d", pages, most)
	}
}

// Where nothing can be written the holders of leases cannot extend them either. A row that breaks a rule says nothing of that.
func TestAfterAWriteThatCouldNotBeMadeNoLeaseIsTaken(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	insert := func(hash string, size int) error {
		return db.inTx(t.Context(), func(tx *writer) error {
			_, err := tx.Exec(`INSERT INTO sessions (token_hash, data, expires_at, created_at, seen_at) VALUES (?, zeroblob(?), 1, 1, 1)`, hash, size)
			return err
		})
	}
	if err := insert("h", 0); err != nil {
		t.Fatal(err)
	}
	db.steady.Reset()
	if err := insert("h", 0); err == nil || !db.steady.Steady() {
		t.Errorf("a row that is there twice: %v, steady: %v", err, db.steady.Steady())
	}
	if err := db.inTx(t.Context(), func(tx *writer) error { return tx.exec(`PRAGMA max_page_count = 1`) }); err != nil { // no more than there are
		t.Fatal(err)
	}
	if err := insert("large", 1<<20); err == nil || db.steady.Steady() {
		t.Errorf("on a full disk: %v, steady: %v", err, db.steady.Steady())
	}
}

// Who takes no lease, and only looks for what was struck, hears of a clock that was set, too.
func TestLookingForWhatWasStruckHeedsTheClock(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	db.steady.Reset()
	for _, steady := range []bool{true, false} {
		if _, err := db.Struck(t.Context(), "work", 10); err != nil || db.steady.Steady() != steady {
			t.Errorf("steady: %v, want %v; %v", db.steady.Steady(), steady, err)
		}
		db.clock.Set(time.Hour)
	}
}
