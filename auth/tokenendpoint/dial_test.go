package tokenendpoint

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// It is called at this machine, and still by its name.
func TestANameBelowLocalhostNeedsNoResolver(t *testing.T) {
	t.Parallel()
	names := make(chan string, 2)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { names <- r.Host }))
	server.TLS = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		names <- hello.ServerName
		return nil, nil
	}}
	server.StartTLS()
	t.Cleanup(server.Close)
	client := NewHTTPClient(0)
	client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // whose name is asked for is what counts
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	response, err := client.Get("https://keyturn-2.localhost:" + port)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if name, host := <-names, <-names; name != "keyturn-2.localhost" || host != "keyturn-2.localhost:"+port {
		t.Errorf("it is asked for %q, and then for %q", name, host)
	}
}
