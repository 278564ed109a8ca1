package tokenendpoint

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// LocalName says whether a host, without a port, is a name that always means this machine, whatever a resolver knows (RFC 6761 section 6.3).
func LocalName(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// Dialer makes NewHTTPClient's connections.
type Dialer struct{ net.Dialer }

// NewDialer returns a Dialer with its bounds.
func NewDialer() *Dialer {
	return &Dialer{net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}}
}

// DialContext is net.Dialer's, and asks no resolver for a LocalName that few know.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if host, port, err := net.SplitHostPort(address); err == nil && LocalName(host) {
		address = net.JoinHostPort("localhost", port)
	}
	return d.Dialer.DialContext(ctx, network, address)
}

// proxyFor is the environment's proxy, but for this machine, of whose names http.ProxyFromEnvironment spares only the shortest.
func proxyFor(r *http.Request) (*url.URL, error) {
	if LocalName(r.URL.Hostname()) {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}
