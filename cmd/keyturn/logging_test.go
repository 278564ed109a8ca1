package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
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

// What comes behind the end of an answer is nobody's: net/http complains of it, and quotes it.
func TestAnAnswerOfTheWrongLengthIsNotInTheLog(t *testing.T) {
	t.Parallel()
	for name, head := range map[string]string{
		"too short": "200 OK\r\nContent-Length: 5", "none": "200 OK\r\nContent-Length: 0", "no content": "204 No Content",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idp, p := atScripted(t, nil)
			alice := p.person()
			alice.do(t, "GET", "/auth/oidc", nil)
			idp.Change(func() {
				idp.Token = func(w http.ResponseWriter, _ *http.Request, grant func() map[string]any) bool {
					body, err := json.Marshal(grant())
					if err != nil {
						t.Error(err)
					}
					conn, _, err := http.NewResponseController(w).Hijack()
					if err != nil {
						t.Error(err)
						return true
					}
					defer conn.Close()
					_, _ = fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Type: application/json\r\n\r\n%s", head, body)
					time.Sleep(200 * time.Millisecond)
					return true
				}
			})
			alice.do(t, "POST", "/api/renew-token", nil)
			eventually(t, "the library's complaint", func() bool { return strings.Contains(p.log.String(), "Unsolicited response") })
			for _, secret := range idp.Issued() {
				if strings.Contains(p.log.String(), secret) {
					t.Errorf("the log holds %.12s…", secret)
				}
			}
		})
	}
}
