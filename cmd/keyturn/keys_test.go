package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keyturn/auth/authtest"
)

func TestKeysRotateWithTheServerRunning(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	alice, bob := p.person(), p.person()
	alice.signIn(t, "alice")
	for _, command := range []string{"list", "rotate", "reseal", "list"} {
		runKeys(t, p, command)
		if got := alice.do(t, "POST", "/api/trigger-renew-token?query=update-token-data", nil).json(t); got["outcome"] != "rotated" {
			t.Errorf("after keys %s: %v", command, got)
		}
	}
	bob.signIn(t, "bob")
	p.kill(t)
	p.again(t)
	if g := alice.generation(t); g != 5 {
		t.Errorf("generation %v after the restart", g)
	}
}

// keysetOf is the path of the program's keyset.
func keysetOf(p *program) string { return filepath.Join(p.dir, "keyset.json") }

// ago makes a file look as if it had been written that long ago.
func ago(t *testing.T, path string, age time.Duration) {
	t.Helper()
	then := time.Now().Add(-age)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
}

func TestKeysRetireWhatSealsNothing(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	alice, bob := p.person(), p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	bob.do(t, "GET", "/auth/oidc", nil)
	signIn := p.person()
	back := callback(t, signIn, "/auth/oidc")
	runKeys(t, p, "rotate")
	runKeys(t, p, "reseal")
	ago(t, keysetOf(p), 10*time.Second)
	output := runKeys(t, p, "retire")
	if !strings.Contains(output, "waiting") || !strings.Contains(output, "0 grants") ||
		!strings.Contains(output, "1 sign-ins under way") || !strings.Contains(output, "No key is retired") {
		t.Errorf("with a sign-in under way: %s", output)
	}
	if a := signIn.do(t, "GET", back, nil); a.url.Path != "/dashboard" {
		t.Errorf("a sign-in that began before ends at %s", a.url)
	}
	runKeys(t, p, "rotate")
	ago(t, keysetOf(p), time.Minute)
	alice.do(t, "POST", "/api/renew-token", nil)
	if output := runKeys(t, p, "retire"); !strings.Contains(output, "seals 2 grants") || strings.Count(output, "is retired") != 1 {
		t.Errorf("with a grant that it seals: %s", output)
	}
	runKeys(t, p, "reseal")
	if output := runKeys(t, p, "retire"); !strings.Contains(output, "is retired") {
		t.Errorf("with nothing that it seals: %s", output)
	}
	if output := runKeys(t, p, "list"); strings.Count(output, "\n") != 1 || !strings.Contains(output, "(seals)") {
		t.Errorf("what is left: %s", output)
	}
	p.kill(t)
	p.again(t)
	for _, b := range []*person{alice, bob} {
		if a := b.do(t, "POST", "/api/renew-token", nil); a.status != 200 || a.json(t)["outcome"] != "rotated" {
			t.Errorf("afterwards: %d %s", a.status, a.body)
		}
	}
}

// What waits in the spool needs its key as much as what is stored.
func TestAKeyStaysThatSealsWhatWaitsInTheSpool(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	unlock := func() {}
	onceRotated(idp, func() { unlock = lockDatabase(t, p) })
	alice.do(t, "POST", "/api/renew-token", nil)
	eventually(t, "it waits", func() bool { return strings.Contains(p.log.String(), "renewal cannot be stored yet") })
	p.kill(t)
	unlock()
	runKeys(t, p, "rotate")
	runKeys(t, p, "reseal")
	ago(t, keysetOf(p), time.Minute)
	if output := runKeys(t, p, "retire"); !containsAll(output, "seals 0 grants, 1 renewals that wait in the spool", "No key is retired") {
		t.Errorf("with a renewal that waits: %s", output)
	}
	p.again(t)
	if g := alice.generation(t); g != 2 {
		t.Errorf("generation %v", g)
	}
	eventually(t, "the key to be retired", func() bool { return !strings.Contains(runKeys(t, p, "retire"), "No key is retired") })
}

// A mistyped data dir does not look like the right one: commands say what is missing there, and make nothing.
func TestCommandsMakeNothing(t *testing.T) {
	t.Parallel()
	_, keyset := atScripted(t, nil)
	for _, command := range []string{"keys list", "keys rotate", "keys reseal", "keys retire", "sessions list --all", "sessions end --all"} {
		p := &program{dir: filepath.Join(t.TempDir(), "nothing-there")}
		said := runExpectingFailure(t, p, strings.Fields(command)...)
		if !strings.Contains(said, "keyset file is missing: "+keysetOf(p)+"; is --data-dir (KEYTURN_DATA_DIR) right?") || strings.Count(said, "\n") != 1 {
			t.Errorf("%s with nothing: %s", command, said)
		}
		said = runExpectingFailure(t, p, append(strings.Fields(command), "--keyset-file", keysetOf(keyset))...)
		if !containsAll(said, filepath.Join(p.dir, "keyturn.db"), "no such file", "start the server first") || strings.Count(said, "\n") != 1 {
			t.Errorf("%s without a database: %s", command, said)
		}
		if _, err := os.Stat(p.dir); err == nil {
			t.Errorf("%s makes the data dir", command)
		}
	}
}

func TestAKeysetIsCreatedForADatabaseToCome(t *testing.T) {
	t.Parallel()
	p := &program{dir: filepath.Join(t.TempDir(), "new"), base: "http://localhost:0", log: &authtest.Buffer{}}
	if said := p.runs(t, "keys", "create"); !strings.HasPrefix(said, keysetOf(p)+" is new.") {
		t.Errorf("at first: %s", said)
	}
	kept, err := os.ReadFile(keysetOf(p))
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(p.dir); err != nil || len(entries) != 1 {
		t.Errorf("it made %v, %v", entries, err)
	}
	if said := p.fails(t, "keys", "create"); !strings.Contains(said, "exists") || strings.Count(said, "\n") != 1 {
		t.Errorf("a second time: %s", said)
	}
	p.again(t)
	p.person().signIn(t, "alice")
	if now, err := os.ReadFile(keysetOf(p)); err != nil || string(now) != string(kept) {
		t.Errorf("the server has another one: %v", err)
	}
	p.kill(t)
	if err := os.Remove(keysetOf(p)); err != nil {
		t.Fatal(err)
	}
	if said := p.fails(t, "keys", "create"); !strings.Contains(said, "the database holds grants") {
		t.Errorf("over old data: %s", said)
	}
}

// To migrate under the servers is the servers' own business, one after the other.
func TestCommandsDoNotMigrate(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	p.kill(t)
	path := filepath.Join(p.dir, "keyturn.db")
	for _, lack := range []string{`DELETE FROM goose_db_version WHERE version_id > 1`, `DROP TABLE goose_db_version`} {
		execute(t, path, lack)
		for _, command := range [][]string{{"keys", "reseal"}, {"sessions", "end", "--all"}} {
			if said := p.fails(t, command...); !containsAll(said, "lacks a migration", "start the server first") || strings.Count(said, "\n") != 1 {
				t.Errorf("%v: %s", command, said)
			}
		}
	}
}

// What need not be there is not made either: the spool and the embedded provider's secret are the server's.
func TestCommandsLeaveADataDirAsItIs(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	p.person().do(t, "GET", "/auth/oidc", nil)
	p.kill(t)
	if err := os.RemoveAll(filepath.Join(p.dir, "spool")); err != nil {
		t.Fatal(err)
	}
	ago(t, keysetOf(p), time.Hour)
	files := func() (names []string) {
		entries, err := os.ReadDir(p.dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		return names
	}
	p.runs(t, "keys", "list") // takes in the write-ahead log
	before := files()
	p.runs(t, "keys", "retire")
	without := *p
	without.args = nil
	if said := without.fails(t, "sessions", "end", "--all"); !strings.Contains(said, "revoked: oidc;") {
		t.Errorf("it said: %s", said)
	}
	if after := files(); !slices.Equal(after, before) {
		t.Errorf("before: %v, after: %v", before, after)
	}
}

func TestAKeysetThatCannotBeUsedStopsTheStart(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	p.person().do(t, "GET", "/auth/oidc", nil)
	_, other := atScripted(t, nil)
	p.kill(t)
	path := keysetOf(p)
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(content []byte, mode os.FileMode) {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, mode); err != nil {
			t.Fatal(err)
		}
	}
	foreign, err := os.ReadFile(keysetOf(other))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		arrange    func()
	}{
		{"missing", "keyset file is missing", func() { _ = os.Remove(path) }},
		{"another database's", "does not have key", func() { write(foreign, 0o600) }},
		{"world-readable", "open to others than its owner (mode 0644)", func() { write(kept, 0o644) }},
		{"no keyset", "no Tink keyset", func() { write([]byte("{}"), 0o600) }},
		{"cut off", "no Tink keyset", func() { write(kept[:len(kept)/2], 0o600) }},
		{"unreadable", "read keyset", func() { write(nil, 0o600); _ = os.Remove(path); _ = os.Mkdir(path, 0o700) }},
	} {
		c.arrange()
		output := runExpectingFailure(t, p)
		if !strings.Contains(output, c.want) || !strings.Contains(output, "KEYTURN_KEYSET_FILE") || strings.Count(output, "\n") != 1 {
			t.Errorf("%s: %s", c.name, output)
		}
		if c.name == "missing" {
			if _, err := os.Stat(path); err == nil {
				t.Error("a new keyset was made over old data")
			}
		}
	}
	write(kept, 0o600)
	p.again(t)
}

// A keyset that breaks or is exchanged under a running server costs nothing: what was open seals on, and readiness and the log tell.
func TestAKeysetThatBreaksUnderARunningServer(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	_, other := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	kept, err := os.ReadFile(keysetOf(p))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(keysetOf(other))
	if err != nil {
		t.Fatal(err)
	}
	generation := 1.0
	for _, content := range []string{"{", string(foreign)} {
		if err := os.WriteFile(keysetOf(p), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		generation++
		if a := alice.do(t, "POST", "/api/renew-token", nil); a.json(t)["outcome"] != "rotated" || a.json(t)["generation"] != generation {
			t.Errorf("%d %s", a.status, a.body)
		}
		if a := alice.do(t, "GET", "/readyz", nil); a.status != 503 || !slices.Equal(failingParts(t, a), []string{"keyset"}) {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	eventually(t, "a word in the log", func() bool { return strings.Contains(p.log.String(), "replaced by a keyset without key") })
	if strings.Contains(p.log.String(), "renewal cannot be stored") {
		t.Error("a renewal could not be stored")
	}
	p.kill(t)
	if err := os.WriteFile(keysetOf(p), kept, 0o600); err != nil {
		t.Fatal(err)
	}
	p.again(t)
	if g := alice.generation(t); g != generation {
		t.Errorf("generation %v, want %v", g, generation)
	}
}

// The README says how: a copy of the database, made while Keyturn runs, and the keyset.
func TestABackupBringsEverythingBack(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	alice, bob := p.person(), p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	bob.do(t, "GET", "/auth/oidc", nil)
	alice.do(t, "POST", "/api/renew-token", nil)
	restored := &program{dir: filepath.Join(t.TempDir(), "restored"), args: p.args, log: p.log}
	if err := os.MkdirAll(restored.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(restored.dir, "keyturn.db")
	execute(t, filepath.Join(p.dir, "keyturn.db"), `VACUUM INTO '`+copied+`'`)
	if err := os.Chmod(copied, 0o644); err != nil { // as a copy is that nobody thought about
		t.Fatal(err)
	}
	content, err := os.ReadFile(keysetOf(p))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keysetOf(restored), content, 0o600); err != nil {
		t.Fatal(err)
	}
	cookies := bob.Jar.Cookies(parsedURL(t, p.base))
	bob.do(t, "POST", "/auth/signout", nil)
	bob.Jar.SetCookies(parsedURL(t, p.base), cookies) // whoever has them is in again with the copy
	address := parsedURL(t, p.base).Host
	p.kill(t)
	launch(t, restored, address)
	if g := alice.generation(t); g != 2 {
		t.Errorf("generation %v", g)
	}
	if list := alice.do(t, "GET", "/api/rotations", nil); !strings.Contains(list.body, `"rotated"`) {
		t.Errorf("the history: %s", list.body)
	}
	if a := alice.do(t, "POST", "/api/renew-token", nil); a.json(t)["outcome"] != "rotated" {
		t.Errorf("a renewal: %s", a.body)
	}
	for _, name := range []string{copied, copied + "-wal", copied + "-shm"} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm()&0o007 != 0 {
			t.Errorf("%s is open to everybody: %v", name, err)
		}
	}
	if !bob.signedIn(t) {
		t.Error("a session that ended since the copy is not back: the README need not say how to end it")
	}
	if said := restored.runs(t, "sessions", "end", "--all"); said != "Sessions ended: 2.\n" || bob.signedIn(t) {
		t.Errorf("bob is signed in: %v; %s", bob.signedIn(t), said)
	}
}
