package main

import (
	"bufio"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"keyturn/auth/authtest"
	"keyturn/auth/provider/scripted"
)

// A log that nobody reads any more, as on Ctrl-C where tee(1) ends of the same signal, cuts no renewal.
func TestALogWithoutAReaderEndsNoRenewal(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	idp.Change(func() { idp.Class = scripted.FamilyRevoked })
	p := &program{dir: filepath.Join(t.TempDir(), "data"), log: &authtest.Buffer{}, args: []string{
		"KEYTURN_ISSUER=" + idp.URL, "KEYTURN_CLIENT_ID=" + scripted.ClientID, "KEYTURN_CLIENT_SECRET=" + scripted.ClientSecret,
	}}
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := p.command(t, path, "localhost:0")
	cmd.Stdout, cmd.Stderr = writer, writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	for lines := bufio.NewScanner(reader); p.base == "" && lines.Scan(); {
		if found := regexp.MustCompile(`open (http\S+)`).FindStringSubmatch(lines.Text()); found != nil {
			p.base = found[1]
		}
	}
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	presented := make(chan bool, 1)
	idp.Change(func() {
		idp.Token = func(http.ResponseWriter, *http.Request, func() map[string]any) bool {
			presented <- true
			time.Sleep(time.Second)
			return false
		}
	})
	go func() { _, _ = alice.try(t.Context(), "POST", "/api/renew-token", nil) }()
	<-presented
	reader.Close()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	idp.Change(func() { idp.Token = nil })
	p.again(t)
	if g := alice.generation(t); g != 2 {
		t.Errorf("generation %v", g)
	}
}
