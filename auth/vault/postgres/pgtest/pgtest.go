// Package pgtest starts PostgreSQL servers for tests, from the programs that Debian's package installs.
package pgtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"keyturn/auth/authtest"
)

// Password is in the URLs of the databases, for tests to look for where it must not be. The server takes any.
const Password = "CANARY-database-password"

// readyWait bounds the start of a server.
const readyWait = 60 * time.Second

// Server is a PostgreSQL server with its own files on a free port of the loopback interface. It ends with the process of the
// test, however that ends.
type Server struct {
	bin  string
	dir  string
	port string
	life io.Closer // the server stops when it is closed
	done chan error
}

var (
	shared    = sync.OnceValues(func() (*Server, error) { return create(programs()) })
	databases atomic.Int64
)

// Database returns the URL of a fresh database at the server that the tests of one binary share.
func Database(t testing.TB) string {
	t.Helper()
	authtest.Require(t, "postgres", programs() != "")
	s, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return s.Database(t)
}

// New starts a server of the test's own, which it may stop.
func New(t testing.TB) *Server {
	t.Helper()
	authtest.Require(t, "postgres", programs() != "")
	s, err := create(programs())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Stop()
		_ = os.RemoveAll(s.dir)
	})
	return s
}

// programs is the folder of the newest PostgreSQL on this machine; empty when there is none.
func programs() string {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return ""
	}
	slices.SortFunc(found, func(a, b string) int { return len(a) - len(b) + strings.Compare(a, b) })
	return filepath.Dir(found[len(found)-1])
}

func create(bin string) (*Server, error) {
	dir, err := os.MkdirTemp("", "keyturn-postgres-")
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, dir: dir}
	if os.Geteuid() == 0 {
		if output, err := exec.Command("chown", "postgres:", dir).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("prepare PostgreSQL's folder: %w: %s", err, output)
		}
	}
	initdb := s.command(filepath.Join(bin, "initdb"), "-D", s.data(), "-U", "keyturn", "-A", "trust", "-E", "UTF8",
		"--locale=C", "--no-sync")
	if output, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, output)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.port = strconv.Itoa(free.Addr().(*net.TCPAddr).Port)
	_ = free.Close()
	return s, s.Start()
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// command runs a program as the user postgres where this process is root's: PostgreSQL refuses to be.
func (s *Server) command(args ...string) *exec.Cmd {
	if os.Geteuid() == 0 {
		args = append([]string{"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = s.dir
	return cmd
}

// fsync says whether the server waits for the disk: only where that is measured. No test pulls the plug, and what is written outlives
// the server.
func fsync() string {
	if os.Getenv("KEYTURN_TEST_MEASURE") != "" {
		return "on"
	}
	return "off"
}

// Start starts the server again after Stop or Crash, and waits until it answers.
func (s *Server) Start() error {
	// The shell outlives a test that is killed: its input ends then, and it stops the server.
	const script = `"$@" >>log 2>&1 & server=$!
		read -r how; kill -"${how:-QUIT}" $server; wait $server
		[ -n "$how" ] || rm -rf "$PWD"`
	cmd := s.command("sh", "-c", script, "sh", filepath.Join(s.bin, "postgres"), "-D", s.data(), "-p", s.port, "-c", "fsync="+fsync(),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=400")
	life, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	s.life, s.done = life, make(chan error, 1)
	go func() { s.done <- cmd.Wait() }()
	for deadline := time.Now().Add(readyWait); ; time.Sleep(20 * time.Millisecond) {
		if err = s.do("SELECT 1"); err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("PostgreSQL does not answer: %w\n%s", err, said)
		}
	}
}

// Stop stops the server as an operator would; what is under way is cut off. It returns when the server has ended.
func (s *Server) Stop() { s.end("INT") }

// Crash stops the server as a power cut would, but for what the operating system has not written.
func (s *Server) Crash() { s.end("QUIT") }

func (s *Server) end(signal string) {
	if s.life == nil {
		return
	}
	_, _ = io.WriteString(s.life.(io.Writer), signal+"\n")
	<-s.done
	s.life = nil
}

// AtRest brings a database to what it is like in the long run: nothing that was put off while it was filled is left to do, and its buffers,
// as many as are asked for ("128MB"), hold as much of it as has room.
func (s *Server) AtRest(t testing.TB, database, buffers string) {
	t.Helper()
	if err := s.do("ALTER SYSTEM SET shared_buffers = '" + buffers + "'"); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		"VACUUM ANALYZE", "CHECKPOINT", "CREATE EXTENSION IF NOT EXISTS pg_prewarm",
		"SELECT pg_prewarm(oid) FROM pg_class WHERE relkind IN ('r', 'i', 't') ORDER BY relkind = 'i'",
	} {
		if err := doAt(database, statement); err != nil {
			t.Fatal(err)
		}
	}
}

// Database makes a fresh database and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := "test" + strconv.FormatInt(databases.Add(1), 10)
	if err := s.do("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	return s.url(name)
}

func (s *Server) url(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword("keyturn", Password), Host: "127.0.0.1:" + s.port, Path: database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

func (s *Server) do(statement string) error { return doAt(s.url("postgres"), statement) }

func doAt(database, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), readyWait)
	defer cancel()
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, statement)
	return err
}
