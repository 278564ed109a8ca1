package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"keyturn/auth/provider/scripted"
	"keyturn/auth/vault/postgres/pgtest"
)

// measuring skips what measures unless it is asked for (task bench, task scale): figures are worth something only when nothing
// else runs.
func measuring(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("KEYTURN_TEST_MEASURE") != what {
		t.Skip("KEYTURN_TEST_MEASURE=" + what + " runs it")
	}
}

// table is what a measurement prints, line by line as it goes on.
type table struct{ *tabwriter.Writer }

func newTable(heads ...string) table {
	tw := table{tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)}
	fmt.Fprintln(tw)
	tw.row(heads...)
	return tw
}

func (tw table) row(cells ...string) { fmt.Fprintln(tw, strings.Join(cells, "\t")+"\t") }

// headed is where bareEcho writes the same headers, too.
const headed = "/headed"

// bareEcho starts an Echo server, in a process of its own, that writes the same bytes as Keyturn does to a person.
func bareEcho(t *testing.T, b *person, paths ...string) (base string, pid int) {
	t.Helper()
	folder := t.TempDir()
	program := filepath.Join(t.TempDir(), "barecho")
	if output, err := exec.Command("go", "build", "-o", program, "./barecho").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	for _, path := range paths {
		page := b.do(t, "GET", path, nil, "Accept-Encoding", "identity")
		name := strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "_")
		page.header.Del("Date") // net/http writes it
		page.header.Del("Content-Length")
		whole, err := json.Marshal(map[string]any{"Header": page.header, "Body": []byte(page.body)})
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, name), whole, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, folder)
	line, err := bufio.NewReader(runBeside(t, cmd)).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(strings.TrimPrefix(line, "open ")), cmd.Process.Pid
}

// runBeside starts a program that lives as long as the test, and returns what it says.
func runBeside(t *testing.T, cmd *exec.Cmd) (stdout io.Reader) {
	t.Helper()
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return stdout
}

// cookie is the person's session as a header's value.
func (b *person) cookie(t testing.TB) string {
	t.Helper()
	for _, cookie := range b.Jar.Cookies(parsedURL(t, b.base)) {
		if strings.HasSuffix(cookie.Name, "keyturn_session") {
			return cookie.Name + "=" + cookie.Value
		}
	}
	t.Fatal("no session")
	return ""
}

// signedInCookies signs people in, renews for each of them a few times, and returns the first of them and all cookies.
func signedInCookies(t *testing.T, p *program, people, renewals int) (first *person, cookies []string) {
	t.Helper()
	for range people {
		b := p.person().staying()
		b.signInScripted(t)
		for range renewals {
			b.do(t, "POST", "/api/renew-token", nil)
		}
		cookies = append(cookies, b.cookie(t))
		if first == nil {
			first = b
		}
	}
	return first, cookies
}

// The read path beside a bare Echo server that writes the same bytes.
func TestMeasureReading(t *testing.T) {
	measuring(t, "bench")
	figures := newTable("page", "server", "requests/s", "of bare Echo", "with its headers", "p50", "p99", "of bare Echo", "memory")
	for _, engine := range []string{"SQLite", "PostgreSQL"} {
		t.Run(engine, func(t *testing.T) {
			args := []string{"--log-level=info"}
			if engine == "PostgreSQL" {
				args = append(args, "KEYTURN_DATABASE="+pgtest.Database(t))
			}
			_, p := atScripted(t, nil, args...)
			alice, cookies := signedInCookies(t, p, 100, 10)
			echo, echoPID := bareEcho(t, alice, "/dashboard", "/api/session")
			for _, c := range []struct {
				path, who string
				cookies   []string
			}{
				{"/dashboard", "one session", cookies[:1]}, {"/dashboard", "100 sessions", cookies},
				{"/api/session", "one session", cookies[:1]}, {"/api/session", "100 sessions", cookies},
			} {
				serve := func(base string, pid int) func() loaded {
					return func() loaded {
						l := wrk(t, base+c.path, c.cookies)
						l.memory = resident(pid)
						return l
					}
				}
				all := inTurn(t, serve(echo, echoPID), serve(echo+headed, echoPID), serve(p.base, p.cmd.Process.Pid))
				of := func(l, base loaded) string { return fmt.Sprintf("%.0f %%", 100*l.rate/base.rate) }
				for i, name := range []string{"bare Echo", "bare Echo with the same headers", "Keyturn, " + engine} {
					l := all[i]
					figures.row(c.path+", "+c.who, name, fmt.Sprintf("%.0f", l.rate), of(l, all[0]), of(l, all[1]),
						milliseconds(l.p50), milliseconds(l.p99), fmt.Sprintf("%.1f×", float64(l.p99)/float64(all[0].p99)),
						fmt.Sprintf("%d MB", l.memory>>20))
				}
			}
		})
	}
	_ = figures.Flush()
}

// Nobody waits for a provider while the token is valid: how long requests take beside one that is always due and takes
// two seconds to renew, and beside one that is fresh.
func TestMeasureBesideASlowProvider(t *testing.T) {
	measuring(t, "bench")
	serve := func(args ...string) (run func() loaded, idp *scripted.Provider) {
		idp, p := atScripted(t, slowly(2*time.Second), append(args, "--log-level=info")...)
		_, cookies := signedInCookies(t, p, 1, 0)
		return func() loaded { return wrk(t, p.base+"/api/session", cookies) }, idp
	}
	fresh, _ := serve()
	due, idp := serve("--max-age=1s")
	both := inTurn(t, fresh, due)
	figures := newTable("/api/session while", "requests/s", "p50", "p99")
	for i, name := range []string{"the token is fresh", "it is renewed at a provider that takes 2 s"} {
		figures.row(name, fmt.Sprintf("%.0f", both[i].rate), milliseconds(both[i].p50), milliseconds(both[i].p99))
	}
	_ = figures.Flush()
	if idp.TokenCalls() == 0 {
		t.Error("there was no renewal beside the load")
	}
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}
