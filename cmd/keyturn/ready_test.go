package main

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
)

func TestTheHealthCheckOfTheImageTellsTheTruth(t *testing.T) {
	t.Parallel()
	keyturn := startProgram(t)
	draining := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`{"status":"not ready","failing":["database","keyset"]}`))
		}
	}))
	t.Cleanup(draining.Close)
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	gone := httptest.NewServer(nil)
	gone.Close()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, base string
		code       int
		says       string
	}{
		{"ready", keyturn.base, 0, "ready\n"},
		{"not ready", draining.URL, 1, "/readyz is not ready: it answers 503 Service Unavailable: database, keyset\n"},
		{"not Keyturn", other.URL, 1, "/readyz is not ready: it answers 404 Not Found\n"},
		{"gone", gone.URL, 1, "/readyz does not answer: "},
	} {
		cmd := exec.Command(path, "ready")
		cmd.Env = []string{"KEYTURN_ADDR=" + strings.TrimPrefix(c.base, "http://")}
		output, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != c.code || !strings.Contains(string(output), c.says) {
			t.Errorf("%s: exit code %d: %s", c.what, cmd.ProcessState.ExitCode(), output)
		}
	}
}
