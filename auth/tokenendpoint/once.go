package tokenendpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

var errSent = errors.New("it was sent, and is not sent again")

// sending watches a request on its way.
type sending struct {
	left     atomic.Bool // its headers are written
	answered atomic.Bool // the answer has begun
	http2    atomic.Bool
}

// watched is a context for the request.
func (s *sending) watched(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { s.left.Store(false) }, // another connection is taken where nothing was written to the first
		GotConn: func(got httptrace.GotConnInfo) {
			secured, ok := got.Conn.(interface{ ConnectionState() tls.ConnectionState })
			s.http2.Store(ok && secured.ConnectionState().NegotiatedProtocol == "h2")
		},
		WroteHeaders:         func() { s.left.Store(true) },
		GotFirstResponseByte: func() { s.answered.Store(true) },
	})
}

// once keeps net/http from sending the request again on its own. Over HTTP/2 it does so whenever the server resets the stream with
// PROTOCOL_ERROR or REFUSED_STREAM, as often as that comes, and nobody is told; what the server did before, nobody knows. Over HTTP/1.1 it
// does so only where nothing was written.
func (s *sending) once(r *http.Request) {
	body := r.GetBody
	r.GetBody = func() (io.ReadCloser, error) {
		if s.http2.Load() && s.left.Load() && !s.answered.Load() {
			return nil, errSent
		}
		return body()
	}
}
