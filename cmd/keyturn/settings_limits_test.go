package main

import (
	"strings"
	"testing"
)

func TestLimitsNetworksAndContacts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, given, want string }{
		{"limit-renew", "5/s", "5/s"}, {"limit-renew", "1000000/h", "1000000/h"}, {"limit-renew", "off", "off"},
		{"trusted-proxies", "10.1.2.3/8, 192.0.2.1", "10.0.0.0/8 192.0.2.1/32"}, {"trusted-proxies", "::ffff:192.0.2.1", "192.0.2.1/32"},
		{"security-contact", "security@example.com", "mailto:security@example.com"},
	} {
		s, err := parseWith([]string{"--" + c.name + "=" + c.given}, nil)
		if err != nil || s.lookup(c.name) != c.want {
			t.Errorf("%s %s: %q, %v; want %q", c.name, c.given, s.lookup(c.name), err, c.want)
		}
	}
	for _, c := range []struct{ name, given string }{
		{"limit-renew", "5"}, {"limit-renew", "0/s"}, {"limit-renew", "5/d"}, {"limit-renew", "1e3/m"},
		{"limit-renew", "1000001/m"}, {"limit-renew", "5/m/m"}, {"limit-renew", "none"},
		{"trusted-proxies", "everybody"}, {"trusted-proxies", "10.0.0.0/33"}, {"trusted-proxies", "10.0.0.0/8 proxy.example.com"},
		{"security-contact", "http://example.com"}, {"security-contact", "javascript:alert(1)"}, {"security-contact", "somebody"},
		{"security-contact", "a b@example.com"}, {"security-contact", "sec@"}, {"security-contact", "mailto:sec"},
		{"security-contact", "https://u:p@example.com/"},
	} {
		_, err := parseWith([]string{"--" + c.name + "=" + c.given}, nil)
		if err == nil || !strings.Contains(err.Error(), "--"+c.name) || !strings.Contains(err.Error(), "allowed: ") {
			t.Errorf("%s %q: %v", c.name, c.given, err)
		}
	}
}
