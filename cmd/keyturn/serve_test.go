package main

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
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
		near, far := net.Pipe()
		defer near.Close()
		listener := oneConn{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
		listener.conns <- far
		door := doorOf(newServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler)), listener)
		go func() { _ = door.server.Serve(door) }()
		synctest.Wait()
		began := time.Now()
		if err := door.shut(t.Context()); err != nil || time.Since(began) > time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
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
