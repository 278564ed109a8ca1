package main

import (
	"slices"
	"testing"
)

func TestProxiesThatAreNoneAreWarnedOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ environ, warned []string }{
		{[]string{"HTTPS_PROXY=", "HTTP_PROXY=socks5://proxy"}, nil},
		{[]string{"HTTPS_PROXY=http://u:hush@proxy:3128", "http_proxy=proxy:3128"}, nil},
		{[]string{"HTTPS_PROXY=proxy", "https_proxy=http://proxy:port"}, nil}, // the second is not looked at
		{[]string{"HTTPS_PROXY=http://u:hu%sh@proxy:3128"}, []string{"HTTPS_PROXY"}},
		{[]string{"http_proxy=http://the proxy", "HTTPS_PROXY=", "https_proxy=http://proxy:port"}, []string{"http_proxy", "https_proxy"}},
	} {
		var want []string
		for _, name := range c.warned {
			want = append(want, name+": is not the URL of a proxy, and what is to go by it goes directly or not at all; allowed: http://HOST:PORT")
		}
		if s := mustParse(t, nil, c.environ); !slices.Equal(s.Warnings, want) {
			t.Errorf("%q: got %q", c.environ, s.Warnings)
		}
	}
}
