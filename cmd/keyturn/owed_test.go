package main

import (
	"database/sql"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth/provider/scripted"
	"keyturn/auth/vault/postgres/pgtest"
)

// atUnwell starts a program at a provider that revokes nothing while down.
func atUnwell(t *testing.T, args ...string) (idp *scripted.Provider, p *program, down *atomic.Bool) {
	t.Helper()
	down = &atomic.Bool{}
	down.Store(true)
	idp, p = atScripted(t, func(idp *scripted.Provider) {
		idp.Revocation = func(w http.ResponseWriter) bool {
			if !down.Load() {
				return false
			}
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
	}, args...)
	return idp, p, down
}

// owed is how many revocations are owed, by the SQLite file.
func (p *program) owed(t *testing.T) (n int) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(p.dir, "keyturn.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(`SELECT count(*) FROM owed_revocations`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Whoever has signed out while the provider is not well has their refresh token revoked by the next process.
func TestARevocationOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, p *program){
		"kill -9": func(t *testing.T, p *program) { t.Helper(); p.kill(t) },
		"SIGTERM": func(t *testing.T, p *program) {
			t.Helper()
			if err := p.stop(t); err != nil {
				t.Errorf("it ended with %v", err)
			}
		},
	} {
		for _, engine := range []string{"SQLite", "PostgreSQL"} {
			t.Run(name+" "+engine, func(t *testing.T) {
				t.Parallel()
				var args []string
				if engine == "PostgreSQL" {
					args = append(args, "KEYTURN_DATABASE="+pgtest.Database(t))
				}
				idp, p, down := atUnwell(t, args...)
				alice, bob := p.person(), p.person()
				alice.do(t, "GET", "/auth/oidc", nil)
				bob.do(t, "GET", "/auth/oidc", nil)
				refresh := []string{idp.Issued()[1], idp.Issued()[4]}
				alice.do(t, "POST", "/auth/signout", url.Values{})
				bob.do(t, "POST", "/auth/signout", url.Values{})
				end(t, p)
				if len(idp.Revoked()) != 0 {
					t.Errorf("revoked are %d", len(idp.Revoked()))
				}
				down.Store(false)
				p.again(t)
				patiently(t, "the revocations to be made", func() bool { return len(idp.Revoked()) >= 2 })
				if got := slices.Sorted(slices.Values(idp.Revoked())); !slices.Equal(slices.Compact(got), slices.Sorted(slices.Values(refresh))) {
					t.Error("others are revoked than those of the sign-outs")
				}
				if engine == "SQLite" {
					patiently(t, "nothing to be owed", func() bool { return p.owed(t) == 0 })
				}
			})
		}
	}
}

// A process that is killed during the call does not know what came of it.
func TestARevocationThatWasCutOffIsMadeAgain(t *testing.T) {
	t.Parallel()
	begun, release := make(chan bool, 10), make(chan bool)
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Revocation = func(http.ResponseWriter) bool {
			begun <- true
			<-release
			return len(begun) == 1 // the first
		}
	})
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	alice.do(t, "POST", "/auth/signout", url.Values{})
	if len(begun) != 1 {
		t.Error("the call has not begun")
	}
	p.kill(t)
	close(release)
	p.again(t)
	patiently(t, "the revocation to be made", func() bool { return len(idp.Revoked()) == 1 })
}

// patiently is eventually for what waits until nobody else can be at it.
func patiently(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(45 * time.Second); !condition(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// Many end at once at a provider that turns most of them away. SIGTERM comes in the middle, and costs no revocation.
func TestSIGTERMLosesNoRevocation(t *testing.T) {
	t.Parallel()
	takeTurn(t)
	var running atomic.Int32
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Revocation = func(w http.ResponseWriter) bool {
			defer running.Add(-1)
			if running.Add(1) > 10 {
				time.Sleep(100 * time.Millisecond)
				w.WriteHeader(http.StatusTooManyRequests)
				return true
			}
			time.Sleep(500 * time.Millisecond)
			return false
		}
	})
	const others = 60
	var last *person
	for range others + 1 {
		last = p.person()
		last.do(t, "GET", "/auth/oidc", nil)
	}
	last.do(t, "POST", "/dashboard/sessions/signout-others", nil)
	began := time.Now()
	if err := p.stop(t); err != nil || time.Since(began) > 15*time.Second {
		t.Errorf("it ended after %v with %v", time.Since(began), err)
	}
	revoked, owed := len(idp.Revoked()), p.owed(t)
	if revoked == others || revoked+owed < others {
		t.Errorf("%d are revoked, %d owed", revoked, owed)
	}
	p.again(t)
	patiently(t, "all to be revoked", func() bool {
		return len(slices.Compact(slices.Sorted(slices.Values(idp.Revoked())))) == others
	})
}

// A key that seals what is owed stays until that is sealed anew.
func TestAKeyThatSealsWhatIsOwedIsNotRetired(t *testing.T) {
	t.Parallel()
	idp, p, down := atUnwell(t, anyAdmin)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	alice.do(t, "POST", "/auth/signout", url.Values{})
	if want := "keyturn_revocations_owed 1\n"; !strings.Contains(scrape(t, p), want) {
		t.Errorf("the metrics lack %s", want)
	}
	runKeys(t, p, "rotate")
	p.person().do(t, "GET", "/auth/oidc", nil) // the server notices
	ago(t, keysetOf(p), time.Minute)
	if said := runKeys(t, p, "retire"); !strings.Contains(said, "seals 1 grants") || !strings.Contains(said, "No key is retired") {
		t.Errorf("with a revocation that it seals: %s", said)
	}
	if said := runKeys(t, p, "reseal"); said != "2 grants sealed anew.\n" {
		t.Errorf("sealing it anew: %s", said)
	}
	if said := runKeys(t, p, "retire"); !strings.Contains(said, "is retired") {
		t.Errorf("with nothing that it seals: %s", said)
	}
	down.Store(false)
	patiently(t, "the revocation to be made", func() bool { return slices.Equal(idp.Revoked(), []string{idp.Issued()[1]}) })
}

// What the operator's command could not revoke, a server goes on with; unless nothing was to be revoked.
func TestAServerRevokesWhatTheOperatorCouldNot(t *testing.T) {
	t.Parallel()
	idp, p, down := atUnwell(t)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	if said := p.runs(t, "sessions", "end", "--all", "--without-revoking"); said != "Sessions ended: 1.\n" || p.owed(t) != 0 {
		t.Errorf("without revoking: %d are owed; %s", p.owed(t), said)
	}
	alice.do(t, "GET", "/auth/oidc", nil)
	said := p.fails(t, "sessions", "end", "--all")
	if !strings.Contains(said, "Not revoked: 1;") || !strings.Contains(said, "A server that runs tries again, for 24 h: 1 of them.\n") {
		t.Errorf("while the provider is down: %s", said)
	}
	down.Store(false)
	patiently(t, "the server to revoke", func() bool { return slices.Equal(idp.Revoked(), []string{idp.Issued()[4]}) })
}
