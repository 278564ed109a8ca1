package tokenendpoint

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"keyturn/auth"
)

// stream is a request over HTTP/2 that has come whole.
type stream struct {
	*http2.Framer
	id uint32
}

func (s stream) head(status string, ends bool) {
	var block bytes.Buffer
	_ = hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: status})
	_ = s.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: ends})
}

func (s stream) tokens() {
	s.head("200", false)
	_ = s.WriteData(s.id, true, []byte(`{"access_token":"a","token_type":"Bearer"}`))
}

func (s stream) reset(code http2.ErrCode) { _ = s.WriteRSTStream(s.id, code) }

// over2 is a client of a server that has each request over HTTP/2 answered, with its number; and the number of the latest. Where the
// answer is false, nothing on that connection is answered any more.
func over2(t *testing.T, answer func(s stream, n int64) bool) (client *Client, requests *atomic.Int64) {
	t.Helper()
	requests = &atomic.Int64{}
	server := httptest.NewUnstartedServer(nil)
	server.TLS = &tls.Config{NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}
	server.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){"h2": func(_ *http.Server, conn *tls.Conn, _ http.Handler) {
		if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		framer := http2.NewFramer(conn, conn)
		_ = framer.WriteSettings()
		for alive := true; ; {
			frame, err := framer.ReadFrame()
			if err != nil || requests.Load() > 20 {
				return
			}
			switch f := frame.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					_ = framer.WriteSettingsAck()
				}
			case *http2.PingFrame:
				if alive && !f.IsAck() {
					_ = framer.WritePing(true, f.Data)
				}
			case *http2.DataFrame:
				if n := requests.Add(1); alive {
					alive = answer(stream{framer, f.StreamID}, n)
				}
			}
		}
	}}
	server.StartTLS()
	t.Cleanup(server.Close)
	client = &Client{HTTP: NewHTTPClient(0), Protocols: &Protocols{}, TokenURL: server.URL, AuthMethod: NoAuthentication, Now: time.Now}
	client.HTTP.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	return client, requests
}

// To net/http some resets of HTTP/2 mean that a request may be sent again; a provider may have used the refresh token up before.
func TestAResetStreamIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	for name, reset := range map[string]func(stream){
		"of the protocol":     func(s stream) { s.reset(http2.ErrCodeProtocol) },
		"of the server":       func(s stream) { s.reset(http2.ErrCodeInternal) },
		"behind early hints":  func(s stream) { s.head("103", false); s.reset(http2.ErrCodeProtocol) },
		"behind a whole head": func(s stream) { s.head("200", false); s.reset(http2.ErrCodeProtocol) },
	} {
		for _, known := range []bool{false, true} {
			client, requests := over2(t, func(s stream, n int64) bool {
				if known && n == 1 {
					s.tokens()
				} else {
					reset(s)
				}
				return true
			})
			want := int64(1)
			if known {
				want++
				if _, err := client.Exchange(t.Context(), refresh); err != nil {
					t.Fatal(err)
				}
			}
			_, err := client.Exchange(t.Context(), refresh)
			var refusal *auth.ProviderError
			if n := requests.Load(); !errors.As(err, &refusal) || refusal.Delivery != auth.DeliveryUnknown || n != want {
				t.Errorf("%s, to a server that is known: %v: presented %d times, %+v", name, known, n, err)
			}
		}
	}
}

// A server that says it has not looked at a request may have it once more.
func TestWhatNoServerHasLookedAtIsSentAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer   func(s stream, n int64)
		requests int64
		delivery auth.Delivery
	}{
		"refused once": {func(s stream, n int64) { only(n == 2, func() { s.reset(http2.ErrCodeRefusedStream) }, s.tokens) }, 3, auth.DeliveryAnswered},
		"gone before": {func(s stream, n int64) {
			only(n == 2, func() { _ = s.WriteGoAway(s.id-2, http2.ErrCodeNo, nil) }, s.tokens)
		}, 3, auth.DeliveryAnswered},
		"refused once, at first": {func(s stream, n int64) { only(n == 1, func() { s.reset(http2.ErrCodeRefusedStream) }, s.tokens) }, 3, auth.DeliveryAnswered},
		"gone before, at first":  {func(s stream, n int64) { only(n == 1, func() { _ = s.WriteGoAway(0, http2.ErrCodeNo, nil) }, s.tokens) }, 3, auth.DeliveryAnswered},
		"refused each time":      {func(s stream, n int64) { only(n >= 2, func() { s.reset(http2.ErrCodeRefusedStream) }, s.tokens) }, 4, auth.DeliveryNotSent},
		"a redirect is none":     {func(s stream, n int64) { only(n == 2, func() { s.head("307", true) }, s.tokens) }, 2, auth.DeliveryAnswered},
	} {
		client, requests := over2(t, func(s stream, n int64) bool { c.answer(s, n); return true })
		if _, err := client.Exchange(t.Context(), refresh); err != nil {
			t.Fatal(err)
		}
		delivery := auth.DeliveryAnswered
		_, err := client.Exchange(t.Context(), refresh)
		if refusal := new(auth.ProviderError); errors.As(err, &refusal) {
			delivery = refusal.Delivery
		}
		if n := requests.Load(); n != c.requests || delivery != c.delivery {
			t.Errorf("%s: %d requests, delivery %v, %v", name, n, delivery, err)
		}
	}
}

func only(when bool, then, otherwise func()) {
	if when {
		then()
		return
	}
	otherwise()
}

// Over HTTP/2 everything goes over one connection: if that leads nowhere any more, it must not be waited for again and again.
func TestADeadConnectionIsLeft(t *testing.T) {
	t.Parallel()
	client, requests := over2(t, func(s stream, n int64) bool {
		if n == 2 {
			return false
		}
		s.tokens()
		return true
	})
	PingWithin(client.HTTP.Transport.(*http.Transport), 10*time.Second)
	if _, err := client.Exchange(t.Context(), refresh); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if _, err := client.Exchange(ctx, refresh); err == nil || ctx.Err() != nil {
		t.Errorf("on the dead connection: %v", err)
	}
	if _, err := client.Exchange(ctx, refresh); err != nil || requests.Load() != 3 {
		t.Errorf("after %d requests: %v", requests.Load(), err)
	}
}
