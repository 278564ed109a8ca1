package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/vault"
	"keyturn/auth/vault/postgres/pgtest"
	"keyturn/auth/vault/vaulttest"
)

// With the synchronous standby gone, everything is read and changed, and no commit returns.
func TestADatabaseWhoseCommitsHangIsNotReady(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t)
	database := server.Database(t)
	db, operator := connect(t, database, vaulttest.Keyset(t)), operatorOf(t, database)
	ready := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return db.Ready(ctx)
	}
	becomes := func(why string, setting string, is bool) {
		t.Helper()
		for _, statement := range []string{"ALTER SYSTEM " + setting, "SELECT pg_reload_conf()"} {
			if _, err := operator.Exec(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		deadline := time.Now().Add(30 * time.Second)
		for (ready() == nil) != is {
			if time.Now().After(deadline) {
				t.Fatal(why)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	becomes("ready, and no commit returns", "SET synchronous_standby_names = 'nobody'", false)
	becomes("not ready again", "RESET synchronous_standby_names", true)
}

// What has room where it is can be changed on a full disk, and nothing new be stored.
func TestAFullDatabaseIsNotReadyForAWhile(t *testing.T) {
	t.Parallel()
	db := connect(t, pgtest.Database(t), vaulttest.Keyset(t))
	if _, err := db.exec(t.Context(), `DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '53100'; END $$`); !errors.Is(err, auth.ErrUnwritable) {
		t.Fatal(err)
	}
	if err := db.Ready(t.Context()); !errors.Is(err, errFull) {
		t.Errorf("full: %v", err)
	}
	db.full.Store(time.Now().Add(-vault.AfterOutage).UnixNano())
	if err := db.Ready(t.Context()); err != nil {
		t.Errorf("a while later: %v", err)
	}
}

// Whoever may ask for readiness cannot make the disk busy with it.
func TestReadinessCostsFewWrites(t *testing.T) {
	t.Parallel()
	db := connect(t, pgtest.Database(t), vaulttest.Keyset(t))
	began, writes := time.Now(), map[string]bool{}
	for range 50 {
		var by string
		if err := errors.Join(db.Ready(t.Context()), db.one(t.Context(), into(&by), `SELECT xmin::text FROM used_tokens`)); err != nil {
			t.Fatal(err)
		}
		writes[by] = true
	}
	if most := 1 + int(time.Since(began)/vault.ProbeEvery); len(writes) > most {
		t.Errorf("%d writes, want at most %d", len(writes), most)
	}
}
