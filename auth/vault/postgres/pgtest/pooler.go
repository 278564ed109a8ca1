package pgtest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// pooler stands for PgBouncer with its defaults: it refuses the settings at the start of a connection that PgBouncer does not know, and
// tells clients nothing of the server's processes. It passes on answers only: nobody hears through it what is announced.
type pooler struct {
	database string
	shared   *session // nil: each client has a session of its own
}

// session is one of a pooler's connections to the server.
type session struct {
	mu sync.Mutex // held from a client's first message to the end of its transaction
	*pgproto3.Frontend
	conn net.Conn
}

// Pooled is the URL of the database through a connection pooler, by session or by transaction. By transaction all its clients share one
// connection.
func Pooled(t testing.TB, database string, byTransaction bool) string {
	t.Helper()
	p := pooler{database: database}
	if byTransaction {
		var err error
		if p.shared, err = p.session(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				break
			}
			go p.serve(conn)
		}
		if p.shared != nil {
			_ = p.shared.conn.Close()
		}
	}()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = listener.Addr().String()
	return u.String()
}

func (p pooler) session(ctx context.Context) (*session, error) {
	conn, err := pgconn.Connect(ctx, p.database)
	if err != nil {
		return nil, err
	}
	own, err := conn.Hijack()
	if err != nil {
		return nil, err
	}
	return &session{Frontend: own.Frontend, conn: own.Conn}, nil
}

// serve serves one client until it leaves.
func (p pooler) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	client := pgproto3.NewBackend(conn, conn)
	first, err := client.ReceiveStartupMessage()
	if err != nil {
		return
	}
	start, isStart := first.(*pgproto3.StartupMessage)
	if !isStart { // a statement is to be cancelled
		return
	}
	for name := range start.Parameters {
		switch name {
		case "user", "database", "application_name", "client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings":
			continue
		}
		client.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "08P01", Message: "unsupported startup parameter: " + name})
		_ = client.Flush()
		return
	}
	server := p.shared
	if server == nil {
		if server, err = p.session(context.Background()); err != nil {
			return
		}
		defer func() { _ = server.conn.Close() }()
	}
	key := make([]byte, 8)
	_, _ = rand.Read(key)
	client.Send(&pgproto3.AuthenticationOk{})
	for name, value := range map[string]string{"client_encoding": "UTF8", "standard_conforming_strings": "on"} {
		client.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	client.Send(&pgproto3.BackendKeyData{ProcessID: binary.BigEndian.Uint32(key), SecretKey: key[4:]})
	client.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for err = client.Flush(); err == nil; {
		err = server.transaction(client)
	}
}

// transaction passes on one transaction of a client's. Who leaves in the middle of one is not foreseen.
func (s *session) transaction(client *pgproto3.Backend) error {
	message, err := client.Receive()
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; err == nil; message, err = client.Receive() {
		if _, leaves := message.(*pgproto3.Terminate); leaves {
			return net.ErrClosed
		}
		s.Send(message)
		switch message.(type) {
		case *pgproto3.Query, *pgproto3.Sync:
			if status, err := s.answer(client); err != nil || status == 'I' {
				return err
			}
		}
	}
	return err
}

// answer passes on what the server answers, and returns the state of its transaction.
func (s *session) answer(client *pgproto3.Backend) (status byte, err error) {
	if err := s.Flush(); err != nil {
		return 0, err
	}
	for {
		message, err := s.Receive()
		if err != nil {
			return 0, err
		}
		client.Send(message)
		if ready, over := message.(*pgproto3.ReadyForQuery); over {
			return ready.TxStatus, client.Flush()
		}
		if err := client.Flush(); err != nil { // the next message overwrites this one
			return 0, err
		}
	}
}
