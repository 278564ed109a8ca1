package tokenendpoint

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// LocalName says whether a host, without a port, is a name that means this machine (RFC 6761 section 6.3).
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

// DialContext is net.Dialer's, and calls this machine where a resolver does not know a LocalName. Some do, such as those of containers, in
// which another may have the name.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.Dialer.DialContext(ctx, network, address)
	if unknown := new(net.DNSError); errors.As(err, &unknown) {
		if host, port, err := net.SplitHostPort(address); err == nil && LocalName(host) {
			return d.Dialer.DialContext(ctx, network, net.JoinHostPort("localhost", port))
		}
	}
	return conn, err
}

// proxyFor is the environment's proxy, but for this machine, of whose names http.ProxyFromEnvironment spares only the shortest.
func proxyFor(r *http.Request) (*url.URL, error) {
	if LocalName(r.URL.Hostname()) {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}
