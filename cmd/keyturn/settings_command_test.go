package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"keyturn/auth"
)

func TestCommands(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args string
		want command
	}{
		{"", command{name: commandServe}},
		{"--addr=:1", command{name: commandServe}},
		{"serve", command{name: commandServe}},
		{"serve --addr=:1", command{name: commandServe}},
		{"check --addr :1", command{name: commandCheck}},
		{"check --json", command{name: commandCheck, json: true}},
		{"keys create", command{name: commandKeysCreate}},
		{"keys list", command{name: commandKeysList}},
		{"--addr=:1 keys rotate", command{name: commandKeysRotate}},
		{"keys reseal --addr :1", command{name: commandKeysReseal}},
		{"keys retire", command{name: commandKeysRetire}},
		{"sessions list --all", command{name: commandSessionsList}},
		{"sessions list work 42 --addr :1", command{name: commandSessionsList, person: auth.Person{Provider: "work", Subject: "42"}}},
		{"sessions end work auth0|42", command{name: commandSessionsEnd, person: auth.Person{Provider: "work", Subject: "auth0|42"}}},
		{"sessions end --all", command{name: commandSessionsEnd}},
		{"sessions end --all --without-revoking", command{name: commandSessionsEnd, withoutRevoking: true}},
		{"ready --addr :1", command{name: commandReady}},
		{"ready --exclude=database,spool --exclude keyset", command{name: commandReady, exclude: []string{"database", "spool", "keyset"}}},
	} {
		s, got, done, err := parseSettings(strings.Fields(c.args), nil, &bytes.Buffer{})
		if err != nil || done || !reflect.DeepEqual(got, c.want) || strings.Contains(c.args, "addr") && s.Addr != ":1" {
			t.Errorf("%q: got %+v, done %t, addr %s, error %v", c.args, got, done, s.Addr, err)
		}
	}
	for args, want := range map[string]string{
		"keys":                      `expected one of "create", "list", "rotate", "reseal", "retire" (keyturn --help shows what is allowed)`,
		"sessions end":              "sessions end: whose? PROVIDER SUBJECT, or --all (keyturn --help shows what is allowed)",
		"sessions end work":         "sessions end: whose? PROVIDER SUBJECT, or --all (keyturn --help shows what is allowed)",
		"sessions end work 1 --all": "sessions end: whose? PROVIDER SUBJECT, or --all (keyturn --help shows what is allowed)",
		"sessions list":             "sessions list: whose? PROVIDER SUBJECT, or --all (keyturn --help shows what is allowed)",
		"keys lst":                  `unknown command lst, did you mean "list"? (keyturn --help shows what is allowed)`,
		"--dev-provider srve":       `unknown command srve, did you mean "serve"? (keyturn --help shows what is allowed)`,
		"serve again":               "unknown command again (keyturn --help shows what is allowed)",
		"https://u:hush@h/?q=hush":  "unknown command https://…@h/?… (keyturn --help shows what is allowed)",
	} {
		if _, err := parseWith(strings.Fields(args), nil); err == nil || err.Error() != want {
			t.Errorf("%q: got %v\nwant %s", args, err, want)
		}
	}
}

// failing is a standard output that cannot be written to.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestUnwrittenAnswersAreErrors(t *testing.T) {
	t.Parallel()
	for _, arg := range []string{"version", "--version", "--help", "help"} {
		if _, _, _, err := parseSettings([]string{arg}, nil, failing{}); err == nil {
			t.Errorf("%s: no error", arg)
		}
	}
}

func TestHelpShowsEverySetting(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"--help", "-h", "help", "keys --help", "keys rotate --help", "--help --leeway=abc"} {
		var out bytes.Buffer
		environ := []string{"KEYTURN_CLIENT_SECRET=hush", "KEYTURN_MAX_AGE=x"}
		_, _, done, err := parseSettings(strings.Fields(args), environ, &out)
		if err != nil || !done {
			t.Fatalf("%s: done %t, error %v", args, done, err)
		}
		help := out.String()
		var s Settings
		for _, set := range s.list() {
			if !set.noFlag && !strings.Contains(help, "  --"+set.name+" ") {
				t.Errorf("%s: --%s is missing", args, set.name)
			}
			for _, variable := range set.variables() {
				if !strings.Contains(help, " "+variable+" ") {
					t.Errorf("%s: %s is missing", args, variable)
				}
			}
			if set.meaning == "" || set.group == "" || set.shownDefault() == "" {
				t.Errorf("%s: %s is not explained", args, set.name)
			}
		}
		for _, name := range []string{"serve", "keys list", "keys rotate", "keys reseal", "keys retire", "sessions list", "sessions end", "ready", "version", "--help", "--version"} {
			if !strings.Contains(help, "  "+name) {
				t.Errorf("%s: %s is missing", args, name)
			}
		}
		for line := range strings.Lines(help) {
			if utf8.RuneCountInString(strings.TrimRight(line, "\n")) > 100 {
				t.Errorf("%s: wider than 100 columns: %s", args, line)
			}
		}
		if strings.Contains(help, "hush") || strings.Contains(help, "--client-secret") {
			t.Errorf("%s: shows a secret or a flag for it", args)
		}
	}
}

// settingsTable renders the settings as the Markdown table of the README.
func settingsTable() string {
	var b strings.Builder
	b.WriteString("| flag | environment | default | meaning |\n|---|---|---|---|\n")
	var s Settings
	for _, set := range s.list() {
		flag, preset := "`--"+set.name+"`", set.absent
		if set.noFlag {
			flag = "none"
		}
		if set.preset != "" {
			preset = "`" + set.preset + "`"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", flag, strings.Join(set.variables(), "`, `"), preset,
			strings.ReplaceAll(set.meaning, "__Host-", "`__Host-`"))
	}
	return b.String()
}

func TestTheTableHasARowForEverySetting(t *testing.T) {
	t.Parallel()
	var s Settings
	rows := strings.Split(strings.TrimSuffix(settingsTable(), "\n"), "\n")
	if len(rows) != len(s.list())+2 {
		t.Fatalf("%d rows for %d settings", len(rows), len(s.list()))
	}
	for i, row := range rows {
		if strings.Count(row, "|") != 5 || i > 1 && !strings.Contains(row, "`"+s.list()[i-2].variable()+"`") {
			t.Errorf("row %d: %s", i, row)
		}
	}
}

func TestREADMEHoldsTheTableOfSettings(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("there is no README.md yet")
	}
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(content), settingsTable()) {
		t.Errorf("README.md lacks this table:\n\n%s", settingsTable())
	}
}
