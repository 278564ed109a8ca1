package main

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// Neither listener lets a stranger raise a 5xx by what is no request of HTTP/1.1.
func TestWhatIsNoRequestIsTheClientsFault(t *testing.T) {
	t.Parallel()
	p := startProgram(t, anyAdmin)
	for _, base := range []string{p.base, adminOf(t, p)} {
		for _, raw := range []string{
			"GET /healthz HTTP/9.9\r\nHost: x\r\nConnection: close\r\n\r\n",
			"POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\nConnection: close\r\n\r\n",
		} {
			answer, err := send(parsedURL(t, base).Host, raw)
			if err != nil || !strings.HasPrefix(answer, "HTTP/1.1 400 Bad Request\r\n") {
				t.Errorf("%s, %q: %v %.60q", base, raw, err, answer)
			}
		}
	}
}

// Whoever sends more than is read gets the answer, and the connection's end, not a reset.
func TestTheAnswerToALargeBodyIsRead(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	conn, err := net.Dial("tcp", parsedURL(t, p.base).Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	head := "POST /api/renew-token HTTP/1.1\r\nHost: " + parsedURL(t, p.base).Host + "\r\nContent-Length: 100000000\r\n\r\n"
	if _, err := io.WriteString(conn, head+strings.Repeat("x", 1<<20)); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 413 ") {
		t.Errorf("%v %.60q", err, answer)
	}
}
