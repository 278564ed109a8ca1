package tokenendpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
)

// mostTries is how often a request is sent that no server has looked at before.
const mostTries = 3

var errSent = errors.New("it was sent, and is not sent again")

// Protocols is which hosts speak HTTP/2, as far as that is known. The zero value knows none. It is kept as long as the connections are.
type Protocols struct {
	overHTTP2 sync.Map // host (with port) to bool
}

// send sends a request, for the server to process once at most. net/http sends one again on its own. Over HTTP/1.1 it does so only where
// nothing was written; over HTTP/2 also whenever the server resets the stream with PROTOCOL_ERROR, as often as that comes, and nobody is
// told; what the server did before, nobody knows. Here it is sent again, a few times, only where the connection was gone before, or the server
// says that it has not looked at it. maybe says, with an error, that it may have been processed.
func send(client *http.Client, known *Protocols, request *http.Request) (answer *http.Response, maybe bool, err error) {
	ctx := request.Context()
	for n := 1; ; n++ {
		s := sending{known: known, host: request.URL.Host}
		try := request.Clone(s.watched(ctx))
		if try.Body, err = request.GetBody(); err != nil {
			return nil, false, err
		}
		s.once(try)
		if answer, err = client.Do(try); err == nil {
			return answer, true, nil
		}
		maybe = s.left.Load() && !s.unprocessed(err)
		if maybe || !s.connected.Load() || n == mostTries || ctx.Err() != nil {
			return nil, maybe, err
		}
	}
}

// sending watches a request on its way.
type sending struct {
	known     *Protocols
	host      string
	connected atomic.Bool // there was a connection
	http2     atomic.Bool
	left      atomic.Bool // its headers are written
}

// watched is a context for the request.
func (s *sending) watched(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { // another connection is taken where nothing was written to the first
			s.connected.Store(false)
			s.left.Store(false)
		},
		GotConn: func(got httptrace.GotConnInfo) {
			secured, ok := got.Conn.(interface{ ConnectionState() tls.ConnectionState })
			speaks := ok && secured.ConnectionState().NegotiatedProtocol == "h2"
			s.connected.Store(true)
			s.http2.Store(speaks)
			if known, _ := s.known.overHTTP2.Load(s.host); known != speaks {
				s.known.overHTTP2.Store(s.host, speaks)
			}
		},
		WroteHeaders: func() { s.left.Store(true) },
	})
}

// once keeps net/http from sending the request again over HTTP/2: without a body that can be had again it gives up, and says why. Over
// HTTP/1.1 it needs that, where a connection that was kept is gone and nothing was written.
func (s *sending) once(r *http.Request) {
	if known, ok := s.known.overHTTP2.Load(s.host); !ok || known == true {
		r.GetBody = nil
		return
	}
	body := r.GetBody
	r.GetBody = func() (io.ReadCloser, error) {
		if s.http2.Load() && s.left.Load() { // it speaks HTTP/2 since
			return nil, errSent
		}
		return body()
	}
}

// unprocessed says that the server has not looked at a request, by its own word (RFC 9113 sections 6.8 and 8.7). net/http has no type for
// that.
func (s *sending) unprocessed(err error) bool {
	why := err.Error()
	return s.http2.Load() && (strings.Contains(why, "graceful shutdown GOAWAY") || strings.Contains(why, "; REFUSED_STREAM; received from peer"))
}
