package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"keyturn/auth"
	"keyturn/auth/tokenendpoint"
	"keyturn/handlers"
)

// Settings is everything that can be set. A flag beats the environment, the environment beats the YAML file, and the
// file beats the default; an empty value counts as not set. parseSettings fills and checks it; what depends on the
// address that was really listened on is left to devProviderOn. It prints and logs without its secrets.
type Settings struct {
	Config    string // path of the YAML file; empty without one
	Addr      string // host:port, port 0 for any free one
	BaseURL   string // scheme://host[:port]; empty if not set, see publicURL
	AdminAddr string // host:port of the second listener; empty: none

	TrustedProxies  []netip.Prefix
	SecurityContact string        // URI
	DrainDelay      time.Duration // may be 0

	DataDir    string
	Database   databaseDSN
	KeysetFile string // in the data dir unless given

	SessionLifetime time.Duration
	SessionIdle     time.Duration // never more than SessionLifetime
	ExposeTokens    string        // owner or never

	SessionsPerPerson int
	Limits            handlers.Limits
	EventStreams      int // open at once, in all

	MaxAge       time.Duration
	Leeway       time.Duration // may be 0
	RenewTimeout time.Duration
	RenewMode    string // background or on-demand

	RenewConcurrency int

	// The single generic OpenID provider; if Issuer is set, Providers holds it too, under the name oidc.
	Issuer        string
	ClientID      string
	ClientSecret  auth.Secret              // empty: a public client, or one with a key
	ClientAuth    tokenendpoint.AuthMethod // empty: from discovery
	ClientKey     clientKey
	APIIdentifier string
	Scopes        []string
	GrantType     auth.GrantType

	DevProvider      toggle
	DevTokenLifetime time.Duration
	DevReuseInterval time.Duration // may be 0

	LogFormat string // text or json
	LogLevel  string // debug, info, warn or error
	AccessLog string // on or off

	Providers []ProviderSettings // those of the file in its order, then the generic one
	Warnings  []string           // what looks like a mistake but does not stop the start; one line each, without secrets

	origins map[string]string // by flag name: what to call a setting that was given, in an error
}

// setting is one row of the settings: how it is named, shown and stored.
type setting struct {
	name    string // the flag without its dashes; the environment variable and the YAML key follow from it
	group   string // heading in the help
	preset  string // the default, as one would write it
	absent  string // what to show in place of a default if there is none
	meaning string
	field   field

	noFlag   bool // for secrets: a command line is seen by every user of the machine
	fromFile bool // also read from the file that …_FILE names
}

// variable is the name of the environment variable.
func (s setting) variable() string {
	return "KEYTURN_" + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

// key is the name in the YAML file.
func (s setting) key() string { return strings.ReplaceAll(s.name, "-", "_") }

// label names the setting in an error.
func (s setting) label() string {
	if s.noFlag {
		return s.variable()
	}
	return "--" + s.name + " (" + s.variable() + ")"
}

// variables lists the environment variables that the setting is read from.
func (s setting) variables() []string {
	if s.fromFile {
		return []string{s.variable(), s.variable() + secretFileSuffix}
	}
	return []string{s.variable()}
}

const day = 24 * time.Hour

// The renew modes.
const (
	modeBackground = "background"
	modeOnDemand   = "on-demand"
)

// list is the single source of names, defaults, limits and meanings: parsing, the help and the README's table follow
// it. Its rows are bound to s.
func (s *Settings) list() []setting {
	const (
		server, storage, sessions, renewal = "Server", "Storage", "Sessions", "Renewal"
		limits                             = "Limits"
		generic, development, logging      = "One OpenID provider without a file", "Development", "Logging"
	)
	return []setting{
		{name: "config", group: server, absent: "none", field: text(&s.Config, nil),
			meaning: "YAML file: any setting of this table (base_url for --base-url) and a list of providers"},
		{name: "addr", group: server, preset: "localhost:8080", field: text(&s.Addr, listenAddress),
			meaning: "listen address"},
		{name: "base-url", group: server, absent: "http:// + addr", field: text(&s.BaseURL, baseURL),
			meaning: "public URL; callbacks are built from it; https turns on Secure and __Host- cookies and HSTS"},
		{name: "admin-addr", group: server, absent: "off", field: text(&s.AdminAddr, adminAddress),
			meaning: "second listener for /metrics, /healthz, /readyz and pprof"},
		{name: "trusted-proxies", group: server, absent: "none", field: prefixes(&s.TrustedProxies),
			meaning: "addresses and networks of proxies whose X-Forwarded-For is believed, such as 10.0.0.0/8"},
		{name: "drain-delay", group: server, preset: "1s", field: duration(&s.DrainDelay, 0, 10*time.Minute),
			meaning: "on SIGTERM /readyz says 503 for this long before the rest stops; longer than a load balancer takes to look"},
		{name: "security-contact", group: server, absent: "none", field: text(&s.SecurityContact, contactURI),
			meaning: "e-mail address, or URL with https, mailto or tel, for /.well-known/security.txt"},

		{name: "data-dir", group: storage, preset: ".keyturn", field: text(&s.DataDir, dataDir),
			meaning: "directory of the SQLite file, the keyset unless given, tokens that wait for the database, and the embedded provider"},
		{name: "database", group: storage, preset: "sqlite", fromFile: true, field: databaseField(&s.Database),
			meaning: "sqlite (in the data dir), sqlite:PATH or postgres://…"},
		{name: "keyset-file", group: storage, absent: "in the data dir", field: text(&s.KeysetFile, nil),
			meaning: "Tink keyset that seals the vault"},

		{name: "session-lifetime", group: sessions, preset: "24h", field: duration(&s.SessionLifetime, time.Second, 400*day),
			meaning: "a session ends this long after its sign-in"},
		{name: "session-idle", group: sessions, preset: "8h", field: duration(&s.SessionIdle, time.Second, 400*day),
			meaning: "and this long after its last request, up to a minute more, not counting what an open page asks for by itself; at most the lifetime"},
		{name: "expose-tokens", group: sessions, preset: "owner", field: oneOf(&s.ExposeTokens, "owner", "never"),
			meaning: "owner: a signed-in person may see and fetch their own tokens; never: masked everywhere"},
		{name: "sessions-per-person", group: sessions, preset: "1000", field: count(&s.SessionsPerPerson, 1, 1_000_000),
			meaning: "with one more, a person's oldest session ends"},

		{name: "limit-sign-in", group: limits, preset: "600/m", field: limit(&s.Limits.SignIn),
			meaning: "requests that begin or end a sign-in, for each session; ten times as many for each address; " +
				"of logout tokens those that are refused; N/s, N/m, N/h or off"},
		{name: "limit-renew", group: limits, preset: "6000/m", field: limit(&s.Limits.Renew),
			meaning: "renewals that are asked for, likewise; requests that share a renewal count"},
		{name: "limit-reveal", group: limits, preset: "600/m", field: limit(&s.Limits.Reveal),
			meaning: "tokens that are revealed, and questions to the provider from the dashboard, likewise"},
		{name: "event-streams", group: limits, preset: "10000", field: count(&s.EventStreams, 10, 1_000_000),
			meaning: "open /events streams; a session may have a tenth of them"},

		{name: "max-age", group: renewal, preset: "30m", field: duration(&s.MaxAge, 1, 30*day),
			meaning: "renew when the access token is this old"},
		{name: "leeway", group: renewal, preset: "60s", field: duration(&s.Leeway, 0, day),
			meaning: "renew when this little is left; never more than a quarter of the token's lifetime"},
		{name: "renew-timeout", group: renewal, preset: "10s", field: duration(&s.RenewTimeout, 10*time.Millisecond, 10*time.Minute),
			meaning: "bound on one token endpoint call"},
		{name: "renew-mode", group: renewal, preset: "background",
			field: oneOf(&s.RenewMode, modeBackground, modeOnDemand),
			meaning: "background: grants of live sessions are also renewed with nobody watching; " +
				"on-demand: only when a request meets them, or nobody knows what became of an earlier try"},
		{name: "renew-concurrency", group: renewal, preset: strconv.Itoa(auth.DefaultConcurrency), field: count(&s.RenewConcurrency, 1, 1000),
			meaning: "most renewals at once at one provider; automatic ones leave a quarter to people and programs, and programs leave them one while some wait; " +
				"with fewer than 4, grants for which a provider hangs hold up those of others"},

		{name: "issuer", group: generic, absent: "none", field: text(&s.Issuer, issuerURL),
			meaning: "issuer URL; the provider is named oidc: /auth/oidc"},
		{name: "client-id", group: generic, absent: "none", field: text(&s.ClientID, nil),
			meaning: "client id; needed with an issuer"},
		{name: "client-secret", group: generic, absent: "none", noFlag: true, fromFile: true,
			field:   secret(&s.ClientSecret),
			meaning: "client secret; none for a public client"},
		{name: "client-auth", group: generic, absent: "from discovery", field: clientAuth(&s.ClientAuth),
			meaning: "how the client authenticates: client_secret_basic, client_secret_post, private_key_jwt or none"},
		{name: "client-key-file", group: generic, absent: "none", field: text(&s.ClientKey.file, nil),
			meaning: "private key for private_key_jwt: PEM or a JSON Web Key, closed to other users"},
		{name: "client-key-id", group: generic, absent: "none", field: text(&s.ClientKey.id, nil),
			meaning: "key id (kid) that the provider knows the key by"},
		{name: "api-identifier", group: generic, absent: "none", field: text(&s.APIIdentifier, nil),
			meaning: "sent as audience"},
		{name: "scopes", group: generic, preset: defaultScopes(), field: scopes(&s.Scopes),
			meaning: "what to ask for, separated by spaces or commas; openid must be there; unless set, what of these the provider announces"},
		{name: "grant-type", group: generic, preset: string(auth.GrantRefreshToken), field: grantType(&s.GrantType),
			meaning: "how tokens are renewed: refresh_token or client_credentials"},

		{name: "dev-provider", group: development, preset: string(toggleAuto), field: onOff(&s.DevProvider),
			meaning: "embedded OpenID provider: on, off (--no-dev-provider) or auto (on when no provider is set and the " +
				"base URL is loopback); refused on a public base URL"},
		{name: "dev-token-lifetime", group: development, preset: "2m",
			field:   duration(&s.DevTokenLifetime, time.Second, day),
			meaning: "lifetime of its access tokens"},
		{name: "dev-reuse-interval", group: development, preset: "10s",
			field:   duration(&s.DevReuseInterval, 0, 10*time.Minute),
			meaning: "how long it takes a used refresh token again; 0s: never"},

		{name: "log-format", group: logging, preset: "text", field: oneOf(&s.LogFormat, "text", "json"),
			meaning: "text or json"},
		{name: "log-level", group: logging, preset: "info", field: oneOf(&s.LogLevel, "debug", "info", "warn", "error"),
			meaning: "debug, info, warn or error"},
		{name: "access-log", group: logging, preset: "off", field: oneOf(&s.AccessLog, "on", "off"),
			meaning: "on: a line for each request at level info; off: at level debug"},
	}
}

// parseSettings reads the command line (without the program's name), the environment (in the form of os.Environ) and
// the YAML file that they name. done says that what was asked for (--help, --version, the version command) has been
// written to stdout and the program should end. An error is one line without the program's name; it names the setting,
// the value unless it is secret, and what is allowed.
func parseSettings(args, environ []string, stdout io.Writer) (s Settings, what command, done bool, err error) {
	flags, what, done, err := parseCommandLine(args, stdout)
	if err != nil || done {
		return Settings{}, what, done, oneLine(err)
	}
	if err := s.read(&sources{flags: flags, env: environment(environ)}); err != nil {
		return Settings{}, what, false, oneLine(err)
	}
	return s, what, false, nil
}

// read fills the settings from the sources and checks them.
func (s *Settings) read(from *sources) error {
	list := s.list()
	s.origins = map[string]string{}
	if err := from.load(list); err != nil {
		return err
	}
	for _, set := range list {
		v, given, err := from.find(set)
		if err != nil {
			return err
		}
		if given {
			s.origins[set.name] = v.where
		}
		if v.empty() {
			continue
		}
		if err := set.field.set(v); err != nil {
			return v.refused(err)
		}
	}
	if err := s.settle(); err != nil {
		return err
	}
	var err error
	if s.Providers, err = s.readProviders(from.file); err != nil {
		return err
	}
	if err := s.checkUse(); err != nil {
		return err
	}
	if base := s.publicURL(nil); !encrypted(base) {
		name := "base-url"
		if !s.given(name) {
			name = "addr"
		}
		s.Warnings = append(s.Warnings, oneLine(fmt.Errorf("%s: %s is not encrypted: whoever is on the way reads people's session cookies and "+
			"tokens; serve it over https", s.whereSet(name), shown(base))).Error())
	}
	s.Warnings = append(s.Warnings, from.unknownVariables(list)...)
	s.Warnings = append(s.Warnings, from.unusableProxies()...)
	return nil
}

// settle fills what follows from other settings and refuses what contradicts them.
func (s *Settings) settle() error {
	if s.SessionIdle > s.SessionLifetime {
		if s.given("session-idle") {
			return fmt.Errorf("%s: %s is more than %s, %s; allowed: at most the session's lifetime",
				s.whereSet("session-idle"), shortDuration(s.SessionIdle), s.whereSet("session-lifetime"),
				shortDuration(s.SessionLifetime))
		}
		s.SessionIdle = s.SessionLifetime
	}
	if s.KeysetFile == "" {
		s.KeysetFile = filepath.Join(s.DataDir, "keyset.json")
	}
	if s.Database.Engine == engineSQLite && s.Database.Path == "" {
		s.Database.Path = filepath.Join(s.DataDir, "keyturn.db")
	}
	return nil
}

// spoolDir is where renewals wait that the database has not taken.
func (s Settings) spoolDir() string { return filepath.Join(s.DataDir, "spool") }

func (s *Settings) given(name string) bool { return s.origins[name] != "" }

// whereSet is what to call a setting in an error: where it was given or else how it can be.
func (s *Settings) whereSet(name string) string {
	if where, ok := s.origins[name]; ok {
		return where
	}
	i := slices.IndexFunc(s.list(), func(set setting) bool { return set.name == name })
	return s.list()[i].label()
}

// logLevel is LogLevel as log/slog has it.
func (s Settings) logLevel() slog.Level {
	var level slog.Level
	_ = level.UnmarshalText([]byte(s.LogLevel)) // oneOf has let only level names through; else it stays info
	return level
}

// LogValue implements slog.LogValuer: every setting, secrets only as "set".
func (s Settings) LogValue() slog.Value {
	var attrs []slog.Attr
	for _, set := range s.list() {
		attrs = append(attrs, slog.String(set.name, set.field.show()))
	}
	names := make([]string, len(s.Providers))
	for i, p := range s.Providers {
		names[i] = p.Name
	}
	return slog.GroupValue(append(attrs, slog.String("providers", strings.Join(names, " ")))...)
}

// String implements fmt.Stringer with what LogValue shows.
func (s Settings) String() string {
	var parts []string
	for _, a := range s.LogValue().Group() {
		parts = append(parts, a.Key+"="+quoteIfNeeded(a.Value.String()))
	}
	return strings.Join(parts, " ")
}

// GoString implements fmt.GoStringer with what LogValue shows.
func (s Settings) GoString() string { return "main.Settings{" + s.String() + "}" }
