package main

import (
	"database/sql"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

// A database that another process locks: what only reads goes on, what must write says so, and nothing is lost.
func TestALockedDatabase(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	alice := p.person()
	alice.signIn(t, "alice")
	db, err := sql.Open("sqlite", "file:"+filepath.Join(p.dir, "keyturn.db")+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	lock, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if a := alice.do(t, "GET", "/dashboard", nil); a.status != 200 {
		t.Errorf("the dashboard: %d", a.status)
	}
	a := alice.do(t, "POST", "/api/renew-token", nil)
	if a.status != http.StatusOK || a.json(t)["outcome"] != "kept" || a.json(t)["error"].(map[string]any)["code"] != "storage_unavailable" {
		t.Errorf("a renewal: %d %s", a.status, a.body)
	}
	a = p.person().do(t, "GET", "/auth/dev", nil)
	if a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "cannot reach its database") || a.header.Get("Retry-After") != "5" {
		t.Errorf("a sign-in: %d, Retry-After %q: %s", a.status, a.header.Get("Retry-After"), a.body)
	}
	if a := p.person().do(t, "GET", "/readyz", nil); a.status != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %d", a.status)
	}
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	if a := alice.do(t, "POST", "/api/renew-token", nil); a.json(t)["outcome"] != "rotated" || a.json(t)["generation"] != 2.0 {
		t.Errorf("afterwards: %d %s", a.status, a.body)
	}
}

// What a browser was to be told with the next page is lost: it goes nowhere.
func TestARedirectWhoseSessionCannotBeStored(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	database := filepath.Join(p.dir, "keyturn.db")
	for _, event := range []string{"INSERT", "UPDATE"} {
		execute(t, database, `CREATE TRIGGER stuck_`+event+` BEFORE `+event+` ON sessions BEGIN SELECT RAISE(ABORT, 'stuck'); END`)
	}
	a := alice.staying().do(t, "POST", "/api/trigger-renew-token?query=update-token-data", url.Values{}, "Accept", "text/html")
	if a.status != http.StatusServiceUnavailable || a.header.Get("Location") != "" {
		t.Errorf("%d to %q: %s", a.status, a.header.Get("Location"), a.body)
	}
}

// A sign-out that could not be done to its end can be done again, and then the provider is told.
func TestASignOutThatFailsCanBeTriedAgain(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	database := filepath.Join(p.dir, "keyturn.db")
	execute(t, database, `CREATE TRIGGER stuck BEFORE DELETE ON grants BEGIN SELECT RAISE(ABORT, 'stuck'); END`)
	if a := alice.do(t, "POST", "/auth/signout", nil); a.status != http.StatusServiceUnavailable {
		t.Errorf("while the grant cannot be removed: %d", a.status)
	}
	execute(t, database, `DROP TRIGGER stuck`)
	if a := alice.do(t, "POST", "/auth/signout", nil); a.status != http.StatusOK {
		t.Errorf("afterwards: %d", a.status)
	}
	eventually(t, "the tokens are revoked", func() bool { return len(idp.Revoked()) > 0 })
	if a := alice.do(t, "GET", "/api/session", nil); a.status != http.StatusUnauthorized {
		t.Errorf("the session after it: %d", a.status)
	}
}

// Neither a browser nor its grant is locked in a session that cannot be read.
func TestASessionThatCannotBeReadIsNone(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	execute(t, filepath.Join(p.dir, "keyturn.db"), `UPDATE sessions SET data = 'damaged'`)
	for range 3 {
		if a := alice.do(t, "GET", "/api/session", nil); a.status != http.StatusUnauthorized {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if a := alice.do(t, "GET", "/dashboard", nil); a.status != http.StatusOK || a.url.Path != "/" {
		t.Errorf("%d at %s", a.status, a.url)
	}
	if n := strings.Count(p.log.String(), "cannot be read, and counts as none"); n != 1 {
		t.Errorf("said %d times:\n%s", n, p.log)
	}
	alice.do(t, "GET", "/auth/oidc", nil)
	if !alice.signedIn(t) {
		t.Error("nobody can sign in any more")
	}
	if n := p.count(t, "grants"); n != 2 || len(idp.Revoked()) > 0 {
		t.Errorf("%d grants, %d revoked", n, len(idp.Revoked()))
	}
}
