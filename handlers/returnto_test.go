package handlers

import (
	"strings"
	"testing"
)

func TestLocalPath(t *testing.T) {
	t.Parallel()
	for _, local := range []string{"/", "/dashboard", "/dashboard?a=b&c=%2F", "/a/b%20c", "/ünï", "/x//y", "/a?next=//evil.example"} {
		if got := localPath(local); got == "" {
			t.Errorf("%q is refused", local)
		}
	}
	if got := localPath("/ä?q=ä&r=%2F"); got != "/%C3%A4?q=%C3%A4&r=%2F" {
		t.Errorf("in a Location it is %q", got)
	}
	for _, foreign := range []string{
		"", "//evil", "///evil", `/\evil`, `\\evil`, `\/evil`, "/\t/evil", "/\n/evil", "\t//evil", " //evil", "http:evil", "https:/evil",
		"https:///evil", "HTTPS://evil", "javascript:alert(1)", "java\tscript:alert(1)", "data:text/html,x", "//rp@evil",
		"https://rp.example@evil", "https://rp.example.evil", "//[::1]/x", "/a\r\nSet-Cookie: x=1", `/./\evil`, `/../\evil`, "/..//evil", "/.//evil",
		"%2f%2fevil", "/%2fevil", "/%2Fevil", "/%5cevil", "/%5Cevil", "/%09/evil", "/%0a/evil", "/%252fevil", "/%255cevil", "/%25252fevil",
		"evil", "dashboard", "?x", "#x", "/a\x00b", "/a\x7f", "/\u0085/evil", "/\xff", "/" + strings.Repeat("a", 100_000), "/%2e%2e//evil",
	} {
		if got := localPath(foreign); got != "" {
			t.Errorf("%q is taken as %q", foreign, got)
		}
	}
}

func TestASignInEndsAtAPage(t *testing.T) {
	t.Parallel()
	a := &app{Config: Config{DevPrefix: "/dev-provider"}}
	for _, page := range []string{"/", "/dashboard", "/dashboard?before=7", "/authors", "/elsewhere", "/api/session", "/api/rotations?before=7"} {
		if got := a.returnPath(page); got != page {
			t.Errorf("%q is taken as %q", page, got)
		}
	}
	for _, none := range []string{
		"/auth/signout", "/auth/dev?prompt=login", "/auth", "/%61uth/signout", "/auth%2Fsignout", "/api/renew-token", "/api/trigger-renew-token?query=update-token-data", "/events", "/events?since=1", "/events/",
		"/dashboard/tokens/access", "/dashboard/sessions", "/static/app.js", "/healthz", "/readyz", "/dev-provider/login", "//evil.example", "",
	} {
		if got := a.returnPath(none); got != "" {
			t.Errorf("%q is taken as %q", none, got)
		}
	}
}
