package postgres

import (
	"errors"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/session"
	"keyturn/auth/vault/postgres/pgtest"
	"keyturn/auth/vault/vaulttest"
)

// A grant is opened once and not sent again while it stays as it is, and another replica's write shows with the next read.
func TestAGrantIsOpenedOnceUntilItChanges(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(t), vaulttest.Keyset(t)
	keys := &vaulttest.CountingKeys{Keys: file}
	db, other := connect(t, url, keys), connect(t, url, file)
	g := create(t, other)
	opened := func(wantGeneration int64) int64 {
		t.Helper()
		before := keys.Asked()
		for range 3 {
			got, err := db.Get(t.Context(), g.ID)
			if err != nil {
				t.Fatal(err)
			}
			if got.Generation != wantGeneration || got.Identity.Name != g.Identity.Name {
				t.Errorf("generation %d of %q, want %d", got.Generation, got.Identity.Name, wantGeneration)
			}
		}
		return keys.Asked() - before
	}
	if n := opened(1); n != 1 {
		t.Errorf("opened %d times, want once", n)
	}
	renewIn(t, other, g.ID)
	if n := opened(2); n != 1 {
		t.Errorf("opened %d times after it changed, want once", n)
	}
	if _, err := db.Delete(t.Context(), g.ID); err != nil || db.opened.Known(g.ID).ID != "" {
		t.Errorf("it is gone, and its tokens are in memory: %v", err)
	}
}

func TestWhatIsWrittenIsRemembered(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(t), vaulttest.Keyset(t)
	keys := &vaulttest.CountingKeys{Keys: file}
	db, other := connect(t, url, keys), connect(t, url, file)
	vaulttest.WritesWhatIsRead(t, create(t, other), db, other, keys)
}

// What a crash of the server, or a standby that takes over, has lost is not taken for what was written since.
func TestNoRevisionIsUsedTwice(t *testing.T) {
	t.Parallel()
	url, keys := pgtest.Database(t), vaulttest.Keyset(t)
	one, two := connect(t, url, keys), connect(t, url, keys)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for what, write := range map[string]func(next *auth.Grant, record *auth.Renewal){
		"an amendment": func(next *auth.Grant, record *auth.Renewal) { must(one.Amend(t.Context(), next, record)) },
		"a shared one": func(next *auth.Grant, _ *auth.Renewal) { must(one.Shared(t.Context(), next.ID, next.Generation, 1)) },
		"a renewal":    func(next *auth.Grant, _ *auth.Renewal) { renewIn(t, one, next.ID) },
	} {
		g := create(t, one)
		next, record := renewIn(t, one, g.ID)
		_, err := one.exec(t.Context(), `CREATE TABLE kept AS SELECT * FROM grants WHERE id = '`+g.ID+`'`)
		must(err)
		write(next, record)
		lost, err := one.Get(t.Context(), g.ID)
		must(err)
		for _, statement := range []string{
			`DELETE FROM grants WHERE id = '` + g.ID + `'`, `INSERT INTO grants SELECT * FROM kept`, `DROP TABLE kept`,
		} {
			_, err := one.exec(t.Context(), statement)
			must(err)
		}
		now, _ := renewIn(t, two, g.ID)
		if got, err := one.Get(t.Context(), g.ID); err != nil || got.Tokens.Refresh != now.Tokens.Refresh {
			t.Errorf("after %s was lost, generation %d is read with other tokens, %v", what, now.Generation, err)
		}
		if err := one.Claim(t.Context(), lost, "me", time.Minute, time.Now()); !errors.Is(err, auth.ErrStale) {
			t.Errorf("after %s was lost, a claim of it: %v", what, err)
		}
	}
}

// A session brings its grant along, for the first look that comes at once and for no other.
func TestASessionBringsItsGrant(t *testing.T) {
	t.Parallel()
	db := connect(t, pgtest.Database(t), vaulttest.Keyset(t))
	g := create(t, db)
	ctx := session.NewContext(t.Context())
	session.FromContext(ctx).Owner = session.Owner{GrantID: g.ID, Provider: "p", Subject: "alice"}
	if err := db.Sessions().CommitCtx(ctx, "h", []byte("1"), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	find := func() *session.Request {
		t.Helper()
		ctx = session.NewContext(t.Context())
		if _, found, err := db.Sessions().FindCtx(ctx, "h"); err != nil || !found {
			t.Fatal(found, err)
		}
		return session.FromContext(ctx)
	}
	look := func() error { _, err := db.Get(ctx, g.ID); return err }
	if beside := find().Beside.Load(); beside == nil {
		t.Fatal("nothing came with the session")
	}
	other := create(t, db)
	if got, err := db.Get(ctx, other.ID); err != nil || got.ID != other.ID {
		t.Errorf("asked for another grant: %v, %v", got, err)
	}
	request := find()
	if _, err := db.exec(t.Context(), `DELETE FROM grants WHERE id = $1`, g.ID); err != nil {
		t.Fatal(err)
	}
	request.Beside.Load().At = time.Now() // as if nothing had taken any time
	if err := look(); err != nil {
		t.Errorf("what came with the session is read again: %v", err)
	}
	if err := look(); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("what came with the session serves twice: %v", err)
	}
	g = create(t, db)
	session.FromContext(ctx).Beside.Store(&session.Beside{What: g, At: time.Now().Add(-time.Second)})
	if _, err := db.exec(t.Context(), `DELETE FROM grants WHERE id = $1`, g.ID); err != nil {
		t.Fatal(err)
	}
	if err := look(); !errors.Is(err, auth.ErrNotFound) {
		t.Errorf("what came with the session a second ago serves: %v", err)
	}
}

// What need not wait for the server's disk is the one statement's alone: whatever its connection writes next does wait.
func TestAmendingLeavesTheConnectionAsItWas(t *testing.T) {
	t.Parallel()
	db := connect(t, pgtest.Database(t)+"&pool_max_conns=2", vaulttest.Keyset(t))
	g := create(t, db)
	next, record := renewIn(t, db, g.ID)
	for range 4 {
		if err := db.Amend(t.Context(), next, record); err != nil {
			t.Fatal(err)
		}
		var setting string
		if err := db.one(t.Context(), into(&setting), `SELECT current_setting('synchronous_commit')`); err != nil || setting != "on" {
			t.Errorf("synchronous_commit is %q, %v", setting, err)
		}
	}
}
