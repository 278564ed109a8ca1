//go:build unix

package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"keyturn/auth/authtest"
)

// connectionsFor is how many connections a test can have, of those that it would like: it and the program need a file for each.
func connectionsFor(t *testing.T, wish int) int {
	t.Helper()
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if most := int(files.Cur) - 1000; wish > most {
		t.Logf("%d connections instead of %d: this machine allows %d open files", most, wish, files.Cur)
		return max(most, 100)
	}
	return wish
}

// opened is how many connections are opened at a time.
const opened = 16

// Some say nothing, some begin a request and never end it, some keep a body to themselves, and some never read their answer.
func TestSlowConnectionsDoNotStopASignedInPage(t *testing.T) {
	t.Parallel()
	p := startProgram(t, "--log-level=info")
	alice := p.person()
	alice.signIn(t, "alice")
	server, err := net.ResolveTCPAddr("tcp", parsedURL(t, p.base).Host)
	if err != nil {
		t.Fatal(err)
	}
	begins := []string{
		"",
		"GET /dashboard HTTP/1.1\r\nHost: x\r\nX-Slow: ",
		"POST /api/renew-token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\na=",
		"GET /static/vendor/htmx.org/htmx.min.js HTTP/1.1\r\nHost: x\r\n\r\n",
	}
	n := connectionsFor(t, authtest.Soak(2000, 2000, 10_000))
	slow := make([]*net.TCPConn, n)
	t.Cleanup(func() {
		for _, conn := range slow {
			if conn != nil {
				conn.Close()
			}
		}
	})
	answers := func() {
		t.Helper()
		began := time.Now()
		if a := alice.do(t, "GET", "/dashboard", nil); a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the page took %v", took)
		}
	}
	var opening sync.WaitGroup
	for first := range opened {
		opening.Go(func() {
			for i := first; i < n; i += opened {
				conn, err := net.DialTCP("tcp", nil, server)
				if err != nil {
					t.Errorf("connection %d: %v", i, err)
					return
				}
				slow[i] = conn
				_, _ = io.WriteString(conn, begins[i%len(begins)])
			}
		})
	}
	for range 10 {
		answers()
	}
	opening.Wait()
	if t.Failed() {
		return
	}
	for range 10 {
		for _, conn := range slow {
			_, _ = conn.Write([]byte("a")) // a little more; the server may have hung up
		}
		answers()
	}
	if a := alice.do(t, "POST", "/api/renew-token", nil); a.status != http.StatusOK || a.json(t)["outcome"] != "rotated" {
		t.Errorf("a renewal: %d %s", a.status, a.body)
	}
	// The first two kinds have 5 s for their headers.
	for i, conn := range slow[:2] {
		if err := conn.SetReadDeadline(time.Now().Add(15 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("kind %d is not hung up on: %v", i, err)
		}
	}
}
