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

// A proxy that refuses to connect says why in its own words, and may repeat in them what it was sent. Of credentials without a password
// the user name is the secret.
func TestTheCredentialsForAProxyAreInNoError(t *testing.T) {
	t.Parallel()
	const secret = "S3cr3t/Pr0xy+Pw"
	for _, user := range []*url.Userinfo{url.UserPassword("proxyuser", secret), url.UserPassword(secret, ""), url.User(secret)} {
		password, _ := user.Password()
		sent := user.Username() + ":" + password
		basic := base64.StdEncoding.EncodeToString([]byte(sent))
		for _, answer := range []string{
			"HTTP/1.1 407 Proxy Authentication Required for Basic " + basic,
			"HTTP/1.1 502 Bad Gateway for " + sent,
			"HTTP/1.1 502 Bad Gateway for " + user.String(),
			"HTTP/1.1 " + secret + " no",
			"SSH-2.0-" + sent,
		} {
			proxy := http.ProxyURL(&url.URL{Scheme: "http", Host: saying(t, answer), User: user})
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
}

// saying is the address of a server that says the same to everybody.
func saying(t *testing.T, answer string) string {
	t.Helper()
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
	return listener.Addr().String()
}
