package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyturn/handlers"
)

// parseWith parses like a start of the program.
func parseWith(args, environ []string) (Settings, error) {
	s, _, _, err := parseSettings(args, environ, &bytes.Buffer{})
	return s, err
}

// mustParse is parseWith where no error is expected.
func mustParse(t *testing.T, args, environ []string) Settings {
	t.Helper()
	s, err := parseWith(args, environ)
	if err != nil {
		t.Fatalf("args %q, environment %q: %v", args, environ, err)
	}
	return s
}

// tempFile puts content into a new file and returns its path.
func tempFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// parseFile parses with a YAML file of the given content and writes FILE for its path in the error.
func parseFile(t *testing.T, content string, environ ...string) (Settings, string) {
	t.Helper()
	path := tempFile(t, "keyturn.yaml", content)
	s, err := parseWith([]string{"--config", path}, environ)
	if err == nil {
		return s, ""
	}
	return s, strings.ReplaceAll(err.Error(), path, "FILE")
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	got := mustParse(t, nil, nil)
	got.origins = nil
	want := Settings{
		Addr: "localhost:8080", DataDir: ".keyturn",
		Database:   databaseDSN{Engine: "sqlite", Path: filepath.Join(".keyturn", "keyturn.db")},
		KeysetFile: filepath.Join(".keyturn", "keyset.json"), SessionLifetime: 24 * time.Hour, SessionIdle: 8 * time.Hour,
		ExposeTokens: "owner", MaxAge: 30 * time.Minute, Leeway: time.Minute, RenewTimeout: 10 * time.Second,
		RenewMode: "background", RenewConcurrency: 16, Scopes: []string{"openid", "profile", "email", "offline_access"},
		GrantType: "refresh_token", DevProvider: toggleAuto, DevTokenLifetime: 2 * time.Minute,
		DevReuseInterval: 10 * time.Second, LogFormat: "text", LogLevel: "info", AccessLog: "off", DrainDelay: time.Second,
		SessionsPerPerson: 1000, EventStreams: 10000, Limits: handlers.Limits{
			SignIn: handlers.Limit{Count: 600, Per: time.Minute}, Renew: handlers.Limit{Count: 6000, Per: time.Minute},
			Reveal: handlers.Limit{Count: 600, Per: time.Minute},
		},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Settings{}, clientKey{})); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

// exampleValues is three values of a setting that differ from each other and from the default.
func exampleValues(name string) (flag, env, file string) {
	switch name {
	case "addr", "admin-addr":
		return ":1", ":2", ":3"
	case "base-url", "issuer":
		return "https://a.example", "https://b.example", "https://c.example"
	case "database":
		return "sqlite:a", "sqlite:b", "sqlite:c"
	case "expose-tokens":
		return "never", "owner", "never"
	case "renew-mode":
		return "on-demand", "background", "on-demand"
	case "grant-type":
		return "refresh_token", "client_credentials", "refresh_token"
	case "dev-provider":
		return "on", "off", "auto"
	case "log-format":
		return "json", "text", "json"
	case "log-level":
		return "debug", "warn", "error"
	case "scopes":
		return "openid a", "openid b", "openid c"
	case "session-lifetime", "session-idle", "max-age", "leeway", "renew-timeout", "dev-token-lifetime",
		"dev-reuse-interval", "drain-delay":
		return "11s", "12s", "13s"
	case "renew-concurrency", "sessions-per-person":
		return "1", "2", "3"
	case "event-streams":
		return "11", "12", "13"
	case "limit-sign-in", "limit-renew", "limit-reveal":
		return "1/s", "2/m", "off"
	case "trusted-proxies":
		return "10.0.0.0/8", "192.0.2.1/32 2001:db8::/32", "127.0.0.0/8"
	case "security-contact":
		return "https://a.example/report", "mailto:b@example.com", "tel:+1-201-555-0123"
	case "access-log":
		return "on", "off", "on"
	case "client-auth":
		return "client_secret_post", "client_secret_basic", "client_secret_post"
	default:
		return "a", "b", "c"
	}
}

// lookup returns what the settings hold under a name, secrets included.
func (s Settings) lookup(name string) string {
	if name == "client-secret" {
		return s.ClientSecret.Reveal()
	}
	list := s.list()
	return list[slices.IndexFunc(list, func(set setting) bool { return set.name == name })].field.show()
}

func TestEverySettingTakesTheStrongestSourceThatIsNotEmpty(t *testing.T) {
	t.Parallel()
	var s Settings
	for _, set := range s.list() {
		if set.name == "config" {
			continue
		}
		t.Run(set.name, func(t *testing.T) {
			t.Parallel()
			flag, env, file := exampleValues(set.name)
			// The others that some settings need beside them.
			base := []string{"KEYTURN_ISSUER=https://i.example", "KEYTURN_CLIENT_ID=id", "KEYTURN_CLIENT_SECRET=s"}
			base = slices.DeleteFunc(base, func(e string) bool { return strings.HasPrefix(e, set.variable()+"=") })
			if strings.HasPrefix(set.name, "client-key-") {
				base = nil // with an issuer the file would be read
			}
			if strings.HasPrefix(set.name, "session-") {
				flag, env, file = "1h", "2h", "3h"
			}
			yaml := tempFile(t, "k.yaml", set.key()+": "+fmt.Sprintf("%q", file)+"\n")
			dashed := tempFile(t, "d.yaml", set.name+": "+fmt.Sprintf("%q", file)+"\n")
			null := tempFile(t, "n.yaml", set.key()+": \n")
			empty := tempFile(t, "e.yaml", set.key()+": \"\"\n")
			config, variable := "--config=", set.variable()+"="
			onFlag := "--" + set.name + "="
			preset := mustParse(t, nil, nil).lookup(set.name)
			if set.name == "issuer" || set.name == "client-id" {
				preset = "" // not tried: the provider would be half set
			}
			for _, c := range []struct {
				what, want string
				args, env  []string
			}{
				{"flag over all", flag, []string{config + yaml, onFlag + flag}, []string{variable + env}},
				{"environment over file", env, []string{config + yaml}, []string{variable + env}},
				{"file", file, []string{config + yaml}, nil},
				{"file, key with dashes", file, []string{config + dashed}, nil},
				{"empty flag", env, []string{onFlag, config + yaml}, []string{variable + env}},
				{"empty flag, empty environment", file, []string{onFlag, config + yaml}, []string{variable}},
				{"null in the file", preset, []string{config + null}, []string{variable}},
				{"empty in the file", preset, []string{onFlag, config + empty}, []string{variable}},
			} {
				if set.noFlag {
					if c.what == "flag over all" {
						continue
					}
					c.args = slices.DeleteFunc(c.args, func(a string) bool { return a == onFlag })
				}
				environ := slices.Concat(c.env, base)
				if c.want == preset && preset == "" {
					environ = c.env
				}
				if got := mustParse(t, c.args, environ).lookup(set.name); got != c.want {
					t.Errorf("%s: got %q, want %q", c.what, got, c.want)
				}
			}
		})
	}
}

func TestTheConfigFileIsNamedByFlagOrEnvironment(t *testing.T) {
	t.Parallel()
	a, b := tempFile(t, "a.yaml", "data_dir: a"), tempFile(t, "b.yaml", "data_dir: b")
	if got := mustParse(t, []string{"--config", a}, []string{"KEYTURN_CONFIG=" + b}).DataDir; got != "a" {
		t.Errorf("flag: got %q", got)
	}
	if got := mustParse(t, []string{"--config="}, []string{"KEYTURN_CONFIG=" + b}).DataDir; got != "b" {
		t.Errorf("environment: got %q", got)
	}
}

func TestWrongValuesAreNamedInOneLine(t *testing.T) {
	t.Parallel()
	const durations = "allowed: a positive duration such as 60s or 30m, at most "
	const databases = "allowed: sqlite, sqlite:PATH or postgres://user:password@host:5432/name"
	for _, c := range []struct{ arg, want string }{
		{"--addr=8080", `--addr (KEYTURN_ADDR): "8080" is not a listen address; allowed: host:port such as ` +
			`localhost:8080 or :8080`},
		{"--addr=:70000", `--addr (KEYTURN_ADDR): ":70000" has no usable port; allowed: host:port with a port from 0 ` +
			`to 65535`},
		{"--addr=:http", `--addr (KEYTURN_ADDR): ":http" has no usable port; allowed: host:port with a port from 0 to ` +
			`65535`},
		{"--addr=a\nb", `--addr (KEYTURN_ADDR): "a\nb" has a control character in it; allowed: text on one line`},
		{"--admin-addr=x", `--admin-addr (KEYTURN_ADMIN_ADDR): "x" is not a listen address; allowed: host:port such ` +
			`as localhost:8080 or :8080`},
		{"--base-url=example.com", `--base-url (KEYTURN_BASE_URL): "example.com" is not an http or https URL; ` +
			`allowed: an absolute URL such as https://id.example.com`},
		{"--base-url=https://u:hush@x.example", `--base-url (KEYTURN_BASE_URL): "https://…@x.example" has a user name ` +
			`or password in it; allowed: an absolute URL such as https://id.example.com`},
		{"--base-url=https://x.example/?a=hush", `--base-url (KEYTURN_BASE_URL): "https://x.example/?…" has a query ` +
			`or a fragment; allowed: an absolute URL such as https://id.example.com`},
		{"--base-url=https://x.example#", `--base-url (KEYTURN_BASE_URL): "https://x.example#" has a query or a ` +
			`fragment; allowed: an absolute URL such as https://id.example.com`},
		{"--base-url=https://x.example/app", `--base-url (KEYTURN_BASE_URL): "https://x.example/app" has a path, but ` +
			`Keyturn lives at the root of its host; allowed: a URL without a path such as https://keyturn.example.com`},
		{"--base-url=https://bü_cher.example", `--base-url (KEYTURN_BASE_URL): "https://bü_cher.example" has a host that is no domain ` +
			`name; allowed: one of letters, digits and hyphens such as bücher.example`},
		{"--base-url=https://%C2%AD", `--base-url (KEYTURN_BASE_URL): "https://%C2%AD" has a host that is no domain name; allowed: one of ` +
			`letters, digits and hyphens such as bücher.example`},
		{"--data-dir=main.go/x", `--data-dir (KEYTURN_DATA_DIR): "main.go/x" is no directory; allowed: a directory, or a path where ` +
			"Keyturn can make one"},
		{"--data-dir=main.go", `--data-dir (KEYTURN_DATA_DIR): "main.go" is no directory; allowed: a directory, or a path where Keyturn can ` +
			"make one"},
		{"--session-lifetime=5ms", `--session-lifetime (KEYTURN_SESSION_LIFETIME): "5ms" is too short; allowed: a duration from 1s to 9600h such ` +
			`as 60s or 30m`},
		{"--session-idle=999ms", `--session-idle (KEYTURN_SESSION_IDLE): "999ms" is too short; allowed: a duration from 1s to 9600h such as 60s ` +
			`or 30m`},
		{"--session-idle=48h", `--session-idle (KEYTURN_SESSION_IDLE): 48h is more than --session-lifetime ` +
			`(KEYTURN_SESSION_LIFETIME), 24h; allowed: at most the session's lifetime`},
		{"--max-age=abc", `--max-age (KEYTURN_MAX_AGE): "abc" is not a duration; ` + durations + "720h"},
		{"--max-age=30", `--max-age (KEYTURN_MAX_AGE): "30" is not a duration: a unit is missing; ` + durations + "720h"},
		{"--max-age=0s", `--max-age (KEYTURN_MAX_AGE): "0s" is too short; ` + durations + "720h"},
		{"--leeway=-1s", `--leeway (KEYTURN_LEEWAY): "-1s" is too short; allowed: a duration from 0s to 24h such as ` +
			`60s or 30m`},
		{"--drain-delay=-.5s", `--drain-delay (KEYTURN_DRAIN_DELAY): "-.5s" is too short; allowed: a duration from 0s to 10m such as 60s or 30m`},
		{"--renew-timeout=1ms", `--renew-timeout (KEYTURN_RENEW_TIMEOUT): "1ms" is too short; allowed: a duration from 10ms to 10m such as 60s ` +
			`or 30m`},
		{"--renew-timeout=11m", `--renew-timeout (KEYTURN_RENEW_TIMEOUT): "11m" is too long; allowed: a duration from 10ms to 10m such as 60s ` +
			`or 30m`},
		{"--renew-mode=never", `--renew-mode (KEYTURN_RENEW_MODE): "never" is not known; allowed: background or on-demand`},
		{"--expose-tokens=all", `--expose-tokens (KEYTURN_EXPOSE_TOKENS): "all" is not known; allowed: owner or never`},
		{"--dev-provider=maybe", `--dev-provider (KEYTURN_DEV_PROVIDER): "maybe" is not known; allowed: on, off or ` +
			`auto (also true, false, yes, no, 1 or 0)`},
		{"--no-dev-provider=maybe", `--no-dev-provider: "maybe" is not known; allowed: on, off or auto (also true, ` +
			`false, yes, no, 1 or 0)`},
		{"--dev-token-lifetime=1ms", `--dev-token-lifetime (KEYTURN_DEV_TOKEN_LIFETIME): "1ms" is too short; allowed: ` +
			`a duration from 1s to 24h such as 60s or 30m`},
		{"--dev-reuse-interval=1h", `--dev-reuse-interval (KEYTURN_DEV_REUSE_INTERVAL): "1h" is too long; allowed: a ` +
			`duration from 0s to 10m such as 60s or 30m`},
		{"--log-format=xml", `--log-format (KEYTURN_LOG_FORMAT): "xml" is not known; allowed: text or json`},
		{"--log-level=loud", `--log-level (KEYTURN_LOG_LEVEL): "loud" is not known; allowed: debug, info, warn or error`},
		{"--grant-type=password", `--grant-type (KEYTURN_GRANT_TYPE): "password" is not known; allowed: refresh_token ` +
			`or client_credentials`},
		{`--scopes=openid "x"`, `--scopes (KEYTURN_SCOPES): "openid \"x\"" has a character that no scope may have; ` +
			`allowed: scopes separated by spaces or commas`},
		{"--scopes=,", `--scopes (KEYTURN_SCOPES): "," names no scope; allowed: scopes separated by spaces or commas`},
		{"--issuer=http://id.example", `--issuer (KEYTURN_ISSUER): "http://id.example" is not encrypted; allowed: an ` +
			`https URL, or http for a loopback host`},
		{"--issuer=https://id.example", `--client-id (KEYTURN_CLIENT_ID): is not set; allowed: the client id, which ` +
			`an issuer needs`},
		{"--client-id=x", `--client-id (KEYTURN_CLIENT_ID): is set, but no issuer; allowed: both --issuer ` +
			`(KEYTURN_ISSUER) and --client-id (KEYTURN_CLIENT_ID), or neither`},
		{"--database=mysql://u:hush@h/d", `--database (KEYTURN_DATABASE): "mysql://…" is not a database that Keyturn knows; ` + databases},
		{"--database=oracle", `--database (KEYTURN_DATABASE): "oracle" is not a database that Keyturn knows; ` + databases},
		{"--database=./data/keyturn.db", `--database (KEYTURN_DATABASE): "./data/keyturn.db" is not a database that Keyturn knows; ` + databases},
		{"--database=user/hush", "--database (KEYTURN_DATABASE): the value (not shown, because it may hold a password) is not a database " +
			"that Keyturn knows; " + databases},
		{"--database=host=h password=hush", "--database (KEYTURN_DATABASE): the value (not shown, because it may hold a password) is not a " +
			"database that Keyturn knows; " + databases},
		{"--database=postgres://u:hu%sh@h/d", `--database (KEYTURN_DATABASE): "postgres://…" is not a valid URL (special characters of a ` +
			`password are percent-encoded); ` + databases},
		{"--database=postgres://u:hush@h/d?pool_max_conns=0", `--database (KEYTURN_DATABASE): "postgres://…" has pool_max_conns="0"; ` +
			"allowed: a number of connections, at least 1"},
		{"--database=postgres://u:hush@[::1],[::2]/d?pool_max_conns=0", `--database (KEYTURN_DATABASE): "postgres://…" has pool_max_conns="0"; ` +
			"allowed: a number of connections, at least 1"},
		{"--database=postgres://u:hush@h/d?pool_min_conns=some", `--database (KEYTURN_DATABASE): "postgres://…" has pool_min_conns="some"; ` +
			"allowed: a number of connections, at least 0"},
		{"--database=postgres://u:hush@h/d?sslmode=some&password=hush", `--database (KEYTURN_DATABASE): "postgres://…": the URL has a ` +
			`parameter "sslmode" that cannot be used: sslmode is invalid; allowed: what PostgreSQL takes in a connection URI`},
		{"--database=sqlite:", `--database (KEYTURN_DATABASE): "sqlite:" names no file; ` + databases},
		{"--config=/nowhere/k.yaml", `--config (KEYTURN_CONFIG): "/nowhere/k.yaml" cannot be read (no such file or ` +
			`directory); allowed: the path of a readable file`},
		{"--adr=x", `unknown flag --adr, did you mean "--addr"? (keyturn --help shows what is allowed)`},
		{"--client-secret=hush", "unknown flag --client-secret: a secret is not given on the command line; allowed: " +
			"KEYTURN_CLIENT_SECRET, KEYTURN_CLIENT_SECRET_FILE or client_secret in the file"},
		{"--addr", "--addr (KEYTURN_ADDR): its value is missing; write --addr=VALUE"},
		{"srve", `unknown command srve, did you mean "serve"? (keyturn --help shows what is allowed)`},
		{"a\nb", `unknown command a\nb (keyturn --help shows what is allowed)`},
	} {
		t.Run(c.arg, func(t *testing.T) {
			t.Parallel()
			_, err := parseWith([]string{c.arg}, nil)
			if err == nil || err.Error() != c.want {
				t.Errorf("as a flag:\n got %v\nwant %s", err, c.want)
			}
			name, text, ok := strings.Cut(strings.TrimPrefix(c.arg, "--"), "=")
			if !ok || strings.HasPrefix(c.want, "unknown") || strings.HasPrefix(name, "no-") {
				return
			}
			if _, err = parseWith([]string{"--" + name, text}, nil); err == nil || err.Error() != c.want {
				t.Errorf("as a flag and a word:\n got %v\nwant %s", err, c.want)
			}
			_, err = parseWith(nil, []string{(setting{name: name}).variable() + "=" + text})
			if err == nil || err.Error() != c.want {
				t.Errorf("from the environment:\n got %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestLongValuesAreShortened(t *testing.T) {
	t.Parallel()
	_, err := parseWith([]string{"--leeway=" + strings.Repeat("é", 5000)}, nil)
	if err == nil || len(err.Error()) > 400 || !strings.Contains(err.Error(), `é…" is not a duration`) {
		t.Errorf("got %v", err)
	}
	_, err = parseWith([]string{strings.Repeat("x", 5000)}, nil)
	if err == nil || len(err.Error()) > 400 || !strings.Contains(err.Error(), "--help") {
		t.Errorf("got %v", err)
	}
}

func TestSessionIdleFollowsAShorterLifetimeUnlessItWasGiven(t *testing.T) {
	t.Parallel()
	if got := mustParse(t, []string{"--session-lifetime=1h"}, nil).SessionIdle; got != time.Hour {
		t.Errorf("got %s, want 1h", got)
	}
	if _, err := parseWith([]string{"--session-lifetime=1h"}, []string{"KEYTURN_SESSION_IDLE=2h"}); err == nil {
		t.Error("an explicit idle limit above the lifetime was taken")
	}
}

func TestAcceptedForms(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ arg, name, want string }{
		{"--addr=:0", "addr", ":0"},
		{"--addr=[::1]:8080", "addr", "[::1]:8080"},
		{"--admin-addr=off", "admin-addr", ""},
		{"--base-url=https://X.example:443/", "base-url", "https://x.example"},
		{"--base-url=http://[::1]:8080", "base-url", "http://[::1]:8080"},
		{"--base-url=https://BÜcher.example:8443", "base-url", "https://xn--bcher-kva.example:8443"},
		{"--base-url=https://b%C3%BCcher.example", "base-url", "https://xn--bcher-kva.example"},
		{"--base-url=https://My_App.example", "base-url", "https://my_app.example"},
		{"--trusted-proxies=::ffff:192.0.2.1, ::ffff:10.1.0.0/104", "trusted-proxies", "192.0.2.1/32 10.0.0.0/8"},
		{"--trusted-proxies=::ffff:0:0/80", "trusted-proxies", "::/80"},
		{"--leeway=0s", "leeway", "0s"},
		{"--leeway=0", "leeway", "0s"},
		{"--dev-reuse-interval=0s", "dev-reuse-interval", "0s"},
		{"--max-age= 90m ", "max-age", "1h30m"},
		{"--scopes=openid,email  openid", "scopes", "openid email"},
		{"--dev-provider", "dev-provider", "on"},
		{"--no-dev-provider", "dev-provider", "off"},
		{"--no-dev-provider=false", "dev-provider", "on"},
		{"--dev-provider=false", "dev-provider", "off"},
		{"--dev-provider=YES", "dev-provider", "on"},
		{"--dev-provider=0", "dev-provider", "off"},
		{"--database=sqlite", "database", "sqlite:" + filepath.Join(".keyturn", "keyturn.db")},
		{"--database=sqlite:/var/lib/k.db", "database", "sqlite:/var/lib/k.db"},
		{"--database=sqlite:///var/lib/k.db", "database", "sqlite:/var/lib/k.db"},
		{"--database=postgres://u:hush@db:5432/k?sslmode=require", "database", "postgres://…@db:5432/k?…"},
		{"--database=postgresql://db/k", "database", "postgresql://db/k"},
		{"--database=postgres://u:hush@[::1]:5432,[::1]:5433/k?pool_max_conns=3", "database", "postgres://…@[::1]:5432,[::1]:5433/k?…"},
	} {
		if got := mustParse(t, []string{c.arg}, nil).lookup(c.name); got != c.want {
			t.Errorf("%s: got %q, want %q", c.arg, got, c.want)
		}
	}
	last := mustParse(t, []string{"--dev-provider", "--no-dev-provider", "--addr=:1", "--addr=:2"}, nil)
	if last.DevProvider != toggleOff || last.Addr != ":2" {
		t.Errorf("the last of several flags does not count: %s %s", last.DevProvider, last.Addr)
	}
	if apart := mustParse(t, []string{"--dev-provider", "auto", "--addr", ":2", "serve"}, nil); apart.DevProvider != toggleAuto {
		t.Errorf("a value apart from its flag: %s", apart.DevProvider)
	}
	if before := mustParse(t, []string{"--dev-provider", "serve"}, nil); before.DevProvider != toggleOn {
		t.Errorf("before a command: %s", before.DevProvider)
	}
}

func TestUnknownVariablesAreWarnedOf(t *testing.T) {
	t.Parallel()
	path := tempFile(t, "k.yaml", "data_dir: ${KEYTURN_PLACE}")
	s := mustParse(t, []string{"--config", path}, []string{
		"KEYTURN_ADR=hush", "KEYTURN_TEST_REQUIRE=postgres", "KEYTURN_PLACE=p", "KEYTURN_OLD=", "PATH=/bin",
		"KEYTURN_SOMETHING_ELSE=1", "KEYTURN_API_IDENTIFIER=api",
	})
	want := []string{
		"--api-identifier (KEYTURN_API_IDENTIFIER): is not used without an issuer",
		"KEYTURN_ADR: this environment variable is not a setting; did you mean KEYTURN_ADDR?",
		"KEYTURN_SOMETHING_ELSE: this environment variable is not a setting",
	}
	if !reflect.DeepEqual(s.Warnings, want) {
		t.Errorf("got %q\nwant %q", s.Warnings, want)
	}
}

func TestLogLevel(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	} {
		if got := mustParse(t, []string{"--log-level", text}, nil).logLevel(); got != want {
			t.Errorf("%s: got %s", text, got)
		}
	}
}
