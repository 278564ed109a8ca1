package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth/authtest"
	"keyturn/auth/provider/scripted"
)

// onceRotated calls strike when the provider has rotated, before its answer leaves, once.
func onceRotated(idp *scripted.Provider, strike func()) {
	idp.Change(func() {
		idp.Token = func(w http.ResponseWriter, _ *http.Request, grant func() map[string]any) bool {
			tokens := grant()
			idp.Change(func() { idp.Token = nil })
			strike()
			writeJSON(w, tokens)
			return true
		}
	})
}

// lockDatabase takes the database's write lock as another program would.
func lockDatabase(t *testing.T, p *program) (unlock func()) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(p.dir, "keyturn.db")+"?_txlock=exclusive&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		_ = tx.Rollback()
		_ = db.Close()
	})
}

// fillDisk takes the room that is left on the file system of the data dir.
func fillDisk(t *testing.T, p *program) (free func()) {
	t.Helper()
	// The write-ahead log must not have room of its own.
	db, err := sql.Open("sqlite", "file:"+filepath.Join(p.dir, "keyturn.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	eventually(t, "an empty write-ahead log", func() bool {
		var busy, frames, done int
		err := db.QueryRow(`PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &done)
		return err == nil && busy == 0
	})
	name := filepath.Join(p.dir, "filler")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1 << 20, 4096, 1} {
		for chunk := make([]byte, size); err == nil; {
			_, err = file.Write(chunk)
		}
		err = nil
	}
	_ = file.Close()
	return func() { _ = os.Remove(name) }
}

// The storage is gone just after the provider rotated: the tokens are served, and stored when it is back, also over a
// restart. The refresh token is presented once.
func TestStorageThatIsGoneWhenTheTokensCome(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		dir    func(t *testing.T) string
		strike func(t *testing.T, p *program) (mend func())
	}{
		"locked": {func(t *testing.T) string { return t.TempDir() }, lockDatabase},
		"full":   {func(t *testing.T) string { return authtest.SmallDisk(t, "6m") }, fillDisk},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %v", name, restart), func(t *testing.T) {
				t.Parallel()
				idp := scripted.New(t)
				p := launch(t, &program{dir: filepath.Join(c.dir(t), "data"), log: &authtest.Buffer{}, args: []string{
					"KEYTURN_ISSUER=" + idp.URL, "KEYTURN_CLIENT_ID=" + scripted.ClientID, "KEYTURN_CLIENT_SECRET=" + scripted.ClientSecret,
				}}, "localhost:0")
				alice := p.person()
				alice.do(t, "GET", "/auth/oidc", nil)
				mend := func() {}
				onceRotated(idp, func() { mend = c.strike(t, p) })
				began := time.Now()
				if got := alice.do(t, "POST", "/api/renew-token", nil).json(t); got["outcome"] != "rotated" || got["generation"] != 2.0 {
					t.Errorf("the renewal: %v", got)
				}
				t.Logf("answered after %v", time.Since(began))
				eventually(t, "the storage to be gone", func() bool { return strings.Contains(p.log.String(), "renewal cannot be stored yet") })
				if restart {
					p.kill(t)
					p.again(t)
				}
				if g := alice.generation(t); g != 2 {
					t.Errorf("generation %v is served", g)
				}
				// On a full disk the room that was set aside for the spool may do for the database as well.
				if name == "locked" {
					got := alice.do(t, "POST", "/api/renew-token", nil).json(t)
					if failure, _ := got["error"].(map[string]any); got["generation"] != 2.0 || failure["code"] != "storage_unavailable" {
						t.Errorf("a click meanwhile: %v", got)
					}
				}
				time.Sleep(time.Duration(authtest.Soak(1, 2, 60)) * time.Second)
				mend()
				eventually(t, "the next renewal", func() bool {
					return alice.do(t, "POST", "/api/renew-token", nil).json(t)["generation"] == 3.0
				})
				p.kill(t)
				p.again(t)
				if g := alice.generation(t); g != 3 {
					t.Errorf("generation %v was stored", g)
				}
				if stored := idp.TokenCalls(); stored != 2 {
					t.Errorf("%d token calls, want 2", stored)
				}
				if left, err := filepath.Glob(filepath.Join(p.dir, "spool", "*.json")); err != nil || len(left) != 0 {
					t.Errorf("left in the spool: %v, %v", left, err)
				}
				onceEach(t, idp)
			})
		}
	}
}

// moveDatabase moves the database away under the program, and leaves a copy in its place if asked to. mend puts things right.
func moveDatabase(t *testing.T, p *program, leaveCopy bool) (mend func()) {
	t.Helper()
	path := filepath.Join(p.dir, "keyturn.db")
	away := path + ".away"
	if leaveCopy {
		execute(t, path, `VACUUM INTO '`+path+`.copy'`)
	}
	err := os.Rename(path, away)
	if leaveCopy {
		err = errors.Join(err, os.Rename(path+".copy", path))
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if leaveCopy {
			if err := p.stop(t); err != nil {
				t.Errorf("exit: %v", err)
			}
			p.again(t)
		} else if err := os.Rename(away, path); err != nil {
			t.Fatal(err)
		}
	}
}

// The database is moved or replaced under the program, as by somebody who restores a copy: no refresh token is spent for what would be
// lost, and what a call that was under way brings is stored when the file is back, or Keyturn has started with the other.
func TestADatabaseThatIsMovedAway(t *testing.T) {
	t.Parallel()
	for _, replaced := range []bool{false, true} {
		t.Run(fmt.Sprint("another in its place ", replaced), func(t *testing.T) {
			t.Parallel()
			idp, p := atScripted(t, nil)
			alice, bob := p.person(), p.person()
			alice.do(t, "GET", "/auth/oidc", nil)
			bob.do(t, "GET", "/auth/oidc", nil)
			mend := func() {}
			onceRotated(idp, func() { mend = moveDatabase(t, p, replaced) })
			if got := alice.do(t, "POST", "/api/renew-token", nil).json(t); got["outcome"] != "rotated" || got["generation"] != 2.0 {
				t.Errorf("the renewal under way: %v", got)
			}
			got := bob.do(t, "POST", "/api/renew-token", nil).json(t)
			if failure, _ := got["error"].(map[string]any); got["generation"] != 1.0 || failure["code"] != "storage_unavailable" {
				t.Errorf("a click: %v", got)
			}
			if a := p.person().do(t, "GET", "/auth/oidc", nil); a.status < 500 {
				t.Errorf("a sign-in: %d at %s", a.status, a.url)
			}
			if calls := idp.TokenCalls(); calls != 1 {
				t.Errorf("%d token calls, want 1", calls)
			}
			mend()
			for _, b := range []*person{alice, bob} {
				want := b.generation(t) + 1
				eventually(t, "the next renewal", func() bool {
					return b.do(t, "POST", "/api/renew-token", nil).json(t)["generation"] == want
				})
			}
			if g := alice.generation(t); g != 3 {
				t.Errorf("generation %v", g)
			}
			onceEach(t, idp)
		})
	}
}

// A disk that is full is a database that cannot be used, although it can be read and locked.
func TestAFullDiskIsNotReady(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	p := launch(t, &program{dir: filepath.Join(authtest.SmallDisk(t, "6m"), "data"), log: &authtest.Buffer{}, args: []string{
		"KEYTURN_ISSUER=" + idp.URL, "KEYTURN_CLIENT_ID=" + scripted.ClientID, "KEYTURN_CLIENT_SECRET=" + scripted.ClientSecret,
	}}, "localhost:0")
	probe := func() answer { return p.person().do(t, "GET", "/readyz", nil) }
	if a := probe(); a.status != http.StatusOK {
		t.Errorf("at first: %d %s", a.status, a.body)
	}
	free := fillDisk(t, p)
	eventually(t, "not ready with a full disk", func() bool { return slices.Equal(failingParts(t, probe()), []string{"database"}) })
	free()
	eventually(t, "ready again", func() bool { return probe().status == http.StatusOK })
}

// SQLite has other words for a disk that is full at a start, and a start writes enough to run into it at several places.
func TestAStartOnAFullDisk(t *testing.T) {
	t.Parallel()
	for what, args := range map[string][]string{
		"--database": {"KEYTURN_ISSUER=http://localhost:1", "KEYTURN_CLIENT_ID=" + scripted.ClientID, "KEYTURN_CLIENT_SECRET=" + scripted.ClientSecret},
		"embedded":   nil,
	} {
		for _, size := range []string{"12k", "32k", "64k", "96k"} {
			p := &program{base: "http://localhost:0", dir: filepath.Join(authtest.SmallDisk(t, size), "data"), args: args}
			said := p.fails(t)
			_, why, _ := strings.Cut(said, "keyturn: ")
			if !containsAll(why, what, fmt.Sprintf("the disk is full, there is no room left in %q: ", p.dir)) || strings.Count(why, "\n") != 1 {
				t.Errorf("%s, with %s: %s", what, size, said)
			}
		}
	}
}

// Tokens that the database does not take would be lost: the server does not start without a place for them, and says when it loses that.
func TestASpoolThatCannotBeWrittenTo(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	probe := func() answer { return p.person().do(t, "GET", "/readyz", nil) }
	if a := probe(); a.status != http.StatusOK {
		t.Errorf("at first: %d %s", a.status, a.body)
	}
	folder := filepath.Join(p.dir, "spool")
	if output, err := exec.Command("mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", folder).CombinedOutput(); err != nil {
		t.Skipf("no read-only file system on this machine: %v: %s", err, output)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", folder).Run() })
	if a := probe(); !slices.Equal(failingParts(t, a), []string{"spool"}) {
		t.Errorf("when it has become read-only: %d %s", a.status, a.body)
	}
	if err := p.stop(t); err != nil {
		t.Error(err)
	}
	if said := p.fails(t); !containsAll(said, "--data-dir", folder, "read-only") || strings.Count(said, "\n") != 1 {
		t.Errorf("a start: %s", said)
	}
}

// SIGTERM under load: what runs is finished and stored, and the program ends well: an end that is late is an error of its own.
func TestStoppedUnderLoad(t *testing.T) {
	t.Parallel()
	for _, class := range classes() {
		t.Run(fmt.Sprint("class ", class), func(t *testing.T) {
			t.Parallel()
			idp, p := atScripted(t, ofClass(class, slowly(500*time.Millisecond)), "--log-level=info")
			people := make([]*person, 30)
			for i := range people {
				people[i] = p.person()
				people[i].do(t, "GET", "/auth/oidc", nil)
			}
			var all sync.WaitGroup
			for _, b := range people {
				all.Go(func() { _, _ = b.try(t.Context(), "POST", "/api/renew-token", nil) })
			}
			eventually(t, "calls under way", func() bool { return idp.TokenCalls() >= 16 })
			if err := p.stop(t); err != nil {
				t.Errorf("exit: %v\n%s", err, p.log)
			}
			all.Wait()
			calls := idp.TokenCalls()
			p.again(t)
			renewed := 0
			for _, b := range people {
				renewed += int(b.generation(t)) - 1
			}
			if renewed != calls || idp.TokenCalls() != calls {
				t.Errorf("%d renewals stored of %d calls, %d calls after the restart", renewed, calls, idp.TokenCalls()-calls)
			}
			onceEach(t, idp)
		})
	}
}

// A sign-in that is under way at SIGTERM ends the grant of who was signed in before. The program waits until that is revoked.
func TestStoppedWhileASignInEndsAGrant(t *testing.T) {
	t.Parallel()
	var revoked atomic.Bool
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Revocation = func(http.ResponseWriter) bool { time.Sleep(2 * time.Second); revoked.Store(true); return false }
	})
	b := p.person()
	b.do(t, "GET", "/auth/oidc", nil)
	underWay := make(chan bool)
	idp.Change(func() {
		idp.Subject = "bob"
		idp.UserInfo = func(w http.ResponseWriter, _ *http.Request) {
			close(underWay)
			time.Sleep(time.Second)
			writeJSON(w, map[string]any{"sub": "bob"})
		}
	})
	go func() { _, _ = b.try(t.Context(), "GET", "/auth/oidc", nil) }()
	<-underWay
	if err := p.stop(t); err != nil {
		t.Errorf("exit: %v\n%s", err, p.log)
	}
	if !revoked.Load() {
		t.Error("the program ended before the provider had answered")
	}
}

// A new sign-in of somebody else in the same browser while the old grant renews: the late tokens of the old grant are
// revoked, the new one is untouched.
func TestANewSignInDuringARenewal(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	began, done := make(chan bool), make(chan bool)
	var late string
	idp.Change(func() {
		idp.Token = func(w http.ResponseWriter, _ *http.Request, grant func() map[string]any) bool {
			tokens := grant()
			late = tokens["refresh_token"].(string)
			close(began)
			<-done
			writeJSON(w, tokens)
			return true
		}
	})
	go func() { _, _ = alice.try(t.Context(), "POST", "/api/renew-token", nil) }()
	<-began
	idp.Change(func() { idp.Subject, idp.Token = "bob", nil })
	if a := alice.do(t, "GET", "/auth/oidc", nil); a.url.Path != "/dashboard" {
		t.Fatalf("the second sign-in ends at %s", a.url)
	}
	close(done)
	eventually(t, "the revocation of the late tokens", func() bool {
		for _, revoked := range idp.Revoked() {
			if revoked == late {
				return true
			}
		}
		return false
	})
	if g := alice.generation(t); g != 1 {
		t.Errorf("generation %v of the new grant", g)
	}
	if got := alice.do(t, "POST", "/api/renew-token", nil).json(t); got["outcome"] != "rotated" || got["generation"] != 2.0 {
		t.Errorf("the new grant: %v", got)
	}
}
