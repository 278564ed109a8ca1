package main

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// oneConn is a listener with one connection.
type oneConn struct {
	net.Listener
	conns  chan net.Conn
	closed chan struct{}
}

// connected is a listener and the other side of its connection.
func connected(t *testing.T) (near net.Conn, listener oneConn) {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { _ = near.Close() })
	listener = oneConn{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
	listener.conns <- far
	return near, listener
}

func (l oneConn) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l oneConn) Close() error { close(l.closed); return nil }

// Who has a connection and says nothing holds up no stop for long.
func TestASilentConnectionIsClosedSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, listener := connected(t)
		door := doorOf(newServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler)), listener)
		go func() { _ = door.server.Serve(door) }()
		synctest.Wait()
		began := time.Now()
		if err := door.shut(t.Context()); err != nil || time.Since(began) > time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// Clients that do not come to the point hold nothing up for long: they are given little time, and few bytes.
func TestAConnectionThatComesToNothingIsClosedSoon(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		says   string
		reads  bool
		within time.Duration
		hears  string
	}{
		"headers without an end":     {"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", true, 6 * time.Second, ""},
		"a body without an end":      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\na=", true, 31 * time.Second, ""},
		"headers of 1 MiB":           {"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("a", 1<<20), true, 6 * time.Second, "HTTP/1.1 431 "},
		"an answer that is not read": {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", false, 81 * time.Second, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				near, listener := connected(t)
				server := publicServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					_, _ = w.Write(make([]byte, 1<<20))
				}), 10*time.Second, slog.New(slog.DiscardHandler))
				closed, heard := make(chan bool), make(chan string, 1)
				server.ConnState = func(_ net.Conn, state http.ConnState) {
					if state == http.StateClosed {
						close(closed)
					}
				}
				go func() { _ = server.Serve(listener) }()
				go func() { _, _ = io.WriteString(near, c.says) }()
				if c.reads {
					go func() {
						all, _ := io.ReadAll(near)
						heard <- string(all)
					}()
				}
				select {
				case <-closed:
				case <-time.After(c.within):
					t.Errorf("open after %v", c.within)
				}
				_ = server.Close()
				time.Sleep(time.Second) // which the server may take to close a connection
				if c.hears != "" && !strings.HasPrefix(<-heard, c.hears) {
					t.Errorf("it is not told %q", c.hears)
				}
			})
		})
	}
}

// A balancer keeps its connections for ten minutes, and must not be the second to learn that one is closed. A drain waits for none of them.
func TestAnIdleConnectionOutlivesABalancers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		listener := oneConn{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
		listener.conns <- far
		server := newServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
		defer server.Close()
		go func() { _ = server.Serve(listener) }()
		answers := bufio.NewReader(near)
		for range 2 {
			go func() { _, _ = io.WriteString(near, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n") }()
			response, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			time.Sleep(10*time.Minute + time.Second)
		}
		began := time.Now()
		if err := server.Shutdown(t.Context()); err != nil || time.Since(began) > time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
