package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"keyturn/auth/provider/scripted"
)

// adminOf is where a program's admin listener is: where it was told, or what its log says about any free port.
func adminOf(t testing.TB, p *program) string {
	t.Helper()
	for _, arg := range p.args {
		if address, ok := strings.CutPrefix(arg, "--admin-addr="); ok && arg != anyAdmin {
			return "http://" + address
		}
	}
	shape := regexp.MustCompile(`msg="admin listener" address=(\S+)`)
	var found []string
	eventually(t, "the log names the admin listener", func() bool {
		all := shape.FindAllStringSubmatch(p.log.String(), -1)
		if len(all) > 0 {
			found = all[len(all)-1] // of the latest start
		}
		return found != nil
	})
	return "http://" + found[1]
}

const anyAdmin = "--admin-addr=127.0.0.1:0"

// scrape reads all metrics as Prometheus does.
func scrape(t testing.TB, p *program) string {
	t.Helper()
	a := p.person().do(t, "GET", adminOf(t, p)+"/metrics", nil)
	if a.status != 200 {
		t.Fatalf("/metrics: %d %s", a.status, a.body)
	}
	return a.body
}

// used is a program in which everything that is counted has happened once.
func used(t *testing.T) (*scripted.Provider, *program) {
	t.Helper()
	idp, p := atScripted(t, nil, anyAdmin)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	alice.do(t, "POST", "/api/renew-token", nil)
	alice.do(t, "GET", "/dashboard/sessions?code=secret-code", nil)
	alice.do(t, "GET", "/nothing/secret-path", nil)
	alice.do(t, "GET", "/auth/oidc/callback?code=secret-code&state=secret-state", nil)
	return idp, p
}

func TestMetricsTellWhatHappened(t *testing.T) {
	t.Parallel()
	idp, p := used(t)
	text := scrape(t, p)
	for _, want := range []string{
		`keyturn_renewals_total{outcome="rotated",provider="oidc",trigger="api"} 1`,
		`keyturn_token_endpoint_calls_total{provider="oidc"} 1`,
		`keyturn_token_endpoint_duration_seconds_count{provider="oidc"} 1`,
		`keyturn_sign_ins_total{outcome="done",provider="oidc"} 1`,
		`keyturn_sign_ins_total{outcome="failed",provider="oidc"} 1`,
		`keyturn_renewals_total{outcome="refused",provider="oidc",trigger="background"} 0`, // or increase() would miss the first
		`keyturn_sign_ins_total{outcome="cancelled",provider="oidc"} 0`,
		`keyturn_http_requests_total{code="200",method="POST",route="/api/renew-token"} 1`,
		`keyturn_http_requests_total{code="404",method="GET",route="none"} 1`,
		`keyturn_sessions 1`, `keyturn_grants 1`, `keyturn_renewals_due{provider="oidc"} 0`, `keyturn_renewals_unstored 0`,
		`keyturn_limited_requests_total{limit="renew"} 0`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("the metrics lack %s", want)
		}
	}
	for _, secret := range append(idp.Issued(), "secret-", "alice", "/dashboard?") {
		if strings.Contains(text, secret) {
			t.Errorf("the metrics hold %q", secret)
		}
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	if a := p.person().do(t, "GET", "/metrics", nil); a.status != 404 {
		t.Errorf("/metrics on the public listener: %d", a.status)
	}
}

// What is answered while the database is away is counted as what it was, with its route.
func TestAnOutageShowsInTheMetrics(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil, anyAdmin, "--access-log=on")
	alice := p.person().staying()
	alice.signInScripted(t)
	execute(t, filepath.Join(p.dir, "keyturn.db"), `ALTER TABLE sessions RENAME TO elsewhere`)
	for path, who := range map[string]*person{"/api/session": alice, "/dashboard/tokens/access": alice, "/auth/oidc": p.person().staying()} {
		if a := who.do(t, "GET", path, nil); a.status != 503 || a.header.Get("Location") != "" {
			t.Errorf("%s: %d %v %s", path, a.status, a.header, a.body)
		}
	}
	text := scrape(t, p)
	for _, route := range []string{"/api/session", "/dashboard/tokens/:kind", "/auth/:provider"} {
		if want := `keyturn_http_requests_total{code="503",method="GET",route="` + route + `"} 1`; !strings.Contains(text, want+"\n") {
			t.Errorf("the metrics lack %s", want)
		}
		if want := "route=" + route + " status=503"; !strings.Contains(p.log.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
}

// A renewal that hangs in the database holds its grant's lease, and whoever could be woken by what is overdue has to be.
func TestARenewalThatIsUnderWayAndLateIsOverdue(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil, anyAdmin)
	p.person().staying().signInScripted(t)
	execute(t, filepath.Join(p.dir, "keyturn.db"), `UPDATE grants SET due_at = 1, lease_owner = 'another', lease_until = 1 << 60`)
	text := scrape(t, p)
	if strings.Contains(text, `keyturn_renewals_overdue_seconds{provider="oidc"} 0`) || !strings.Contains(text, `keyturn_renewals_due{provider="oidc"} 1`+"\n") {
		t.Errorf("the metrics say %v", regexp.MustCompile(`(?m)^keyturn_renewals_(over)?due.*`).FindAllString(text, -1))
	}
}

func TestEveryMetricOfTheGrafanaDashboardExists(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(filepath.Join("..", "..", "deploy", "grafana.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(content, &dashboard); err != nil {
		t.Fatal(err)
	}
	_, p := used(t)
	exists := regexp.MustCompile(`(?m)^\w+`).FindAllString(scrape(t, p), -1)
	named := regexp.MustCompile(`\b(keyturn|go|process)_\w+`)
	shown := map[string]bool{}
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			for _, name := range named.FindAllString(target.Expr, -1) {
				shown[name] = true
				if !slices.Contains(exists, name) {
					t.Errorf("%s asks for %s, which does not exist", panel.Title, name)
				}
			}
		}
	}
	for _, name := range exists {
		family := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if strings.HasPrefix(name, "keyturn_") && !shown[name] && !shown[family+"_bucket"] {
			t.Errorf("no panel shows %s", name)
		}
	}
}
