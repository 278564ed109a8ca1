package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/authtest"
	"keyturn/auth/provider/scripted"
	"keyturn/auth/session"
	"keyturn/auth/vault"
	"keyturn/auth/vault/keyset"
	"keyturn/auth/vault/postgres/pgtest"
	"keyturn/auth/vault/vaulttest"
)

const (
	scaleSamples = 1000 // of each operation; what is shown is the least median
	scaleRounds  = 3    // of all of them, with other grants: where a core sleeps between two questions, the waking is no matter of the vault's
	scaleWorkers = 64   // that fill the vault
)

// filled is a vault that grows.
type filled struct {
	database
	ids    []string
	hashes []string
}

// fill adds grants of live sessions until there are n. None of them is due yet.
func (f *filled) fill(t *testing.T, n int) {
	t.Helper()
	work := make(chan int, scaleWorkers)
	from := len(f.ids)
	f.ids, f.hashes = slices.Grow(f.ids, n-from)[:n], slices.Grow(f.hashes, n-from)[:n]
	var all sync.WaitGroup
	for range scaleWorkers {
		all.Go(func() {
			for i := range work {
				if err := f.add(t.Context(), i); err != nil {
					t.Errorf("grant %d: %v", i, err)
					return
				}
			}
		})
	}
	for i := from; i < n && !t.Failed(); i++ {
		work <- i
	}
	close(work)
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

func (f *filled) add(ctx context.Context, i int) error {
	now := time.Now()
	g := vaulttest.Grant(now)
	g.Identity.Provider, g.Identity.Subject = "oidc", fmt.Sprint("person-", i)
	g.Tokens.Access, g.Tokens.ID = auth.Secret(strings.Repeat(rand.Text(), 30)), auth.Secret(strings.Repeat(rand.Text(), 30)) // as long as JWTs
	g.DueAt = now.Add(time.Hour + time.Duration(i)*time.Millisecond)
	g.SessionHash = session.Hash(g.ID)
	f.ids[i], f.hashes[i] = g.ID, g.SessionHash
	if err := f.Create(ctx, g); err != nil {
		return err
	}
	ctx = session.NewContext(ctx)
	session.FromContext(ctx).Owner = session.Owner{GrantID: g.ID, Provider: "oidc", Subject: g.Identity.Subject}
	return f.Sessions().CommitCtx(ctx, g.SessionHash, []byte(fmt.Sprint(now.Add(48*time.Hour).UnixMicro())), now.Add(48*time.Hour))
}

// median is how long an operation takes with one of the grants, each taken once.
func (f *filled) median(t *testing.T, operation func(i int) error) time.Duration {
	t.Helper()
	took := make([]time.Duration, 0, scaleSamples)
	for _, i := range mathrand.Perm(len(f.ids))[:scaleSamples] {
		began := time.Now()
		if err := operation(i); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// figures are a read, a look for a session, a scan for a hundred due grants, and what a renewal stores.
func (f *filled) figures(t *testing.T) []time.Duration {
	t.Helper()
	ctx := t.Context()
	return []time.Duration{
		f.median(t, func(i int) error { _, err := f.Get(ctx, f.ids[i]); return err }),
		f.median(t, func(i int) error {
			_, _, err := f.Sessions().FindCtx(session.NewContext(ctx), f.hashes[i])
			return err
		}),
		f.median(t, func(int) error {
			list, err := f.Due(ctx, "oidc", time.Now().Add(2*time.Hour), auth.Candidate{}, 100)
			if err == nil && len(list) != 100 {
				err = fmt.Errorf("%d grants are due", len(list))
			}
			return err
		}),
		f.median(t, func(i int) error {
			g, err := f.Get(ctx, f.ids[i])
			if err == nil {
				err = f.Claim(ctx, g, "me", time.Minute, time.Now())
			}
			if err != nil {
				return err
			}
			next, record := vaulttest.Renewed(g, time.Now())
			return f.Replace(ctx, "me", next, record)
		}),
	}
}

// scaled is a database whose figures are taken at each size.
type scaled struct {
	Settings
	p     *program
	setup map[string]func() // by what the table calls it, what comes before its figures; the names' order is the rows'
}

// scaledEngines are what is measured: PostgreSQL with the buffers that it has by itself, and with as many as hold a million grants.
func scaledEngines(t *testing.T, engine string, keysetFile string) scaled {
	t.Helper()
	idp := scripted.New(t)
	dir := filepath.Dir(keysetFile)
	s := scaled{p: &program{dir: dir, log: &authtest.Buffer{}}, Settings: Settings{DataDir: dir, SessionIdle: 48 * time.Hour}}
	s.p.args = []string{
		"KEYTURN_ISSUER=" + idp.URL, "KEYTURN_CLIENT_ID=" + scripted.ClientID, "KEYTURN_CLIENT_SECRET=" + scripted.ClientSecret,
		"--session-idle=48h", "--session-lifetime=48h", "--log-level=info",
	}
	if engine == "SQLite" {
		s.Database = databaseDSN{Engine: "sqlite", Path: filepath.Join(dir, "keyturn.db")}
		s.setup = map[string]func(){engine: func() {}}
		return s
	}
	server := pgtest.New(t)
	url := server.Database(t)
	s.Database = databaseDSN{Engine: enginePostgres, URL: auth.Secret(url)}
	s.p.args = append(s.p.args, "KEYTURN_DATABASE="+url)
	s.setup = map[string]func(){}
	for _, buffers := range []string{"128MB", "4GB"} {
		s.setup[engine+", "+buffers] = func() { server.AtRest(t, url, buffers) }
	}
	return s
}

// What a vault with many grants takes: each figure beside what it is with a thousand.
func TestMeasureScale(t *testing.T) {
	measuring(t, "scale")
	figures := newTable("engine", "grants", "read a grant", "find a session", "find 100 due", "store a renewal", "start-up", "memory", "filled in")
	for _, engine := range []string{"SQLite", "PostgreSQL"} {
		t.Run(engine, func(t *testing.T) {
			keysetFile := filepath.Join(t.TempDir(), "data", "keyset.json")
			if err := keyset.Create(keysetFile); err != nil {
				t.Fatal(err)
			}
			keys, err := keyset.Open(keysetFile)
			if err != nil {
				t.Fatal(err)
			}
			s := scaledEngines(t, engine, keysetFile)
			f, first := &filled{}, map[string][]time.Duration{}
			open := func() {
				if f.database, err = openEngine(t.Context(), s.Settings, vault.Sealer{Keys: keys}, false, slog.New(slog.DiscardHandler)); err != nil {
					t.Fatal(err)
				}
			}
			for _, size := range []int{1_000, 100_000, 1_000_000} {
				open()
				began := time.Now()
				f.fill(t, size)
				took := time.Since(began)
				_ = f.Close()
				for _, name := range slices.Sorted(maps.Keys(s.setup)) {
					s.setup[name]()
					var measured []time.Duration
					for range scaleRounds {
						open() // with nothing in its caches
						for i, figure := range f.figures(t) {
							if len(measured) == i {
								measured = append(measured, figure)
							}
							measured[i] = min(measured[i], figure)
						}
						_ = f.Close()
					}
					if first[name] == nil {
						first[name] = measured
					}
					row := []string{name, fmt.Sprint(size)}
					for i, figure := range measured {
						row = append(row, fmt.Sprintf("%s, %.2f×", milliseconds(figure), float64(figure)/float64(first[name][i])))
					}
					running := launch(t, s.p, "localhost:0")
					time.Sleep(3 * time.Second) // several rounds of the scheduler and of the upkeep
					row = append(row, milliseconds(running.started), fmt.Sprintf("%d MB", resident(running.cmd.Process.Pid)>>20), took.Round(time.Second).String())
					running.kill(t)
					figures.row(row...)
					_, _ = fmt.Fprintln(os.Stderr, strings.Join(row, "  "))
				}
			}
		})
	}
	_ = figures.Flush()
}
