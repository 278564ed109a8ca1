package main

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

func TestTheHealthCheckOfTheImageTellsTheTruth(t *testing.T) {
	t.Parallel()
	keyturn := startProgram(t)
	away := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" && len(r.URL.Query()["exclude"]) < 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`{"status":"not ready","failing":["database","migrations"]}`))
		}
	}))
	t.Cleanup(away.Close)
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	gone := httptest.NewServer(nil)
	gone.Close()
	inImage := regexp.MustCompile(`HEALTHCHECK .* CMD \["/keyturn", "ready", "(.*)"]`).FindStringSubmatch(shipped(t)["Dockerfile"])
	if inImage == nil {
		t.Fatal("the image's health check is another one")
	}
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, base string
		args       []string
		code       int
		says       string
	}{
		{"ready", keyturn.base, nil, 0, "ready\n"},
		{"ready, as the image asks", keyturn.base, inImage[1:], 0, "ready\n"},
		{"not ready", away.URL, nil, 1, "/readyz is not ready: it answers 503 Service Unavailable: database, migrations\n"},
		{"no worse than another replica", away.URL, inImage[1:], 0, "ready\n"},
		{"in two words", away.URL, []string{"--exclude=migrations", "--exclude", "database"}, 0, "ready\n"},
		{"no such part", away.URL, []string{"--exclude=databse"}, 2, `must be one of "database","migrations","keyset","spool"`},
		{"not Keyturn", other.URL, nil, 1, "/readyz is not ready: it answers 404 Not Found\n"},
		{"gone", gone.URL, nil, 1, "/readyz does not answer: "},
	} {
		cmd := exec.Command(path, append([]string{"ready"}, c.args...)...)
		cmd.Env = []string{"KEYTURN_ADDR=" + strings.TrimPrefix(c.base, "http://"), "KEYTURN_BASE_URL=http://keyturn.example.com"}
		output, _ := cmd.CombinedOutput()
		if strings.Contains(string(output), "level=WARN") {
			t.Errorf("%s: what the server has said at its start is said again: %s", c.what, output)
		}
		if cmd.ProcessState.ExitCode() != c.code || !strings.Contains(string(output), c.says) {
			t.Errorf("%s: exit code %d: %s", c.what, cmd.ProcessState.ExitCode(), output)
		}
	}
}
