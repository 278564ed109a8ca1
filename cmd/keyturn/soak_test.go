package main

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth/authtest"
	"keyturn/auth/provider/scripted"
)

// figures are what a program uses.
type figures struct {
	memory, heap                        float64 // MiB
	goroutines, files                   float64
	sessions, pending, grants, renewals int // rows; pending are sessions in which nobody has signed in yet
}

func (f figures) String() string {
	return fmt.Sprintf("%.0f MiB resident, %.1f MiB heap, %.0f goroutines, %.0f files; rows: %d sessions, %d pending, %d grants, %d renewals",
		f.memory, f.heap, f.goroutines, f.files, f.sessions, f.pending, f.grants, f.renewals)
}

// measure collects the program's garbage and reads its figures.
func measure(t *testing.T, p *program) (f figures) {
	t.Helper()
	operator := p.person()
	defer operator.CloseIdleConnections()
	operator.do(t, "GET", adminOf(t, p)+"/debug/pprof/heap?gc=1", nil)
	text := operator.do(t, "GET", adminOf(t, p)+"/metrics", nil).body
	read := func(name string) float64 {
		found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(text)
		if found == nil {
			t.Fatalf("no metric %s", name)
		}
		n, err := strconv.ParseFloat(found[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	f.memory, f.heap = read("process_resident_memory_bytes")/(1<<20), read("go_memstats_heap_alloc_bytes")/(1<<20)
	f.goroutines, f.files = read("go_goroutines"), read("process_open_fds")
	db, err := sql.Open("sqlite", "file:"+filepath.Join(p.dir, "keyturn.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.QueryRowContext(t.Context(), `SELECT (SELECT count(*) FROM sessions WHERE grant_id <> ''),
		(SELECT count(*) FROM sessions WHERE grant_id = ''), (SELECT count(*) FROM grants), (SELECT count(*) FROM renewals)`).
		Scan(&f.sessions, &f.pending, &f.grants, &f.renewals)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// traffic is people who come, look, renew, reveal and leave, most of them by signing out.
type traffic struct {
	p                 *program
	rough             atomic.Bool  // the program is being restarted
	restarts          atomic.Int64 // that have begun
	tried, came, left atomic.Int64
	asked             atomic.Int64 // requests between
	kept              atomic.Int64 // renewals that the provider failed
}

// run lets people come until ctx is done. A session that is lost is an error.
func (tr *traffic) run(ctx context.Context, t *testing.T) {
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for ctx.Err() == nil {
				tr.visit(ctx, t)
				time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
			}
		})
	}
	all.Wait()
}

func (tr *traffic) visit(ctx context.Context, t *testing.T) {
	b := tr.p.person()
	defer b.CloseIdleConnections()
	restarts := tr.restarts.Load()
	disturbed := func(err error) bool {
		return err != nil || tr.rough.Load() || tr.restarts.Load() != restarts || ctx.Err() != nil
	}
	tr.tried.Add(1)
	a, err := b.try(ctx, "GET", "/auth/oidc", nil)
	if disturbed(err) {
		return
	}
	if a.url.Path != "/dashboard" {
		t.Errorf("a sign-in ends at %s: %d %s", a.url.Path, a.status, a.body)
		return
	}
	tr.came.Add(1)
	came := time.Now()
	watching, unwatch := context.WithCancel(ctx)
	defer unwatch()
	if rand.IntN(4) == 0 {
		go func() { _, _ = b.try(watching, "GET", "/events", nil) }()
	}
	for range 1 + rand.IntN(6) {
		route := []string{
			"GET /dashboard", "GET /api/session", "GET /api/rotations", "POST /api/renew-token", "POST /api/trigger-renew-token",
			"POST /dashboard/tokens/access/reveal", "GET /dashboard/sessions", "POST /dashboard/userinfo",
		}[rand.IntN(8)]
		var method, path string
		_, _ = fmt.Sscan(route, &method, &path)
		a, err := b.try(ctx, method, path, nil, "Accept", "application/json")
		if disturbed(err) {
			continue
		}
		tr.asked.Add(1)
		switch {
		case path == "/api/renew-token" && a.status == http.StatusOK && a.json(t)["outcome"] == "kept":
			tr.kept.Add(1)
		case a.status == http.StatusUnauthorized && time.Since(came) > soakLifetime-5*time.Second:
			return // on a busy machine a visit may take longer than a session
		case a.status != http.StatusOK:
			t.Errorf("%s: %d %.200s", route, a.status, a.body)
		}
	}
	if rand.IntN(10) > 0 {
		if _, err := b.try(ctx, "POST", "/auth/signout", nil); err == nil {
			tr.left.Add(1)
		}
	}
}

// rests waits until nothing is left of a phase of traffic but what was to stay.
func rests(t *testing.T, p *program) figures {
	t.Helper()
	var last figures
	for range 100 {
		f := measure(t, p)
		if f.goroutines == last.goroutines && f.files == last.files {
			return f
		}
		last = f
		time.Sleep(300 * time.Millisecond)
	}
	return last
}

// soakLifetime is how long a session of the soak lives.
const soakLifetime = 20 * time.Second

// An hour of everything, or less than a minute of it: nothing grows that should not.
func TestSoak(t *testing.T) {
	lasts := time.Duration(authtest.Soak(0, 45, 3600)) * time.Second
	if lasts == 0 || authtest.Race {
		t.Skip("KEYTURN_TEST_SOAK is neither short nor long, or the race detector takes memory of its own")
	}
	t.Parallel()
	takeTurn(t)
	free, err := net.Listen("tcp", "127.0.0.1:0") // the log of an hour is better not kept, and so does not name the port
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Class, idp.Interval, idp.Lifetime = scripted.FamilyRevoked, time.Minute, 5*time.Minute
	}, "--log-level=warn", "--session-lifetime="+soakLifetime.String(), "--session-idle="+soakLifetime.String(), "--max-age=3s",
		"--admin-addr="+free.Addr().String())
	ill := func(w http.ResponseWriter, r *http.Request, _ func() map[string]any) bool {
		if r.PostForm.Get("grant_type") != "refresh_token" {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	tr := &traffic{p: p}
	phase := func(lasts time.Duration, meanwhile func()) figures {
		ctx, stop := context.WithTimeout(t.Context(), lasts)
		defer stop()
		var going sync.WaitGroup
		going.Go(func() { tr.run(ctx, t) })
		for ctx.Err() == nil {
			idp.Change(func() { idp.Token = ill })
			time.Sleep(500 * time.Millisecond)
			idp.Change(func() { idp.Token = nil })
			meanwhile()
			time.Sleep(2 * time.Second)
		}
		going.Wait()
		return rests(t, p)
	}
	idle := rests(t, p)
	phase(lasts/3, func() {
		tr.rough.Store(true)
		defer tr.rough.Store(false)
		if tr.restarts.Add(1)%2 == 0 {
			p.kill(t)
		} else if err := p.stop(t); err != nil {
			t.Errorf("it ended with %v:\n%s", err, p.log)
		}
		p.again(t)
	})
	before := phase(lasts/6, func() {})
	after := phase(lasts/2, func() {})
	t.Logf("%d sign-ins, %d sign-outs, %d requests between, %d renewals failed by the provider, %d restarts",
		tr.came.Load(), tr.left.Load(), tr.asked.Load(), tr.kept.Load(), tr.restarts.Load())
	t.Logf("before:        %v", idle)
	t.Logf("after a sixth: %v", before)
	t.Logf("at the end:    %v", after)
	if after.heap > 1.5*before.heap+16 {
		t.Error("memory is left")
	}
	// Who has gone without a sign-out leaves rows: the session until upkeep finds it over, its grant for ten minutes.
	var rows figures
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(2 * time.Second) {
		if rows = measure(t, p); rows.sessions == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("sessions are left: %v", rows)
			break
		}
	}
	if abandoned := int(tr.tried.Load() - tr.left.Load()); rows.grants > abandoned || lasts > 20*time.Minute && rows.grants > abandoned/2 {
		t.Errorf("%d grants are left of at most %d people who did not sign out", rows.grants, abandoned)
	}
	// A sign-in that broke off stays for ten minutes.
	if broken := int(tr.tried.Load() - tr.came.Load()); rows.pending > broken || lasts > 20*time.Minute && rows.pending > broken/2 {
		t.Errorf("%d sessions without a person are left of %d sign-ins that broke off", rows.pending, broken)
	}
	t.Logf("and then:      %v", rows)
	// Connections stay open for a while in case they are of use again; one leak for each sign-in would be hundreds.
	if rows.goroutines > idle.goroutines+80 {
		t.Error("goroutines are left")
	}
	if rows.files > idle.files+80 {
		t.Error("files are left open")
	}
}
