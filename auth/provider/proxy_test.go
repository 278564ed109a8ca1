package provider

import (
	"bufio"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"keyturn/auth/tokenendpoint"
)

// A proxy that refuses to connect says why in its own words, and may repeat in them what it was sent.
func TestThePasswordOfAProxyIsInNoError(t *testing.T) {
	t.Parallel()
	const password = "S3cr3t/Pr0xy+Pw"
	basic := base64.StdEncoding.EncodeToString([]byte("proxyuser:" + password))
	for _, answer := range []string{
		"HTTP/1.1 407 Proxy Authentication Required for Basic " + basic,
		"HTTP/1.1 502 Bad Gateway for proxyuser:" + password,
		"HTTP/1.1 502 Bad Gateway for " + url.UserPassword("proxyuser", password).String(),
		"HTTP/1.1 " + password + " no",
		"SSH-2.0-proxyuser:" + password,
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { listener.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = http.ReadRequest(bufio.NewReader(conn))
				_, _ = io.WriteString(conn, answer+"\r\n\r\n")
				conn.Close()
			}
		}()
		proxy := http.ProxyURL(&url.URL{Scheme: "http", Host: listener.Addr().String(), User: url.UserPassword("proxyuser", password)})
		plain, provided := backChannel(Options{}, 10*time.Second), newGuard("https://id.example").client(Options{}, 10*time.Second)
		plain.Transport.(discreet).Proxy = proxy
		provided.Transport.(*guarded).proxied.Proxy = proxy
		for _, client := range []*http.Client{plain, provided} {
			response, err := client.Get("https://id.example/token")
			if err == nil {
				response.Body.Close()
				t.Fatalf("%q is an answer", answer)
			}
			for _, text := range []string{err.Error(), tokenendpoint.TransportError(err, false).Failure.Detail, reason(err)} {
				if strings.Contains(text, "S3cr3t") || strings.Contains(text, basic) || !strings.Contains(text, "[redacted]") {
					t.Errorf("%q: %s", answer, text)
				}
			}
		}
	}
}
