package main

import (
	"bytes"
	"errors"
	"net"
)

// faultListener has what is no request of HTTP/1.1 answered as the client's fault. Before any handler net/http answers a transfer
// coding that it does not know with 501, and another version of the protocol with 505. RFC 9110 (section 15.6) has it so; but who
// watches for 5xx looks for what is wrong with Keyturn, and a stranger could ring that bell at will.
type faultListener struct{ net.Listener }

// Accept implements net.Listener.
func (l faultListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return faultConn{conn}, nil
}

type faultConn struct{ net.Conn }

var (
	ownAnswer   = []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n") // as net/http writes it itself
	unknownTE   = []byte("HTTP/1.1 501 ")
	unknownHTTP = []byte("HTTP/1.1 505 ")
)

// Write implements net.Conn. No handler answers with either status, and none without more headers.
func (c faultConn) Write(p []byte) (int, error) {
	if !bytes.HasPrefix(p, unknownTE) && !bytes.HasPrefix(p, unknownHTTP) {
		return c.Conn.Write(p)
	}
	status, body, own := bytes.Cut(p, ownAnswer)
	if !own || bytes.ContainsAny(status, "\r\n") {
		return c.Conn.Write(p)
	}
	answer := append(append([]byte("HTTP/1.1 400 Bad Request"), ownAnswer...), body...)
	if _, err := c.Conn.Write(answer); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite half-closes the connection, as net/http does before it closes one whose request it has not read whole: else the answer is lost
// to a reset.
func (c faultConn) CloseWrite() error {
	if half, is := c.Conn.(interface{ CloseWrite() error }); is {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
