package sqlite

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	driver "modernc.org/sqlite"

	"keyturn/auth"
	"keyturn/auth/vault"
	"keyturn/auth/vault/keyset"
	"keyturn/auth/vault/vaulttest"
)

type testDB struct {
	*DB
	keys  *keyset.File
	clock *vaulttest.Clock
}

func open(t testing.TB, clock *vaulttest.Clock) testDB {
	t.Helper()
	dir := t.TempDir()
	if err := keyset.Create(filepath.Join(dir, "keyset.json")); err != nil {
		t.Fatal(err)
	}
	keys, err := keyset.Open(filepath.Join(dir, "keyset.json"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := Open(t.Context(), Options{
		Path: filepath.Join(dir, "odd name ?#%.db"), Sealer: vault.Sealer{Keys: keys}, SessionIdle: vaulttest.IdleLimit, Now: clock.Now,
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
	clock.Calm = db.steady.Reset
	return testDB{db, keys, clock}
}

// What a commit waits for is the data, and not the time at which it was written.
func TestCommitsWaitForTheDataOnly(t *testing.T) {
	t.Parallel()
	open(t, vaulttest.NewClock())
	if runtime.GOOS == "linux" && !driver.FdatasyncEnabled() {
		t.Error("the disk is waited for by fsync")
	}
}

func TestVault(t *testing.T) {
	t.Parallel()
	vaulttest.Run(t, func(t *testing.T, clock *vaulttest.Clock) vaulttest.Engine {
		db := open(t, clock)
		return vaulttest.Engine{
			Vault: db, Sessions: db.Sessions(), Mark: db.writeMarks, Tidy: db.Tidy, Reseal: db.Reseal, Keys: db.keys, Stats: db,
			SQL: func(statement string) error {
				return db.inTx(t.Context(), func(tx *writer) error { return tx.exec(statement) })
			},
		}
	})
}

func create(t testing.TB, db testDB) *auth.Grant {
	t.Helper()
	g := vaulttest.Grant(db.clock.Now())
	if err := db.Create(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestFilesHoldNoSecretAndBelongToTheOwner(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	g := vaulttest.Grant(db.clock.Now())
	g.Tokens.Access, g.Tokens.Refresh, g.Tokens.ID, g.Pending = "CANARY-access", "CANARY-refresh", "CANARY-id", "CANARY-pending"
	g.Identity.Name = "CANARY-name"
	if err := db.Create(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(db.Path), "*"))
	if err != nil || len(files) < 2 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(content, []byte("CANARY")) {
			t.Errorf("%s holds a secret", name)
		}
		if info, err := os.Stat(name); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestWhatIsNoDatabaseIsLeftAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(path, []byte(strings.Repeat("not a database\n", 100)), 0o644); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if db, err := Open(t.Context(), Options{Path: path, Now: time.Now, Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("it opens", db.Close())
	}
	after, err := os.Stat(path)
	if err != nil || after.Mode() != before.Mode() || !after.ModTime().Equal(before.ModTime()) || after.Size() != before.Size() {
		t.Errorf("it was %v, and is %v, %v", before, after, err)
	}
}

func TestRotatedKeyset(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	old := create(t, db)
	sealed := func() (blob []byte) {
		if err := db.read.QueryRow(`SELECT sealed FROM grants WHERE id = ?`, old.ID).Scan(&blob); err != nil {
			t.Fatal(err)
		}
		return blob
	}
	before := sealed()
	// Another process rotates.
	other, err := keyset.Open(filepath.Join(filepath.Dir(db.Path), "keyset.json"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Rotate(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Get(t.Context(), old.ID); err != nil {
		t.Errorf("a grant sealed before the rotation does not open: %v", err)
	}
	young := create(t, db)
	if _, err := db.Get(t.Context(), young.ID); err != nil {
		t.Error(err)
	}
	if _, err := (vault.Sealer{Keys: other}).Reseal(young.ID, before); err == nil {
		t.Error("a blob opened under another grant's id")
	}
	resealed, unreadable, err := db.Reseal(t.Context())
	if resealed != 2 || unreadable != 0 || err != nil {
		t.Errorf("resealed %d, unreadable %d, %v; want 2, 0, nil", resealed, unreadable, err)
	}
	if bytes.Equal(before[:5], sealed()[:5]) {
		t.Error("the resealed blob still names the old key")
	}
	if _, err := db.Get(t.Context(), old.ID); err != nil {
		t.Error(err)
	}
}

func TestHoldsGrants(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	for _, want := range []bool{false, true} {
		if got, err := HoldsGrants(t.Context(), db.Path); got != want || err != nil {
			t.Errorf("holds grants: %v, %v; want %v", got, err, want)
		}
		create(t, db)
	}
	if got, err := HoldsGrants(t.Context(), db.Path+"-nothing"); got || err != nil {
		t.Errorf("a missing file holds grants: %v, %v", got, err)
	}
}

func TestReadingASessionWritesNothing(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	if err := db.Sessions().CommitCtx(t.Context(), "h", []byte("{}"), db.clock.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	changes := func() (n int) {
		err := db.inTx(t.Context(), func(tx *writer) error { return tx.QueryRow(`SELECT total_changes()`).Scan(&n) })
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := changes()
	for range 100 {
		if _, _, err := db.Sessions().FindCtx(t.Context(), "h"); err != nil {
			t.Fatal(err)
		}
	}
	if after := changes(); after != before {
		t.Errorf("100 reads made %d changes", after-before)
	}
}

func TestReadsUseIndexes(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	for _, query := range []string{
		selectGrant, selectSession, selectDue, selectStrays, selectStruck, takeOwed,
		`SELECT id FROM renewals WHERE grant_id = ? AND id < 9 ORDER BY id DESC LIMIT 20`,
	} {
		for _, step := range planOf(t, db, query) {
			if strings.HasPrefix(step, "SCAN") || strings.Contains(step, "TEMP B-TREE") {
				t.Errorf("%s\n\tis planned as %q", query, step)
			}
		}
	}
}

// What is due or owed is found without a look at the rows, which lie anywhere in a large file.
func TestWhatIsDueIsFoundInIndexesAlone(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	for _, query := range []string{selectDue, selectOwing} {
		for _, step := range planOf(t, db, query) {
			scan := strings.HasPrefix(step, "SCAN") && step != "SCAN p" // of the names of providers
			if scan || strings.HasPrefix(step, "SEARCH") && !strings.Contains(step, "COVERING INDEX") {
				t.Errorf("%s\n\tis planned as %q", query, step)
			}
		}
	}
}

func planOf(t *testing.T, db testDB, query string) (steps []string) {
	t.Helper()
	rows, err := db.read.Query(`EXPLAIN QUERY PLAN ` + regexp.MustCompile(`\?\d*`).ReplaceAllString(query, "'x'"))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	if err := rows.Err(); err != nil || len(steps) == 0 {
		t.Fatalf("no plan: %v", err)
	}
	return steps
}

// Who still reads when the program ends gets an error: what the file told of commits must not be gone under it.
func TestReadingAfterTheEnd(t *testing.T) {
	t.Parallel()
	options := open(t, vaulttest.NewClock()).Options
	options.Path = filepath.Join(t.TempDir(), "other.db")
	db, err := Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Get(t.Context(), "x"); err == nil || errors.Is(err, auth.ErrNotFound) {
		t.Errorf("a closed database says %v", err)
	}
}

// A database file that was removed, or replaced, under a process that has it open is not usable, though it can be written to.
func TestAFileThatIsNotInItsPlaceIsNotReady(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	path := db.Path
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := db.Ready(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("when it is away: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := db.Ready(t.Context()); err == nil {
		t.Error("ready, with another in its place")
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	if err := db.Ready(t.Context()); err != nil {
		t.Errorf("when it is back: %v", err)
	}
}

// What would be written is lost with the file: nothing is, so that no refresh token is spent for that.
func TestNothingIsWrittenToAFileThatIsNotInItsPlace(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	held, free := create(t, db), create(t, db)
	if _, err := db.Lease(t.Context(), held.ID, "me", time.Minute); err != nil {
		t.Fatal(err)
	}
	next, record := vaulttest.Renewed(held, db.clock.Now())
	if err := os.Rename(db.Path, db.Path+".away"); err != nil {
		t.Fatal(err)
	}
	_, leasing := db.Lease(t.Context(), free.ID, "me", time.Minute)
	for what, err := range map[string]error{
		"a claim":   db.Claim(t.Context(), free, "me", time.Minute, db.clock.Now()),
		"a lease":   leasing,
		"a mark":    db.Present(t.Context(), held.ID, "me", db.clock.Now()),
		"a renewal": db.Replace(t.Context(), "me", next, record),
		"a sign-in": db.Create(t.Context(), vaulttest.Grant(db.clock.Now())),
	} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := db.Get(t.Context(), free.ID); err != nil {
		t.Errorf("reading: %v", err)
	}
	if db.steady.Steady() {
		t.Error("leases that nobody could extend are taken from their holders")
	}
	if err := os.Rename(db.Path+".away", db.Path); err != nil {
		t.Fatal(err)
	}
	if err := db.Replace(t.Context(), "me", next, record); err != nil {
		t.Errorf("the renewal, when the file is back: %v", err)
	}
	if err := db.Claim(t.Context(), free, "me", time.Minute, db.clock.Now()); err != nil {
		t.Errorf("the claim, when the file is back: %v", err)
	}
}

// However many read at once: none opens what is at the path by now.
func TestAllReadTheFileThatWasOpened(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	if _, err := db.read.Exec(`VACUUM INTO ?`, db.Path+".copy"); err != nil {
		t.Fatal(err)
	}
	create(t, db)
	if _, err := db.read.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`); err != nil { // the log is at a path of its own, and would be read
		t.Fatal(err)
	}
	if err := os.Rename(db.Path+".copy", db.Path); err != nil {
		t.Fatal(err)
	}
	for range readers {
		conn, err := db.read.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		var n int
		if err := conn.QueryRowContext(t.Context(), `SELECT count(*) FROM grants`).Scan(&n); err != nil || n != 1 {
			t.Errorf("%d grants, %v", n, err)
		}
	}
}
