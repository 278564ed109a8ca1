package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"keyturn/auth/provider/scripted"
	"keyturn/auth/vault/postgres/pgtest"
)

// A database that is read and takes no writes, as services make theirs when the disk is full: the tokens that come meanwhile are stored
// afterwards by who has them, before another replica takes the grant up; and the log says what is wrong, not how many ask.
func TestADatabaseThatOnlyReads(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t)
	database := server.Database(t)
	idp := scripted.New(t)
	r := startReplicas(t, idp, database)
	operator, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	onlyReads := func(on string) {
		for _, statement := range []string{"ALTER SYSTEM SET default_transaction_read_only = " + on, "SELECT pg_reload_conf()"} {
			if _, err := operator.Exec(t.Context(), statement); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(100 * time.Millisecond) // every connection reads its settings anew
	}
	alice := r.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	cookie := alice.cookie(t)
	at := func(i int, method, path string, header ...string) answer {
		b := &person{Client: &http.Client{}, base: r.programs[i].base}
		return b.staying().do(t, method, path, nil, append([]string{"Cookie", cookie}, header...)...)
	}
	at(0, "POST", "/api/trigger-renew-token?query=update-token-data", "Accept", "text/html") // leaves a word for the next page
	onceRotated(idp, func() { onlyReads("on") })
	if a := at(0, "POST", "/api/renew-token"); a.status != http.StatusOK || a.json(t)["generation"] != 3.0 {
		t.Errorf("who has the new tokens: %d %s", a.status, a.body)
	}
	page := at(0, "GET", "/dashboard", "Accept", "text/html", "Accept-Encoding", "gzip")
	if page.status != http.StatusServiceUnavailable || !strings.Contains(page.body, "database cannot be written to") {
		t.Errorf("a page that takes the word away: %d %s", page.status, page.body)
	}
	// Longer than a lease, which cannot be extended.
	for began := time.Now(); time.Since(began) < 8*time.Second; time.Sleep(200 * time.Millisecond) {
		if a := at(1, "GET", "/api/session"); a.status != http.StatusOK {
			t.Errorf("another replica: %d %s", a.status, a.body)
		}
		if a := r.person().staying().do(t, "GET", "/auth/oidc", nil); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "database cannot be written to") ||
			a.header.Get("Location") != "" {
			t.Errorf("a sign-in: %d %s", a.status, a.body)
		}
	}
	for _, p := range r.programs {
		if log := p.log.String(); strings.Count(log, "request failed") > 2 || strings.Contains(log, "superfluous") ||
			!strings.Contains(log, `msg="request failed" route=/`) {
			t.Errorf("log: %s", log)
		}
	}
	onlyReads("off")
	eventually(t, "the tokens are stored, as another replica shows", func() bool {
		token, _ := at(1, "GET", "/api/session").json(t)["token"].(map[string]any)
		return token["generation"] == 3.0
	})
	if n := idp.MostPresented(); n != 1 {
		t.Errorf("a refresh token was presented %d times", n)
	}
	if a := at(1, "POST", "/api/renew-token"); a.status != http.StatusOK || a.json(t)["generation"] != 4.0 {
		t.Errorf("afterwards: %d %s", a.status, a.body)
	}
}
