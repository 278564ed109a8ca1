package main

import (
	"regexp"
	"strings"
	"testing"
)

func TestARequestIsFollowedThroughTheLogByItsID(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil, "--log-level=info", "--access-log=on")
	alice := p.person()
	back := callback(t, alice, "/auth/oidc")
	alice.staying().do(t, "GET", back, nil, "X-Request-Id", "sign-in.1")
	a := alice.do(t, "POST", "/api/renew-token?query=odd", nil, "X-Request-Id", "renew_2")
	if a.header.Get("X-Request-Id") != "renew_2" {
		t.Errorf("answered as %q", a.header.Get("X-Request-Id"))
	}
	for _, want := range []string{
		`msg="signed in" .* request=sign-in\.1`,
		`msg=renewal .* outcome=rotated .* request=renew_2`,
		`msg=request method=POST route=/api/renew-token status=200 bytes=\d+ took=\S+ request=renew_2`,
		`msg=request method=GET route=/auth/:provider/callback status=303 `,
	} {
		eventually(t, "the log has "+want, func() bool { return regexp.MustCompile(want).MatchString(p.log.String()) })
	}
	for _, secret := range append(idp.Issued(), parsedURL(t, back).Query().Get("code"), "query=odd") {
		if strings.Contains(p.log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
	for _, odd := range []string{"", "with space", "new\tline", strings.Repeat("a", 65), `"quoted"`, "ünicode"} {
		if got := alice.do(t, "GET", "/healthz", nil, "X-Request-Id", odd).header.Get("X-Request-Id"); got == odd || len(got) < 20 {
			t.Errorf("%q is answered as %q", odd, got)
		}
	}
}

func TestTheAccessLogIsOffUnlessAskedFor(t *testing.T) {
	t.Parallel()
	p := startProgram(t, "--log-level=info")
	p.person().do(t, "GET", "/", nil)
	if strings.Contains(p.log.String(), "msg=request") {
		t.Errorf("there is one:\n%s", p.log)
	}
}

func TestDurationsInTheLogHaveAUnit(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{"json": `"took":"[0-9.]+(µ|m)?s"`, "text": ` took=[0-9.]+(µ|m)?s `} {
		p := startProgram(t, "--access-log=on", "--log-format="+format)
		p.person().do(t, "GET", "/", nil)
		eventually(t, "the log has "+want, func() bool { return regexp.MustCompile(want).MatchString(p.log.String()) })
	}
}
