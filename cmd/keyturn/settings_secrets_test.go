package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretsComeFromFilesToo(t *testing.T) {
	t.Parallel()
	path := tempFile(t, "secret", "\uFEFF  hush\r\n")
	database := tempFile(t, "database", "\uFEFFpostgres://u:hush@db/k\n")
	base := []string{"KEYTURN_ISSUER=https://i.example", "KEYTURN_CLIENT_ID=id"}
	s := mustParse(t, nil, append(base, "KEYTURN_CLIENT_SECRET_FILE="+path, "KEYTURN_DATABASE_FILE="+database))
	if s.ClientSecret != "hush" || s.Database.URL != "postgres://u:hush@db/k" {
		t.Errorf("got %q and %q", s.ClientSecret.Reveal(), s.Database.URL.Reveal())
	}
	s = mustParse(t, []string{"--database=sqlite:x"}, []string{"KEYTURN_DATABASE_FILE=/nowhere"})
	if s.Database.Path != "x" {
		t.Errorf("the flag does not beat the file: %s", s.Database)
	}
	empty, lines, wide := tempFile(t, "empty", "\uFEFF\n"), tempFile(t, "lines", "hu\nsh"), tempFile(t, "wide", "\xff\xfeh\x00u\x00")
	const control = " has a control character in it; allowed: text on one line"
	for _, c := range []struct{ env, want string }{
		{"KEYTURN_CLIENT_SECRET=x KEYTURN_CLIENT_SECRET_FILE=" + path,
			"KEYTURN_CLIENT_SECRET and KEYTURN_CLIENT_SECRET_FILE: both are set; allowed: one of them"},
		{"KEYTURN_CLIENT_SECRET_FILE=/nowhere",
			`KEYTURN_CLIENT_SECRET_FILE: "/nowhere" cannot be read (no such file or directory); allowed: the path of a ` +
				`readable file`},
		{"KEYTURN_CLIENT_SECRET_FILE=" + empty,
			fmt.Sprintf("KEYTURN_CLIENT_SECRET_FILE: %s is empty; allowed: a file with nothing but the secret", shown(empty))},
		{"KEYTURN_CLIENT_SECRET_FILE=" + lines, "KEYTURN_CLIENT_SECRET_FILE:" + control},
		{"KEYTURN_CLIENT_SECRET_FILE=" + wide, "KEYTURN_CLIENT_SECRET_FILE:" + control}, // UTF-16
		{"KEYTURN_DATABASE_FILE=" + path, "KEYTURN_DATABASE_FILE: the value (not shown, because it may hold a password) is not a database " +
			"that Keyturn knows; allowed: sqlite, sqlite:PATH or postgres://user:password@host:5432/name"},
		{"KEYTURN_CLIENT_SECRET=hush\x00", "KEYTURN_CLIENT_SECRET:" + control},
	} {
		if _, err := parseWith(nil, append(strings.Fields(c.env), base...)); err == nil || err.Error() != c.want {
			t.Errorf("got %v\nwant %s", err, c.want)
		}
	}
	s = mustParse(t, nil, append(base, "KEYTURN_CLIENT_SECRET_FILE=", "KEYTURN_CLIENT_SECRET=x"))
	if s.ClientSecret != "x" {
		t.Error("an empty …_FILE counts as set")
	}
}

func TestSettingsPrintWithoutSecrets(t *testing.T) {
	t.Parallel()
	s := mustParse(t, []string{"--database=postgres://u:hush@db/k?password=hush"}, []string{
		"KEYTURN_ISSUER=https://i.example", "KEYTURN_CLIENT_ID=id", "KEYTURN_CLIENT_SECRET=hush",
	})
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("settings", "settings", s)
	for _, text := range []string{
		s.String(), log.String(), fmt.Sprint(s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s), fmt.Sprintf("%+v", &s),
		fmt.Sprintf("%v %+v %#v", s.Providers, s.Providers, s.Providers), s.Database.String(), fmt.Sprintf("%#v", s.Database),
	} {
		if strings.Contains(text, "hush") {
			t.Errorf("shows a secret: %s", text)
		}
	}
	if !strings.Contains(s.String(), "client-secret=set") || !strings.Contains(s.String(), "providers=oidc") {
		t.Errorf("says too little: %s", s)
	}
}
