package main

import (
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keyturn/auth/authtest"
	"keyturn/auth/provider/scripted"
)

// execute runs a statement on a database that the program has open.
func execute(t testing.TB, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

// count counts rows of the program's SQLite file.
func (p *program) count(t testing.TB, what string) (n int) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(p.dir, "keyturn.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM "+what).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// failingParts are what /readyz names.
func failingParts(t *testing.T, a answer) []string {
	t.Helper()
	var names []string
	list, _ := a.json(t)["failing"].([]any)
	for _, name := range list {
		names = append(names, fmt.Sprint(name))
	}
	return names
}

func TestReadinessNamesWhatFails(t *testing.T) {
	t.Parallel()
	p := startProgram(t, anyAdmin)
	admin := adminOf(t, p)
	for _, at := range []string{"/healthz", "/readyz", admin + "/healthz", admin + "/readyz"} {
		if a := p.person().do(t, "GET", at, nil); a.status != 200 {
			t.Errorf("%s: %d %s", at, a.status, a.body)
		}
	}
	if err := os.WriteFile(filepath.Join(p.dir, "keyset.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if a := p.person().do(t, "GET", "/readyz", nil); a.status != 503 || !slices.Equal(failingParts(t, a), []string{"keyset"}) {
		t.Errorf("with a broken keyset: %d %s", a.status, a.body)
	}
	execute(t, filepath.Join(p.dir, "keyturn.db"), `DELETE FROM goose_db_version WHERE version_id > 1`)
	if a := p.person().do(t, "GET", "/readyz", nil); !slices.Contains(failingParts(t, a), "migrations") {
		t.Errorf("without the second migration: %d %s", a.status, a.body)
	}
	execute(t, filepath.Join(p.dir, "keyturn.db"), `ALTER TABLE sessions RENAME TO elsewhere`)
	if a := p.person().do(t, "GET", "/readyz?exclude=database&exclude=migrations", nil); !slices.Equal(failingParts(t, a), []string{"keyset"}) {
		t.Errorf("without the database: %d %.200s", a.status, a.body)
	}
	if a := p.person().do(t, "GET", "/readyz", nil); !slices.Contains(failingParts(t, a), "database") {
		t.Errorf("without the table of sessions: %d %s", a.status, a.body)
	}
	if a := p.person().do(t, "GET", "/healthz", nil); a.status != 200 {
		t.Errorf("/healthz says that the process is not up: %d", a.status)
	}
}

// The admin listener shows how the process runs, and not what it was called with: that may be a password.
func TestTheAdminListenerShowsNoCommandLine(t *testing.T) {
	t.Parallel()
	p := startProgram(t, anyAdmin)
	admin := adminOf(t, p)
	if a := p.person().do(t, "GET", admin+"/debug/pprof/goroutine?debug=1", nil); a.status != http.StatusOK || !strings.Contains(a.body, "goroutine profile") {
		t.Errorf("%d %.200s", a.status, a.body)
	}
	if a := p.person().do(t, "GET", admin+"/debug/pprof/cmdline", nil); a.status != http.StatusNotFound || strings.Contains(a.body, "--data-dir") {
		t.Errorf("%d %.200s", a.status, a.body)
	}
}

// A load balancer has to see that the process is not ready before connections to it fail.
func TestOnSIGTERMItIsNotReadyFirstAndGoesOnServing(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil, "--drain-delay=4s", anyAdmin)
	admin := adminOf(t, p)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	p.terminate(t)
	eventually(t, "it is not ready", func() bool {
		a := p.person().do(t, "GET", "/readyz", nil)
		return a.status == 503 && slices.Equal(failingParts(t, a), []string{"stopping"})
	})
	conn, err := net.Dial("tcp", parsedURL(t, p.base).Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
	fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if all, err := io.ReadAll(conn); err != nil || !strings.Contains(string(all), "Connection: close") {
		t.Errorf("a connection that is not to be used again stays open: %v, %s", err, all)
	}
	if a := p.person().do(t, "GET", admin+"/readyz", nil); a.status != 503 {
		t.Errorf("on the admin listener: %d", a.status)
	}
	if a := alice.do(t, "POST", "/api/renew-token", nil); a.status != 200 || a.json(t)["outcome"] != "kept" ||
		a.json(t)["error"].(map[string]any)["code"] != "shutting_down" {
		t.Errorf("meanwhile: %d %s", a.status, a.body)
	}
	if err := p.end(t); err != nil || strings.Count(p.log.String(), "msg=stopped") != 1 {
		t.Errorf("it ended with %v:\n%s", err, p.log)
	}
}

func TestASecondSignalEndsADrainAtOnce(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil, "--drain-delay=10m")
	p.terminate(t)
	p.terminate(t) // as timeout(1) does
	eventually(t, "it drains", func() bool { return strings.Contains(p.log.String(), "not ready from now on") })
	if a := p.person().do(t, "GET", "/healthz", nil); a.status != http.StatusOK {
		t.Errorf("after the same signal twice: %d", a.status)
	}
	eventually(t, "it ends", func() bool {
		_ = p.cmd.Process.Signal(os.Interrupt)
		return len(p.exited) > 0
	})
	_ = p.end(t)
	if code := p.cmd.ProcessState.ExitCode(); code != 1 || strings.Count(p.log.String(), "by a second signal") != 1 ||
		strings.Contains(p.log.String(), "msg=stopped") {
		t.Errorf("exit code %d:\n%s", code, p.log)
	}
}

func TestErrorPagesAreForPeopleAndJSONForPrograms(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	alice := p.person()
	alice.signIn(t, "alice")
	for _, c := range []struct {
		method, path string
		status       int
		code         string
		header       []string
	}{
		{"GET", "/nothing", 404, "not_found", nil},
		{"DELETE", "/dashboard", 405, "method_not_allowed", nil},
		{"POST", "/dashboard/userinfo", 403, "cross_origin", []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}},
		{"POST", "/dashboard/tokens/nothing/reveal", 404, "not_found", nil},
	} {
		page := alice.do(t, c.method, c.path, nil, append(c.header, "Accept", "text/html")...)
		if page.status != c.status || !strings.Contains(page.body, "<html") || !strings.Contains(page.body, fmt.Sprint(c.status)) {
			t.Errorf("%s %s: %d %s", c.method, c.path, page.status, page.body)
		}
		if page.status == 405 && page.header.Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", c.method, c.path)
		}
	}
	for path, want := range map[string]string{"/api/nothing": "not_found", "/api/session/more": "not_found"} {
		if a := alice.do(t, "GET", path, nil, "Accept", "text/html"); a.json(t)["error"].(map[string]any)["code"] != want {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	for _, asking := range [][]string{{"Accept", "text/html"}, {"HX-Request", "true"}, {"Accept", "application/json, text/html;q=0.5"}} {
		foreign := append([]string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, asking...)
		if a := alice.do(t, "POST", "/api/renew-token", nil, foreign...); a.status != 403 ||
			a.json(t)["error"].(map[string]any)["code"] != "cross_origin" {
			t.Errorf("%v: %d %s", asking, a.status, a.body)
		}
		if a := alice.do(t, "GET", "/api/nothing", nil, asking...); a.json(t)["error"].(map[string]any)["code"] != "not_found" {
			t.Errorf("%v: %s", asking, a.body)
		}
	}
	if a := alice.do(t, "POST", "/api/trigger-renew-token", nil, "Accept", "text/html;q=0.5, application/json"); a.json(t)["status"] != 200.0 {
		t.Errorf("%s", a.body)
	}
	if a := alice.do(t, "PUT", "/api/session", nil); a.status != 405 || a.json(t)["error"].(map[string]any)["code"] != "method_not_allowed" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestFilesForRobotsAndFinders(t *testing.T) {
	t.Parallel()
	silent, says := startProgram(t), startProgram(t, "--security-contact=security@example.com")
	if a := silent.person().do(t, "GET", "/robots.txt", nil); a.body != "User-agent: *\nDisallow: /\n" {
		t.Errorf("robots.txt: %q", a.body)
	}
	if a := silent.person().do(t, "GET", "/.well-known/security.txt", nil); a.status != 404 {
		t.Errorf("security.txt without a contact: %d", a.status)
	}
	a := says.person().do(t, "GET", "/.well-known/security.txt", nil)
	fields := map[string]string{}
	for line := range strings.Lines(a.body) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		fields[name] = value
	}
	expires, err := time.Parse(time.RFC3339, fields["Expires"])
	if left := time.Until(expires); err != nil || left < 24*time.Hour || left > 365*24*time.Hour {
		t.Errorf("it expires %q", fields["Expires"])
	}
	if fields["Contact"] != "mailto:security@example.com" || fields["Canonical"] != says.base+"/.well-known/security.txt" ||
		!strings.HasPrefix(a.header.Get("Content-Type"), "text/plain; charset=UTF-8") {
		t.Errorf("%v: %s", a.header, a.body)
	}
}

func TestSigningOutClearsWhatTheBrowserKeeps(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	a := alice.staying().do(t, "POST", "/auth/signout", nil)
	if clears := a.header.Get("Clear-Site-Data"); a.status != http.StatusSeeOther || clears != `"cache", "storage"` {
		t.Errorf("%d, Clear-Site-Data %q", a.status, clears)
	}
}

// In the image, and wherever else every interface is listened on, people are one line away from knowing what they tried.
func TestAnEmbeddedProviderThatOthersReachIsWarnedOf(t *testing.T) {
	t.Parallel()
	for addr, warned := range map[string]bool{"localhost:0": false, "127.0.0.1:0": false, ":0": true, "0.0.0.0:0": true} {
		p := launch(t, &program{dir: filepath.Join(t.TempDir(), "data"), log: &authtest.Buffer{}}, addr)
		if got := strings.Contains(p.log.String(), "can sign in as anybody"); got != warned {
			t.Errorf("%s: warned: %v\n%s", addr, got, p.log)
		}
	}
	idp := scripted.New(t)
	p := launch(t, &program{dir: filepath.Join(t.TempDir(), "data"), log: &authtest.Buffer{}, args: []string{
		"KEYTURN_ISSUER=" + idp.URL, "KEYTURN_CLIENT_ID=" + scripted.ClientID,
	}}, ":0")
	if strings.Contains(p.log.String(), "can sign in as anybody") {
		t.Errorf("with a provider: %s", p.log)
	}
}
