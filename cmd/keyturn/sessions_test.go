package main

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"keyturn/auth/provider/scripted"
)

// operates is a command with the program's settings.
func (p *program) operates(t testing.TB, words ...string) *exec.Cmd {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return p.command(t, path, "localhost:"+parsedURL(t, p.base).Port(), words...)
}

// runs runs a command with the program's settings and returns what it says.
func (p *program) runs(t testing.TB, words ...string) string {
	t.Helper()
	said, err := p.operates(t, words...).Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", words, err, said)
	}
	return string(said)
}

// fails runs a command with the program's settings, which cannot do what it is asked for, and returns what it says.
func (p *program) fails(t testing.TB, words ...string) string {
	t.Helper()
	cmd := p.operates(t, words...)
	said, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("%v: %v\n%s", words, err, said)
	}
	return string(said)
}

func TestAnOperatorEndsSessions(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	phone, laptop, bob := p.person(), p.person(), p.person()
	phone.do(t, "GET", "/auth/oidc", nil, "User-Agent", "Phone \u202e")
	laptop.do(t, "GET", "/auth/oidc", nil)
	idp.Change(func() { idp.Subject = "bob" })
	bob.do(t, "GET", "/auth/oidc", nil)
	signedIn := func() [3]bool { return [3]bool{phone.signedIn(t), laptop.signedIn(t), bob.signedIn(t)} }
	everybodys := p.runs(t, "sessions", "list", "--all")
	if strings.Count(everybodys, "\n") != 4 || !strings.Contains(everybodys, "bob") || strings.Contains(everybodys, "\u202e") {
		t.Errorf("everybody's: %q", everybodys)
	}
	if said := p.runs(t, "sessions", "list", "oidc", "alice"); strings.Count(said, "alice") != 2 || strings.Contains(said, "bob") {
		t.Errorf("alice's: %s", said)
	}
	for _, token := range idp.Issued() {
		if strings.Contains(everybodys, token) {
			t.Error("a token is listed")
		}
	}
	stream := laptop.listen(t)
	if said := p.runs(t, "sessions", "end", "oidc", "alice"); said != "Sessions ended: 2.\n" {
		t.Errorf("ending alice's: %s", said)
	}
	if got := signedIn(); got != [3]bool{false, false, true} {
		t.Errorf("after alice's end: %v", got)
	}
	stream.ends(t)
	if n := len(idp.Revoked()); n != 2 { // by the command, which waits for that
		t.Errorf("%d refresh tokens are revoked", n)
	}
	phone.do(t, "GET", "/auth/oidc", nil)
	if said := p.runs(t, "sessions", "end", "--all"); said != "Sessions ended: 2.\n" || signedIn() != [3]bool{} || len(idp.Revoked()) != 4 {
		t.Errorf("ending everybody's: %s: %v, %d revoked", said, signedIn(), len(idp.Revoked()))
	}
	if said := p.runs(t, "sessions", "end", "oidc", "alice"); said != "Sessions ended: 0.\n" {
		t.Errorf("ending nothing: %s", said)
	}
}

// The list is whole, and has nobody who is not signed in any more, although what has ended is kept until the next upkeep.
func TestSessionsAreListedThatLive(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	p.kill(t)
	const numbers = `WITH RECURSIVE numbers (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM numbers WHERE value < 1300) `
	const columns = `session_hash, provider, subject, sealed, generation, state, due_at, issued_at, created_at, seen_at, user_agent, ip`
	path := filepath.Join(p.dir, "keyturn.db")
	execute(t, path, numbers+`INSERT INTO grants (id, `+columns+`) SELECT id || value, `+columns+` FROM grants, numbers`)
	execute(t, path, numbers+`INSERT INTO sessions SELECT token_hash || value, data, iif(value > 1250, created_at, expires_at), created_at, seen_at,
		grant_id || value, provider, subject FROM sessions, numbers`)
	for _, whose := range [][]string{{"--all"}, {"oidc", "alice"}} {
		if n := strings.Count(p.runs(t, append([]string{"sessions", "list"}, whose...)...), "alice"); n != 1251 {
			t.Errorf("%v: %d are listed, want 1251", whose, n)
		}
	}
	execute(t, path, `UPDATE sessions SET seen_at = seen_at + 5000000 WHERE token_hash LIKE '%1'`)
	p.again(t)
	page := alice.do(t, "GET", "/dashboard/sessions", nil).body
	if n := strings.Count(page, "<li>"); n != 200 || strings.Count(page, "this session") != 1 || !strings.Contains(page, "These are the 200") {
		t.Errorf("%d of 1251 are on the page, with a hint: %v", n, strings.Contains(page, "These are the 200"))
	}
}

// A provider that has left the settings is one whose tokens nobody would revoke: the operator hears of it before anything ends.
func TestEndingSessionsOfAProviderThatIsNotSet(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	without := *p
	without.args = []string{"KEYTURN_DEV_PROVIDER=on"}
	for _, whose := range [][]string{{"--all"}, {"oidc", "alice"}} {
		said := without.fails(t, append([]string{"sessions", "end"}, whose...)...)
		if !strings.Contains(said, "nothing is ended") || !strings.Contains(said, "revoked: oidc; give the server's settings") || !alice.signedIn(t) {
			t.Errorf("%v: signed in: %v; %s", whose, alice.signedIn(t), said)
		}
	}
	if said := without.runs(t, "sessions", "end", "--all", "--without-revoking"); said != "Sessions ended: 1.\n" || alice.signedIn(t) {
		t.Errorf("signed in: %v; %s", alice.signedIn(t), said)
	}
	if n := len(idp.Revoked()); n != 0 {
		t.Errorf("%d tokens are revoked", n)
	}
}

func TestEndingSessionsWaitsForRevocationsAndSaysWhichFailed(t *testing.T) {
	t.Parallel()
	var asked, status atomic.Int32
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Revocation = func(w http.ResponseWriter) bool {
			if asked.Add(1) > 2 && status.Load() == http.StatusServiceUnavailable {
				return false
			}
			w.WriteHeader(int(status.Load()))
			return true
		}
	})
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	status.Store(http.StatusServiceUnavailable)
	if said := p.runs(t, "sessions", "end", "--all"); said != "Sessions ended: 1.\n" || len(idp.Revoked()) != 1 {
		t.Errorf("a provider that is away for a moment: %d revoked; %s", len(idp.Revoked()), said)
	}
	alice.do(t, "GET", "/auth/oidc", nil)
	status.Store(http.StatusBadRequest)
	said := p.fails(t, "sessions", "end", "oidc", "alice")
	for _, want := range []string{"Sessions ended: 1.\n", "Not revoked: 1; 1 of provider oidc: revocation_refused: status 400.\n", "are still good"} {
		if !strings.Contains(said, want) {
			t.Errorf("a provider that refuses: not %q in %s", want, said)
		}
	}
	if alice.signedIn(t) {
		t.Error("still signed in")
	}
}

func TestAnOperatorEndsSessionsOfAllReplicas(t *testing.T) {
	t.Parallel()
	takeTurn(t)
	idp := scripted.New(t)
	r := startReplicas(t, idp, "")
	people := r.people(t, 3)
	if said := r.programs[0].runs(t, "sessions", "end", "--all"); said != "Sessions ended: 3.\n" {
		t.Errorf("it said: %s", said)
	}
	for _, b := range people {
		for _, p := range r.programs {
			if b.at(p).signedIn(t) {
				t.Errorf("still signed in at %s", p.base)
			}
		}
	}
}

func TestAnOperatorEndsSessionsOfTheEmbeddedProvider(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	alice := p.person()
	alice.signIn(t, "alice")
	posted := func() int { return strings.Count(p.log.String(), "method=POST route=/dev-provider/* status=200") }
	eventually(t, "the log has the sign-in's", func() bool { return posted() == 1 })
	if said := p.runs(t, "sessions", "end", "dev", "alice"); said != "Sessions ended: 1.\n" || alice.signedIn(t) {
		t.Errorf("%s, signed in: %v", said, alice.signedIn(t))
	}
	eventually(t, "it revokes at the embedded provider", func() bool { return posted() == 2 })
}
