package provider

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"keyturn/auth/tokenendpoint"
)

// reach is where an address leads.
type reach int

const (
	outside reach = iota // the internet
	inside               // this machine or its networks
	nowhere              // link-local (where clouds keep their credentials), multicast, unspecified
)

// Loopback says whether a host, without a port or brackets, can only mean this machine (RFC 6761 section 6.3).
func Loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return tokenendpoint.LocalName(host) || err == nil && address.Unmap().IsLoopback()
}

// guard keeps a provider on the internet from having Keyturn call into the network that Keyturn stands in: its metadata names
// hosts, and may name any. Addresses are looked at when they are dialled, so that a name that resolves otherwise a second
// time gains nothing. A provider that itself stands inside may name what is inside. It is safe for concurrent use.
type guard struct {
	issuer string // host
	typed  bool   // it is an address, into the settings

	mu sync.Mutex
	// Where the issuer has answered, which over TLS takes its certificate: where its name leads, or a connection is refused, says nothing.
	inside, outside bool
}

func newGuard(issuer string) *guard {
	g := &guard{}
	if u, err := url.Parse(issuer); err == nil {
		g.issuer = u.Hostname()
	}
	if address, err := netip.ParseAddr(g.issuer); err == nil {
		g.typed = true
		g.reached(address)
	}
	return g
}

// client is an HTTP client for calls to the provider. A test's own transport is left as it is.
func (g *guard) client(options Options, timeout time.Duration) *http.Client {
	client := backChannel(options, timeout)
	if proxied, ok := client.Transport.(discreet); ok && options.Transport == nil {
		direct := proxied.Clone()
		direct.Proxy, direct.DialContext = nil, g.dial
		client.Transport = &guarded{guard: g, direct: direct, proxied: proxied}
	}
	return client
}

// dial is tokenendpoint's dialer, with a look at the address after its resolution.
func (g *guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	dialer := tokenendpoint.NewDialer()
	dialer.Control = func(_, resolved string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(resolved)
		if err != nil {
			return fmt.Errorf("%s is no address", resolved)
		}
		return g.check(host, to.Addr())
	}
	return dialer.DialContext(ctx, network, address)
}

// check refuses addresses that are not the provider's to name. A name that has never led the issuer itself inside does not come to do so
// once it has been reached outside; one that has done both, as with a public and a private address, goes on.
func (g *guard) check(host string, address netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	own := g.isIssuer(host)
	switch at := reachOf(address); {
	case at == outside, own && g.typed, at == inside && (g.inside || own && !g.outside):
		return nil
	}
	return fmt.Errorf("%s leads to %s, inside this network or to no host at all, and the issuer is not there: it is not called", short(host), address)
}

func (g *guard) isIssuer(host string) bool { return strings.EqualFold(host, g.issuer) }

// reached notes where the issuer is.
func (g *guard) reached(address netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := reachOf(address)
	g.inside, g.outside = g.inside || at == inside, g.outside || at == outside
}

// learning notes where the issuer is once a request to it has a connection, and before it is sent.
func (g *guard) learning(r *http.Request) *http.Request {
	if !g.isIssuer(r.URL.Hostname()) {
		return r
	}
	return r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		if at, err := netip.ParseAddrPort(got.Conn.RemoteAddr().String()); err == nil {
			g.reached(at.Addr())
		}
	}}))
}

// guarded sends a request directly, under guard, or by the proxy of the environment. Behind a proxy names are the proxy's to
// resolve and to refuse.
type guarded struct {
	guard   *guard
	direct  *http.Transport
	proxied discreet
}

// RoundTrip implements http.RoundTripper.
func (t *guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	proxy, err := t.proxied.Proxy(r)
	if err == nil && proxy == nil {
		return t.direct.RoundTrip(t.guard.learning(r))
	}
	if address, notOne := netip.ParseAddr(r.URL.Hostname()); err == nil && notOne == nil {
		err = t.guard.check(r.URL.Hostname(), address)
	}
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	return t.proxied.RoundTrip(r)
}

// CloseIdleConnections is what http.Client.CloseIdleConnections looks for.
func (t *guarded) CloseIdleConnections() {
	t.direct.CloseIdleConnections()
	t.proxied.CloseIdleConnections()
}

func reachOf(address netip.Addr) reach {
	address = embedded(address.Unmap().WithZone(""))
	switch {
	case address.IsUnspecified(), address.IsMulticast(), address.IsLinkLocalUnicast(), holds(address, "0.0.0.0/8", "240.0.0.0/4", "fec0::/10"):
		return nowhere
	case address.IsLoopback(), address.IsPrivate(), holds(address, "100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15"):
		return inside
	}
	return outside
}

// embedded is the IPv4 address that an address of NAT64 (RFC 6052, RFC 8215) or 6to4 (RFC 3056) leads to, or of the compatible ones that
// there once were (RFC 4291 section 2.5.5.1).
func embedded(address netip.Addr) netip.Addr {
	if address.Is4() || address.IsLoopback() || address.IsUnspecified() {
		return address
	}
	bytes := address.As16()
	switch {
	case holds(address, "64:ff9b::/96", "::/96"):
		return netip.AddrFrom4([4]byte(bytes[12:]))
	case holds(address, "64:ff9b:1::/48"):
		// How long a network's own prefix is shows in the zeros at the end (RFC 6052 section 2.2): 96 bits, or 64. Whatever a shorter one
		// leads to is not called: it would be a guess.
		switch {
		case [3]byte(bytes[13:]) != [3]byte{}:
			return netip.AddrFrom4([4]byte(bytes[12:]))
		case bytes[12] != 0:
			return netip.AddrFrom4([4]byte(bytes[9:13]))
		}
		return netip.IPv4Unspecified()
	case holds(address, "2002::/16"):
		return netip.AddrFrom4([4]byte(bytes[2:6]))
	}
	return address
}

func holds(address netip.Addr, prefixes ...string) bool {
	for _, prefix := range prefixes {
		if netip.MustParsePrefix(prefix).Contains(address) {
			return true
		}
	}
	return false
}
