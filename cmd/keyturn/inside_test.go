package main

import (
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"keyturn/auth/provider/scripted"
)

// tunnels is a proxy that connects whatever host it is asked for to one server, and notes the hosts.
type tunnels struct {
	to string

	mu    sync.Mutex
	hosts []string
}

// ServeHTTP implements http.Handler with CONNECT (RFC 9110 section 9.3.6).
func (p *tunnels) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.hosts = append(p.hosts, r.Host)
	p.mu.Unlock()
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		server.Close()
		return
	}
	_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { _, _ = io.Copy(server, buffered); server.Close() }()
	go func() { _, _ = io.Copy(client, server); client.Close() }()
}

// A provider on the internet names addresses inside; Keyturn, which reaches the internet by the proxy of its environment, calls
// none of them, and no host that the metadata does not name.
func TestAProviderCannotSendKeyturnInside(t *testing.T) {
	t.Parallel()
	var inside atomic.Int32
	sink := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inside.Add(1) }))
	t.Cleanup(sink.Close)
	idp := scripted.New(t)
	front := httptest.NewTLSServer(idp.Config.Handler)
	t.Cleanup(front.Close)
	proxy := &tunnels{to: front.Listener.Addr().String()}
	proxied := httptest.NewServer(proxy)
	t.Cleanup(proxied.Close)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	if err := os.WriteFile(roots, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	idp.URL = "https://id.example.com"
	named := map[string]string{}
	idp.Document = func(d map[string]any) {
		for name, url := range named {
			d[name] = url
		}
	}
	idp.Claims = func(c map[string]any, _ bool) {
		c["picture"], c["profile"], c["website"] = sink.URL+"/me.png", sink.URL, sink.URL
		c["_claim_names"], c["_claim_sources"] = map[string]any{"groups": "s"}, map[string]any{"s": map[string]any{"endpoint": sink.URL}}
	}
	p := startProgram(t, "HTTPS_PROXY="+proxied.URL, "SSL_CERT_FILE="+roots, "KEYTURN_ISSUER="+idp.URL,
		"KEYTURN_CLIENT_ID="+scripted.ClientID, "KEYTURN_CLIENT_SECRET="+scripted.ClientSecret)
	// The browser of this test has no proxy: the way through the provider is made for it.
	signIn := func(b *person) answer {
		begun := b.staying().do(t, "GET", "/auth/oidc", nil)
		if begun.status != http.StatusSeeOther {
			return begun
		}
		request := parsedURL(t, begun.header.Get("Location"))
		request.Scheme, request.Host = "http", idp.Listener.Addr().String()
		return b.do(t, "GET", request.String(), nil)
	}
	alice := p.person()
	if a := signIn(alice); a.url.Path != "/dashboard" {
		t.Fatalf("by the proxy the sign-in ends at %s: %s\n%s", a.url, a.body, p.log)
	}
	if a := alice.do(t, "POST", "/api/renew-token", nil); a.json(t)["outcome"] != "rotated" {
		t.Errorf("by the proxy: %s", a.body)
	}
	if a := alice.do(t, "GET", "/dashboard", nil); a.status != 200 {
		t.Errorf("the dashboard: %d", a.status)
	}
	for _, endpoint := range []string{"jwks_uri", "token_endpoint", "userinfo_endpoint", "revocation_endpoint", "introspection_endpoint"} {
		for _, at := range []string{sink.URL, "https://169.254.169.254/latest", "https://[::ffff:10.0.0.1]/"} {
			idp.Change(func() { named = map[string]string{endpoint: at} })
			p.kill(t)
			p.again(t) // else metadata stays for an hour
			bob := p.person()
			signIn(bob)
			for _, path := range []string{"/dashboard/userinfo", "/dashboard/tokens/access/introspect", "/api/renew-token", "/auth/signout"} {
				_ = bob.staying().do(t, "POST", path, nil)
			}
		}
	}
	proxy.mu.Lock()
	defer proxy.mu.Unlock()
	slices.Sort(proxy.hosts)
	if hosts := slices.Compact(proxy.hosts); inside.Load() != 0 || !slices.Equal(hosts, []string{"id.example.com:443"}) {
		t.Errorf("%d requests inside, and by the proxy to %v", inside.Load(), hosts)
	}
}
