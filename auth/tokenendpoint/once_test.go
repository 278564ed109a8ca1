package tokenendpoint

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"keyturn/auth"
)

// resetting is a server that takes requests over HTTP/2, and resets the stream of each with a code.
func resetting(t *testing.T, code http2.ErrCode) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = &atomic.Int64{}
	server := httptest.NewUnstartedServer(nil)
	server.TLS = &tls.Config{NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}
	server.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){"h2": func(_ *http.Server, conn *tls.Conn, _ http.Handler) {
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := conn.Read(preface); err != nil {
			return
		}
		framer := http2.NewFramer(conn, conn)
		_ = framer.WriteSettings()
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			switch f := frame.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					_ = framer.WriteSettingsAck()
				}
			case *http2.DataFrame:
				if f.StreamEnded() && requests.Add(1) > 20 {
					return
				}
				_ = framer.WriteRSTStream(f.StreamID, code)
			}
		}
	}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL, requests
}

// To net/http some resets of HTTP/2 mean that a request may be sent again; a provider may have used the refresh token up before.
func TestAResetStreamIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	for _, code := range []http2.ErrCode{http2.ErrCodeProtocol, http2.ErrCodeRefusedStream, http2.ErrCodeInternal} {
		url, requests := resetting(t, code)
		client := &Client{HTTP: NewHTTPClient(0), TokenURL: url, AuthMethod: NoAuthentication, Now: time.Now}
		client.HTTP.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
		_, err := client.Exchange(t.Context(), refresh)
		var refusal *auth.ProviderError
		if n := requests.Load(); !errors.As(err, &refusal) || refusal.Delivery != auth.DeliveryUnknown || n != 1 {
			t.Errorf("%s: presented %d times, %+v", code, n, err)
		}
	}
}
