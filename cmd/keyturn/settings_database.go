package main

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"keyturn/auth"
	"keyturn/auth/vault/postgres"
)

// The engines that keep the vault.
const (
	engineSQLite   = "sqlite"
	enginePostgres = "postgres"
)

// databaseDSN says which engine keeps the vault, and where.
type databaseDSN struct {
	Engine string      // sqlite or postgres
	Path   string      // of sqlite: the file
	URL    auth.Secret // of postgres: the whole URL, which may hold a password
}

// String shows the database without its credentials.
func (d databaseDSN) String() string {
	if d.Engine == enginePostgres {
		return withoutCredentials(d.URL.Reveal())
	}
	return d.Engine + ":" + d.Path
}

// databaseField takes its errors' wording into its own hands: the value may hold a password anywhere, and what a file for a secret holds may
// be another one.
func databaseField(target *databaseDSN) field {
	return field{
		secret: true,
		show:   func() string { return target.String() },
		set: func(v value) (err error) {
			*target, err = parseDatabase(strings.TrimSpace(v.text), !strings.HasSuffix(v.where, secretFileSuffix))
			return err
		},
	}
}

// plainName is a word or a path, without a place for a password in it; Oracle's user/password is none.
var plainName = regexp.MustCompile(`^(\.{0,2}(/[\w.-]+)+|[\w.-]+)$`)

// longestPlain is how long a plainName is shown, in bytes: what is longer may be a key.
const longestPlain = 40

// parseDatabase reads a database's name. showPlain says that an error may quote a plainName.
func parseDatabase(text string, showPlain bool) (databaseDSN, error) {
	const allowed = "allowed: sqlite, sqlite:PATH or postgres://user:password@host:5432/name"
	scheme, rest, _ := strings.Cut(text, ":")
	known := "the value (not shown, because it may hold a password)"
	switch {
	case strings.HasPrefix(rest, "//"):
		known = shown(scheme + "://…")
	case showPlain && len(text) <= longestPlain && plainName.MatchString(text):
		known = shown(text)
	}
	switch scheme {
	case engineSQLite:
		if strings.HasPrefix(rest, "///") { // a URL of an absolute path, as others write it
			rest = rest[2:]
		}
		switch {
		case text == engineSQLite:
			return databaseDSN{Engine: engineSQLite}, nil
		case rest == "" || rest == ":memory:" || strings.HasPrefix(rest, "//"):
			return databaseDSN{}, errors.New(shown(text) + " names no file; " + allowed)
		case strings.ContainsFunc(rest, isControl):
			return databaseDSN{}, errors.New(shown(text) + " has a control character in it; " + allowed)
		}
		return databaseDSN{Engine: engineSQLite, Path: rest}, nil
	case "postgres", "postgresql":
		given := postgres.Parameters(auth.Secret(text))
		for least, name := range []string{"pool_min_conns", "pool_max_conns"} {
			value := given.Get(name)
			if n, err := strconv.ParseInt(value, 10, 32); given.Has(name) && (err != nil || int(n) < least) {
				return databaseDSN{}, fmt.Errorf("%s has %s=%s; allowed: a number of connections, at least %d", known, name, shown(value), least)
			}
		}
		_, notURL := url.Parse(text)
		unusable := postgres.Check(auth.Secret(text))
		if notURL != nil && unusable != nil || !strings.HasPrefix(rest, "//") {
			return databaseDSN{}, errors.New(known + " is not a valid URL (special characters of a password are " +
				"percent-encoded); " + allowed)
		}
		if unusable != nil {
			return databaseDSN{}, fmt.Errorf("%s: %w; allowed: what PostgreSQL takes in a connection URI", known, unusable)
		}
		return databaseDSN{Engine: enginePostgres, URL: auth.Secret(text)}, nil
	}
	return databaseDSN{}, errors.New(known + " is not a database that Keyturn knows; " + allowed)
}
