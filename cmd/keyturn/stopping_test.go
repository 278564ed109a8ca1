package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3/lock"

	"keyturn/auth/authtest"
	"keyturn/auth/provider/scripted"
	"keyturn/auth/vault/postgres/pgtest"
)

// A log that nobody reads any more, as on Ctrl-C where tee(1) ends of the same signal, cuts no renewal.
func TestALogWithoutAReaderEndsNoRenewal(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	idp.Change(func() { idp.Class = scripted.FamilyRevoked })
	p := &program{base: "http://localhost:0", dir: filepath.Join(t.TempDir(), "data"), log: &authtest.Buffer{}, args: []string{
		"KEYTURN_ISSUER=" + idp.URL, "KEYTURN_CLIENT_ID=" + scripted.ClientID, "KEYTURN_CLIENT_SECRET=" + scripted.ClientSecret,
	}}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := p.operates(t)
	cmd.Stdout, cmd.Stderr = writer, writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	for lines := bufio.NewScanner(reader); lines.Scan(); {
		if _, base, ready := strings.Cut(lines.Text(), "open http"); ready {
			p.base = "http" + base
			break
		}
	}
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	presented := make(chan bool, 1)
	idp.Change(func() {
		idp.Token = func(http.ResponseWriter, *http.Request, func() map[string]any) bool {
			presented <- true
			time.Sleep(time.Second)
			return false
		}
	})
	go func() { _, _ = alice.try(t.Context(), "POST", "/api/renew-token", nil) }()
	<-presented
	reader.Close()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	idp.Change(func() { idp.Token = nil })
	p.again(t)
	if g := alice.generation(t); g != 2 {
		t.Errorf("generation %v", g)
	}
}

// Whoever stops a start is not told of settings that cannot be used.
func TestAStartIsStopped(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ where, held, waits string }{
		{"at a look", `BEGIN; CREATE TABLE goose_db_version (id int); COMMIT; BEGIN; LOCK TABLE goose_db_version`, `wait_event_type = 'Lock'`},
		{"while another migrates", fmt.Sprintf(`SELECT pg_advisory_lock(%d)`, lock.DefaultLockID), `query LIKE '%pg_try_advisory_lock%'`},
	} {
		database := pgtest.Database(t)
		conn, err := pgx.Connect(t.Context(), database)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
		if _, err := conn.Exec(t.Context(), c.held); err != nil {
			t.Fatal(err)
		}
		var said authtest.Buffer
		p := &program{base: "http://localhost:0", dir: filepath.Join(t.TempDir(), "data"), args: []string{"KEYTURN_DATABASE=" + database}}
		cmd := p.operates(t)
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, c.where, func() (waits bool) {
			_, _ = conn.Exec(t.Context(), `SELECT pg_stat_clear_snapshot()`) // a transaction sees the same ever after
			err := conn.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity
				WHERE datname = current_database() AND application_name = 'keyturn' AND `+c.waits+`)`).Scan(&waits)
			return err == nil && waits
		})
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil || !strings.Contains(said.String(), `msg="stopped while starting"`) ||
			strings.Contains(said.String(), "cannot be used") {
			t.Errorf("%s: it ended with %v:\n%s", c.where, err, &said)
		}
	}
}

// A request on a connection that came before the listener closed is answered, also when it arrives after that. How quickly the test is
// about it is up to the machine, so it has more than one try.
func TestWhatArrivesAtTheEndIsAnswered(t *testing.T) {
	t.Parallel()
	arrives := func() error {
		p := startProgram(t, "--drain-delay=0")
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		p.terminate(t)
		eventually(t, "it drains", func() bool { return strings.Contains(p.log.String(), "running renewals finish first") })
		_, _ = fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n", strings.TrimPrefix(p.base, "http://"))
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil {
			defer answer.Body.Close()
		}
		return errors.Join(err, p.end(t))
	}
	var err error
	for range 10 {
		if err = arrives(); err == nil {
			return
		}
	}
	t.Error(err)
}
