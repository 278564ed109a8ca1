package provider

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	public  = "93.184.216.34"
	private = "10.1.2.3"
	both    = private + " " + public
)

func TestWhereAProviderMayHaveKeyturnCall(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		issuer, reached, host, address string
		allowed                        bool
	}{
		"another host outside":              {"id.example", public, "keys.example", "2606:2800:21f::1", true},
		"this machine":                      {"id.example", public, "keys.example", "127.0.0.1", false},
		"this machine by IPv6":              {"id.example", public, "keys.example", "::1", false},
		"this machine, mapped":              {"id.example", public, "keys.example", "::ffff:127.0.0.1", false},
		"this machine by NAT64":             {"id.example", public, "keys.example", "64:ff9b::7f00:1", false},
		"a network of ours, compatible":     {"id.example", public, "keys.example", "::10.1.2.3", false},
		"the internet, compatible":          {"id.example", public, "keys.example", "::93.184.216.34", true},
		"the cloud's by NAT64 of our own":   {"id.example", public, "keys.example", "64:ff9b:1::a9fe:a9fe", false},
		"ours by NAT64 of our own":          {"id.example", public, "keys.example", "64:ff9b:1:7::10.1.2.3", false},
		"ours by a shorter NAT64":           {"id.example", public, "keys.example", "64:ff9b:1:7:a:102:300::", false},
		"ours by the shortest NAT64":        {"id.example", public, "keys.example", "64:ff9b:1:a01:2:300::", false},
		"the internet by our own NAT64":     {"id.example", public, "keys.example", "64:ff9b:1::5db8:d822", true},
		"the internet by a shorter NAT64":   {"id.example", public, "keys.example", "64:ff9b:1:7:5d:b8d8:2200::", true},
		"this machine by 6to4":              {"id.example", public, "keys.example", "2002:7f00:1::", false},
		"the internet by NAT64":             {"id.example", public, "keys.example", "64:ff9b::5db8:d822", true},
		"no address":                        {"id.example", public, "keys.example", "0.0.0.0", false},
		"no network's address":              {"id.example", public, "keys.example", "0.1.2.3", false},
		"of no use to anybody yet":          {"id.example", public, "keys.example", "240.0.0.1", false},
		"of a site, as there once were":     {"id.example", public, "keys.example", "fec0::1", false},
		"a network of ours":                 {"id.example", public, "keys.example", private, false},
		"a network of ours by IPv6":         {"id.example", public, "keys.example", "fd00::1", false},
		"a carrier's":                       {"id.example", public, "keys.example", "100.100.100.200", false},
		"the cloud's credentials":           {"id.example", public, "keys.example", "169.254.169.254", false},
		"everybody":                         {"id.example", public, "keys.example", "224.0.0.1", false},
		"the issuer, resolved otherwise":    {"id.example", public, "id.example", "127.0.0.1", false},
		"the issuer in other letters":       {"id.example", public, "ID.example", private, false},
		"before anything is known":          {"id.example", "", "keys.example", private, false},
		"inside, from inside":               {"sso.corp", private, "keys.corp", "192.168.0.1", true},
		"this machine, from this machine":   {"localhost", "::1", "localhost", "127.0.0.1", true},
		"a container, from this machine":    {"127.0.0.1", "127.0.0.1", "172.17.0.2", "172.17.0.2", true},
		"the cloud's credentials, inside":   {"sso.corp", private, "keys.corp", "169.254.169.254", false},
		"the cloud's as the issuer":         {"evil.example", "", "evil.example", "169.254.169.254", false},
		"link-local, typed in the settings": {"169.254.7.7", "", "169.254.7.7", "169.254.7.7", true},
		"outside, from inside":              {"sso.corp", private, "keys.example", public, true},
		"the issuer, first tried inside":    {"id.example", "", "id.example", private, true},
		"the issuer, first tried outside":   {"id.example", "", "id.example", public, true},
		"the issuer, inside and outside":    {"sso.corp", both, "sso.corp", "127.0.0.1", true},
		"inside, from inside and outside":   {"sso.corp", both, "keys.corp", private, true},
		"the cloud's, inside and outside":   {"sso.corp", both, "sso.corp", "169.254.169.254", false},
		"a container, from the link":        {"169.254.7.7", "", "keys.corp", private, false},
		"inside, from an address outside":   {public, "", "keys.corp", private, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuard("http://" + c.issuer + ":8080/realm")
			for at := range strings.FieldsSeq(c.reached) {
				if err := g.check(c.issuer, netip.MustParseAddr(at)); err != nil {
					t.Fatal(err)
				}
				g.reached(netip.MustParseAddr(at))
			}
			if err := g.check(c.host, netip.MustParseAddr(c.address)); (err == nil) != c.allowed {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestHostsThatAreThisMachine(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST.": true, "app.localhost": true, "127.0.0.1": true, "127.8.9.1": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, "localhost.example": false, "notlocalhost": false, "127.0.0.1.example": false, "0.0.0.0": false, private: false, "::": false,
	} {
		if got := Loopback(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

// The address counts, not the name, and it is looked at when the connection is made.
func TestANameThatLeadsInsideIsNotDialled(t *testing.T) {
	t.Parallel()
	called := make(chan struct{}, 10)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called <- struct{}{} }))
	t.Cleanup(server.Close)
	byName := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	for issuer, allowed := range map[string]bool{"https://id.example": false, byName: true} {
		g := newGuard(issuer)
		if !allowed {
			g.reached(netip.MustParseAddr(public))
		}
		before := len(called)
		response, err := g.client(Options{}, 15*time.Second).Get(byName)
		if err == nil {
			response.Body.Close()
		}
		if (err == nil) != allowed || (len(called) == before+1) != allowed {
			t.Errorf("%s: %v, called %d times", issuer, err, len(called)-before)
		}
	}
}

// Behind a proxy a name is the proxy's to resolve and to refuse. An address is none that it would know anything of.
func TestAnAddressInsideIsNotAskedOfAProxy(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.Hostname() }))
	t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	g := newGuard("https://id.example")
	g.reached(netip.MustParseAddr(public))
	client := g.client(Options{}, 15*time.Second)
	client.Transport.(*guarded).proxied.Proxy = http.ProxyURL(at)
	for host, allowed := range map[string]bool{"keys.example": true, public: true, private: false, "169.254.169.254": false, "[::1]": false} {
		before := len(asked)
		response, err := client.Post("http://"+host, "text/plain", strings.NewReader("x"))
		if err == nil {
			response.Body.Close()
		}
		if (err == nil) != allowed || (len(asked) == before+1) != allowed {
			t.Errorf("%s: %v, asked %d times", host, err, len(asked)-before)
		}
	}
}

// Of several addresses that a name has, one that is tried in vain is not where the issuer is: a provider inside with a public address
// beside, which refuses connections or is late, stays one inside.
func TestWhereTheIssuerIsShowsWhenItAnswers(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	stranger := httptest.NewUnstartedServer(http.NotFoundHandler()) // its certificate is not the issuer's
	stranger.Config.ErrorLog = log.New(io.Discard, "", 0)
	stranger.StartTLS()
	t.Cleanup(stranger.Close)
	closed := httptest.NewServer(nil)
	closed.Close()
	for name, c := range map[string]struct {
		url    string
		inside bool
	}{"it answers": {plain.URL, true}, "somebody else answers": {stranger.URL, false}, "nobody answers": {closed.URL, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			issuer := strings.Replace(c.url, "127.0.0.1", "localhost", 1)
			g := newGuard(issuer)
			if err := g.check("localhost", netip.MustParseAddr(public)); err != nil {
				t.Fatal(err)
			}
			var tried sync.WaitGroup
			for range 8 {
				tried.Go(func() {
					response, err := g.client(Options{}, 15*time.Second).Get(issuer)
					if err == nil {
						response.Body.Close()
					}
					if (err == nil) != c.inside {
						t.Errorf("error %v", err)
					}
				})
			}
			tried.Wait()
			if err := g.check("keys.corp", netip.MustParseAddr(private)); (err == nil) != c.inside {
				t.Errorf("a name of its metadata: %v", err)
			}
			g.reached(netip.MustParseAddr(public))
			for _, host := range []string{"localhost", "keys.corp"} {
				if err := g.check(host, netip.MustParseAddr(private)); (err == nil) != c.inside {
					t.Errorf("%s, once it has answered outside: %v", host, err)
				}
			}
		})
	}
}
