package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// siteRoutes is an address of each route, with the method that it answers to.
var siteRoutes = []string{
	"GET /", "GET /dashboard", "GET /dashboard/tokens/access", "GET /dashboard/tokens/id/signature", "POST /dashboard/tokens/access/reveal",
	"POST /dashboard/tokens/refresh/introspect", "POST /dashboard/userinfo", "GET /dashboard/timeline", "GET /dashboard/sessions",
	"POST /dashboard/sessions/x/signout", "POST /dashboard/sessions/signout-others", "POST /auth/signout", "GET /auth/initiate", "POST /auth/initiate", "GET /auth/dev",
	"GET /auth/dev/callback", "POST /auth/dev/callback", "POST /auth/dev/backchannel-logout", "GET /auth/nobody",
	"POST /api/trigger-renew-token", "POST /api/renew-token", "GET /api/session", "GET /api/rotations", "GET /events",
	"GET /healthz", "GET /readyz", "GET /robots.txt", "GET /.well-known/security.txt", "GET /static/app.css", "GET /nothing",
	"GET /dev-provider/.well-known/openid-configuration", "GET /dev-provider/authorize", "POST /dev-provider/oauth/token", "POST /dev-provider/login",
	"GET /dev-provider/userinfo", "POST /dev-provider/revoke", "POST /dev-provider/oauth/introspect", "GET /dev-provider/end_session",
}

// badInput is one line of testdata/bad-requests.txt.
type badInput struct{ name, raw string }

var repeated = regexp.MustCompile(`\{(\d+) times ([^}]+)\}`)

func badInputs(t *testing.T) (all []badInput) {
	content, err := os.ReadFile(filepath.Join("testdata", "bad-requests.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if line = strings.TrimRight(line, "\n"); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.Split(line, "\t")
		raw, err := strconv.Unquote(parts[1])
		if err != nil {
			t.Fatalf("%s: %v", parts[0], err)
		}
		raw = repeated.ReplaceAllStringFunc(raw, func(found string) string {
			match := repeated.FindStringSubmatch(found)
			n, _ := strconv.Atoi(match[1])
			return strings.Repeat(match[2], n)
		})
		all = append(all, badInput{name: parts[0], raw: raw})
	}
	return all
}

// send writes a request and reads what comes back, for a while: some of them never end.
func send(address, raw string) (answer string, err error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, raw) }() // the answer may come before all is sent
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return "", err
	}
	text, _ := io.ReadAll(io.LimitReader(conn, 1<<20))
	return string(text), nil
}

var (
	serverError = regexp.MustCompile(`^HTTP/\d\.\d 5\d\d`)
	stackTrace  = regexp.MustCompile(`goroutine \d+ \[|\.go:\d+|runtime error|panic:`)
)

func TestBadInputs(t *testing.T) {
	t.Parallel()
	p := startProgram(t, "--log-level=info", "--limit-sign-in=off", "--limit-renew=off", "--limit-reveal=off", "--dev-token-lifetime=1h")
	alice, bob := p.person(), p.person()
	alice.signIn(t, "alice")
	bob.signIn(t, "bob")
	base := parsedURL(t, p.base)
	cookie := bob.Jar.Cookies(base)[0].String()
	inputs := badInputs(t)
	if len(inputs) < 100 {
		t.Fatalf("%d inputs", len(inputs))
	}
	queue := make(chan func())
	var sending sync.WaitGroup
	for range 24 {
		sending.Go(func() {
			for one := range queue {
				one()
			}
		})
	}
	for _, route := range siteRoutes {
		method, path, _ := strings.Cut(route, " ")
		session := cookie
		if path == "/auth/signout" {
			session = "keyturn_session=nobody" // some of the requests are good ones
		}
		fill := strings.NewReplacer("{method}", method, "{route}", path, "{host}", base.Host, "{session}", session)
		for _, input := range inputs {
			queue <- func() {
				answer, err := send(base.Host, fill.Replace(input.raw))
				if err != nil {
					t.Errorf("%s, %s: %v", route, input.name, err)
				}
				if serverError.MatchString(answer) {
					t.Errorf("%s, %s: %.200s", route, input.name, answer)
				}
				if found := stackTrace.FindString(answer); found != "" {
					t.Errorf("%s, %s: the answer holds %q", route, input.name, found)
				}
			}
		}
	}
	close(queue)
	sending.Wait()
	for name, b := range map[string]*person{"alice": alice, "bob": bob} {
		if a := b.do(t, "POST", "/api/renew-token", nil); a.status != 200 || a.json(t)["outcome"] != "rotated" {
			t.Errorf("%s afterwards: %d %s", name, a.status, a.body)
		}
	}
	if found := stackTrace.FindString(p.log.String()); found != "" {
		t.Errorf("the log holds %q", found)
	}
}
