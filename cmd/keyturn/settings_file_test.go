package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFileMistakesAreNamedInOneLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ what, yaml, want string }{
		{"unknown key", "adr: x", "adr (line 1 of FILE): this key is not known; did you mean addr?"},
		{"far from any key", "zzzzzz: x", "zzzzzz (line 1 of FILE): this key is not known; allowed: " + strings.Join(slices.Sorted(slices.Values(fileKeys())), ", ")},
		{"wrong value", "\nmax_age: abc",
			`max_age (line 2 of FILE): "abc" is not a duration; allowed: a positive duration such as 60s or 30m, at most ` +
				`720h`},
		{"number without a unit", "max_age: 30",
			`max_age (line 1 of FILE): "30" is not a duration: a unit is missing; allowed: a positive duration such as ` +
				`60s or 30m, at most 720h`},
		{"both spellings", "base_url: https://a.example\nbase-url: https://a.example",
			"base_url (line 2 of FILE): is there twice; allowed: once"},
		{"a list for a value", "addr: [a]", "addr (line 1 of FILE): is a list or a mapping; allowed: a single value"},
		{"a mapping for scopes", "scopes: {a: b}", "scopes (line 1 of FILE): is a list or a mapping; allowed: a " +
			"single value"},
		{"another file", "config: x.yaml",
			"config (line 1 of FILE): a file cannot name another; allowed: --config (KEYTURN_CONFIG)"},
		{"not a mapping", "- a", "line 1 of FILE: is not a mapping; allowed: lines of the form key: value"},
		{"malformed", "addr: x\n  b: y", "FILE: not valid YAML: line 2: mapping values are not allowed in this context"},
		{"unknown anchor", "client_secret: *hush",
			"FILE: not valid YAML: an unknown anchor is referred to (a value that begins with * must be quoted)"},
		{"tag", "client_secret: !hush",
			"client_secret (line 1 of FILE): begins with ! or & and means something else in YAML; allowed: the same in " +
				"quotes"},
		{"anchor", "client_secret: &hush",
			"client_secret (line 1 of FILE): begins with ! or & and means something else in YAML; allowed: the same in " +
				"quotes"},
		{"several documents", "addr: :1\n---\naddr: :2", "FILE: holds several YAML documents; allowed: one"},
		{"unset variable", "\ndata_dir: ${NOWHERE}/x",
			"data_dir (line 2 of FILE): ${NOWHERE}: this environment variable is not set or empty; allowed: one that is set"},
		{"empty variable", "client_secret: ${EMPTY}",
			"client_secret (line 1 of FILE): ${EMPTY}: this environment variable is not set or empty; allowed: one that " +
				"is set"},
		{"secret in the wrong place", "leeway: ${LONG}",
			`leeway (line 1 of FILE): "` + strings.Repeat("x", 79) + `…" is not a duration; allowed: a duration from 0s ` +
				`to 24h such as 60s or 30m`},
		{"both secrets", "client_secret: hush\nclient_secret_file: x",
			"client_secret (line 1 of FILE) and client_secret_file (line 2 of FILE): both are set; allowed: one of them"},
		{"missing secret file", "client_secret_file: /nowhere",
			`client_secret_file (line 1 of FILE): "/nowhere" cannot be read (no such file or directory); allowed: the ` +
				`path of a readable file`},
		{"database with a password", "database: mysql://u:hush@h",
			`database (line 1 of FILE): "mysql://…" is not a database that Keyturn knows; allowed: sqlite, sqlite:PATH ` +
				`or postgres://user:password@host:5432/name`},
		{"lifetime and idle", "session_lifetime: 1h\nsession_idle: 2h",
			"session_idle (line 2 of FILE): 2h is more than session_lifetime (line 1 of FILE), 1h; allowed: at most the " +
				"session's lifetime"},
		{"providers of another kind", "providers: x",
			"providers (line 1 of FILE): is not a list; allowed: one entry a provider, each beginning with a dash"},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			_, got := parseFile(t, c.yaml, "EMPTY=", "LONG="+strings.Repeat("x", 200))
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// fileKeys are the keys of the file beside those of its providers.
func fileKeys() []string {
	keys := []string{"providers", "client_secret_file", "database_file"}
	for _, set := range new(Settings).list() {
		if set.name != "config" {
			keys = append(keys, set.key())
		}
	}
	return keys
}

func TestOnlyReferencesInBracesAreExpanded(t *testing.T) {
	t.Parallel()
	env := []string{"NAME=value", "NESTED=${NAME}", "INJECT=x', addr: ':1", "KEYTURN_ISSUER=https://i.example",
		"KEYTURN_CLIENT_ID=id"}
	for text, want := range map[string]string{
		"a${NAME}b${NAME}": "avaluebvalue",
		"$NAME $$ $ $":     "$NAME $$ $ $",
		"${NESTED}":        "${NAME}",
		"${INJECT}":        "x', addr: ':1",
		"$${NAME}":         "$value",
		"$${NAME}{":        "$value{",
	} {
		s, err := parseFile(t, "client_secret: '"+text+"'", env...)
		if err != "" || s.ClientSecret.Reveal() != want || s.Addr != "localhost:8080" {
			t.Errorf("%s: got %q %s, want %q", text, s.ClientSecret.Reveal(), err, want)
		}
	}
}

func TestReferencesThatAreNoneAreNamedInOneLine(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"hush${NAME", "${NAME:-hush}", "${}hush", "${1}hush", "${hush-NAME}", "hush${", "${NAME}hush${NAME }"} {
		for where, entry := range map[string]string{
			"client_secret (line 1 of FILE)":                "client_secret: '" + text + "'",
			"scopes (line 1 of FILE)":                       "scopes: [openid, '" + text + "']",
			"providers.work.client_secret (line 2 of FILE)": "providers:\n  - {name: work, issuer: 'https://i.example', client_id: x, client_secret: '" + text + "'}",
		} {
			want := where + ": has ${ in it without a name and } behind that; allowed: ${NAME} for an environment variable, which may hold any text"
			if _, got := parseFile(t, entry, "NAME=value"); got != want {
				t.Errorf("%s: got  %s\nwant %s", text, got, want)
			}
		}
	}
}

func TestYAMLValues(t *testing.T) {
	t.Parallel()
	s, err := parseFile(t, `
# a comment
data_dir: 2024
dev_provider: off
leeway: &short 5s
max_age: *short
scopes: [openid, "read,write", openid, null, ""]
providers: []
`)
	if err != "" {
		t.Fatal(err)
	}
	if s.DataDir != "2024" || s.DevProvider != toggleOff || s.MaxAge != 5*time.Second || s.Leeway != 5*time.Second {
		t.Errorf("got %s", s)
	}
	if want := []string{"openid", "read,write"}; !slices.Equal(s.Scopes, want) {
		t.Errorf("scopes: got %q, want %q", s.Scopes, want)
	}
	for _, nothing := range []string{"", "# nothing\n", "---\n", "null", "providers:\n"} {
		if _, err := parseFile(t, nothing); err != "" {
			t.Errorf("%q: %s", nothing, err)
		}
	}
	s, err = parseFile(t, "scopes: []")
	if err != "" || strings.Join(s.Scopes, " ") != defaultScopes() {
		t.Errorf("an empty list counts as set: %q %s", s.Scopes, err)
	}
}

func TestAStrayFileNameKeepsToOneLine(t *testing.T) {
	t.Parallel()
	path := tempFile(t, "a\nb.yaml", "adr: x")
	_, err := parseWith([]string{"--config", path}, nil)
	if err == nil || strings.ContainsAny(err.Error(), "\n") || !strings.Contains(err.Error(), `a\nb.yaml`) {
		t.Errorf("got %q", err)
	}
}
