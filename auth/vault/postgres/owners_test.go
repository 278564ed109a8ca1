package postgres

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/authtest"
	"keyturn/auth/vault"
	"keyturn/auth/vault/postgres/pgtest"
	"keyturn/auth/vault/vaulttest"
)

// What a process had begun is taken up by the one that starts in its place, before the lease has run out. The files tell that it died.
func TestTheLeaseOfADeadProcessIsFreeAtOnce(t *testing.T) {
	t.Parallel()
	options := Options{
		URL: auth.Secret(pgtest.Database(t)), Sealer: vault.Sealer{Keys: vaulttest.Keyset(t)}, Owners: filepath.Join(t.TempDir(), "owner-"),
		SessionIdle: vaulttest.IdleLimit, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}
	start := func() *DB {
		db, err := Open(t.Context(), options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	first := start()
	g := create(t, first)
	vaulttest.SignIn(t, first.Sessions(), g, "hash", time.Now().Add(time.Hour))
	if err := first.Claim(t.Context(), g, "first", time.Minute, time.Now()); err != nil {
		t.Fatal(err)
	}
	beside := start()
	if _, err := beside.Lease(t.Context(), g.ID, "beside", time.Minute); !errors.Is(err, auth.ErrLeased) {
		t.Fatalf("the lease of a living process: %v, want ErrLeased", err)
	}
	// What the system does when a process is killed.
	if err := first.owners.Release(); err != nil {
		t.Fatal(err)
	}
	next := start()
	if list, err := next.Struck(t.Context(), "work", 10); err != nil || len(list) != 1 {
		t.Errorf("%d grants are struck: %v", len(list), err)
	}
	if _, err := next.Lease(t.Context(), g.ID, "next", time.Minute); err != nil {
		t.Errorf("the lease of a dead process: %v", err)
	}
}

// A data dir that cannot be written to is no reason to renew nothing, nor to fill the log.
func TestThatNobodyWillKnowOfADeathIsSaidOnce(t *testing.T) {
	t.Parallel()
	log := &authtest.Buffer{}
	db, err := Open(t.Context(), Options{
		URL: auth.Secret(pgtest.Database(t)), Sealer: vault.Sealer{Keys: vaulttest.Keyset(t)}, Owners: filepath.Join(t.TempDir(), "none", "owner-"),
		SessionIdle: vaulttest.IdleLimit, Now: time.Now, Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	for range 3 {
		if err := db.Claim(t.Context(), create(t, db), "me", time.Minute, time.Now()); err != nil {
			t.Error(err)
		}
	}
	if n := strings.Count(log.String(), "the next process cannot know"); n != 1 {
		t.Errorf("said %d times: %s", n, log)
	}
}
