package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keyturn/auth/session"
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
	for changed, want := range map[time.Duration]string{0: "try again in 11 min", 9 * time.Minute: "try again in 2 min"} {
		ago(t, keysetOf(p), changed)
		if output := runExpectingFailure(t, p, "keys", "retire"); !strings.Contains(output, want) {
			t.Errorf("after %v: %s", changed, output)
		}
	}
	if a := signIn.do(t, "GET", back, nil); a.url.Path != "/dashboard" {
		t.Errorf("a sign-in that began before ends at %s", a.url)
	}
	ago(t, keysetOf(p), session.PendingLifetime+time.Minute)
	alice.do(t, "POST", "/api/renew-token", nil)
	if output := runKeys(t, p, "retire"); !strings.Contains(output, "seals 1 grants") || !strings.Contains(output, "No key is retired") {
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

// A mistyped data dir does not look like a rotation.
func TestKeysSayThatTheKeysetIsNew(t *testing.T) {
	t.Parallel()
	p := &program{dir: filepath.Join(t.TempDir(), "nothing-there")}
	if output := runKeys(t, p, "rotate"); !strings.Contains(output, keysetOf(p)+" is new") {
		t.Errorf("at first: %s", output)
	}
	if output := runKeys(t, p, "list"); strings.Contains(output, "is new") || strings.Count(output, "\n") != 2 {
		t.Errorf("then: %s", output)
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
