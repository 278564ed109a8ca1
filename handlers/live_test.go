package handlers

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/labstack/echo/v4"
)

// wired is an answer that is written to a connection.
type wired struct {
	http.ResponseWriter
	conn net.Conn
}

func (w wired) Write(b []byte) (int, error)         { return w.conn.Write(b) }
func (w wired) SetWriteDeadline(at time.Time) error { return w.conn.SetWriteDeadline(at) }
func (w wired) Flush()                              {}

// A reader that is stuck holds a stream, and its place among them, for no longer than one event may take.
func TestAStuckReaderOfEventsIsLetGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		c := echo.New().NewContext(httptest.NewRequest("GET", EventsRoute, nil), wired{httptest.NewRecorder(), far})
		s := &stream{c: c, control: http.NewResponseController(c.Response())}
		began := time.Now()
		if err := s.send(strings.Repeat("x", 100)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) > 15*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
