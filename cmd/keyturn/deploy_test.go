package main

import (
	"debug/buildinfo"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shipped returns what is shipped and written for operators, by path from the root of the repository.
func shipped(t *testing.T) map[string]string {
	t.Helper()
	root := filepath.Join("..", "..")
	files := map[string]string{}
	read := func(path string) {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name, _ := filepath.Rel(root, path)
		files[filepath.ToSlash(name)] = string(content)
	}
	for _, name := range []string{"Dockerfile", "compose.yaml", "README.md", "SECURITY.md", "CONTRIBUTING.md"} {
		read(filepath.Join(root, name))
	}
	err := filepath.WalkDir(filepath.Join(root, "deploy"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			read(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestWhatIsShippedSetsOnlySettingsThatExist(t *testing.T) {
	t.Parallel()
	var s Settings
	var known []string
	for _, set := range s.list() {
		known = append(known, set.variables()...)
	}
	variable := regexp.MustCompile(`KEYTURN_[A-Z_]*[A-Z]`)
	files := shipped(t)
	for path, content := range files {
		for _, name := range variable.FindAllString(content, -1) {
			if !slices.Contains(known, name) && !strings.HasPrefix(name, "KEYTURN_TEST_") {
				t.Errorf("%s: %s is not a setting", path, name)
			}
		}
	}
	config := strings.ReplaceAll(files["deploy/kubernetes/keyturn.yaml"], "/etc/keyturn/secrets/work-client-secret", tempFile(t, "secret", "hush"))
	if s := mustParse(t, []string{"--config", tempFile(t, "keyturn.yaml", config)}, nil); len(s.Warnings) > 0 {
		t.Errorf("deploy/kubernetes/keyturn.yaml: %v", s.Warnings)
	}
}

// longestDrainDelay is the longest of the default and of those that the files set.
func longestDrainDelay(t *testing.T, files map[string]string) time.Duration {
	t.Helper()
	longest, set := mustParse(t, nil, nil).DrainDelay, 0
	for path, content := range files {
		for _, found := range regexp.MustCompile(`(?i)(?:drain_delay: |KEYTURN_DRAIN_DELAY=)(\S+)`).FindAllStringSubmatch(content, -1) {
			delay, err := time.ParseDuration(found[1])
			if err != nil {
				t.Errorf("%s: %v", path, err)
			}
			longest, set = max(longest, delay), set+1
		}
	}
	if set == 0 {
		t.Error("no file sets a drain_delay")
	}
	return longest
}

// Whoever runs Keyturn must not kill it before the longest drain is over, and the last spans are sent.
func TestWhatIsShippedWaitsForADrain(t *testing.T) {
	t.Parallel()
	files := shipped(t)
	longest := longestDrainDelay(t, files) + 2*mustParse(t, nil, nil).RenewTimeout + drainGrace + flushTimeout
	for path, key := range map[string]string{
		"compose.yaml":                       `stop_grace_period: (\d+)s`,
		"deploy/systemd/keyturn.service":     `TimeoutStopSec=(\d+)s`,
		"deploy/kubernetes/statefulset.yaml": `terminationGracePeriodSeconds: (\d+)`,
	} {
		found := regexp.MustCompile(key).FindStringSubmatch(files[path])
		if found == nil {
			t.Errorf("%s does not say how long it waits", path)
			continue
		}
		seconds, _ := strconv.Atoi(found[1])
		if wait := time.Duration(seconds) * time.Second; wait <= longest+5*time.Second { // Kubernetes counts preStop in
			t.Errorf("%s waits %s; a drain may take %s", path, wait, longest)
		}
	}
}

// Binary copies come with the notices of what is in them.
func TestWhatIsInsideComesWithItsLicences(t *testing.T) {
	t.Parallel()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	inside, err := buildinfo.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "licences")
	if output, err := exec.Command(filepath.Join("..", "..", "deploy", "licences.sh"), out).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	content, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	parts := []string{"go1", "htmx.org", "@picocss/pico", "simple-icons"}
	for _, module := range inside.Deps {
		parts = append(parts, module.Path+" "+module.Version+": ")
	}
	for _, part := range parts {
		if !strings.Contains(string(content), "\n==== "+part) && !strings.HasPrefix(string(content), "==== "+part) {
			t.Errorf("no licence of %s", part)
		}
	}
	if within := regexp.MustCompile(`(?m)^==== github\.com/go-jose/go-jose/v4 \S+, json: LICENSE$`); !within.Match(content) {
		t.Error("no licence of a folder that has one of its own")
	}
	if len(inside.Deps) < 50 {
		t.Errorf("only %d modules are inside", len(inside.Deps))
	}
	for _, path := range []string{"Dockerfile", ".goreleaser.yaml"} {
		if text, err := os.ReadFile(filepath.Join("..", "..", path)); err != nil || strings.Count(string(text), "THIRD_PARTY_LICENSES") != 2 {
			t.Errorf("%s does not pack them: %v", path, err)
		}
	}
}

// systemd tries for as long as it takes to start Keyturn and to bring it back, unless its settings are wrong. Go programs exit with 2
// when they crash, too, if nothing is said about it.
func TestTheServiceIsStartedAgainUnlessItsSettingsAreWrong(t *testing.T) {
	t.Parallel()
	unit := shipped(t)["deploy/systemd/keyturn.service"]
	for _, line := range []string{"StartLimitIntervalSec=0", "Restart=always", "RestartPreventExitStatus=2"} {
		if !strings.Contains(unit, "\n"+line+"\n") {
			t.Errorf("the unit lacks %s", line)
		}
	}
	var args []string
	for _, found := range regexp.MustCompile(`(?m)^Environment=(GO\S+)$`).FindAllStringSubmatch(unit, -1) {
		args = append(args, found[1])
	}
	_, p := atScripted(t, nil, args...)
	if err := p.cmd.Process.Signal(syscall.SIGQUIT); err != nil { // as a panic would
		t.Fatal(err)
	}
	_ = p.end(t)
	if code := p.cmd.ProcessState.ExitCode(); code == 2 {
		t.Error("a crash looks like wrong settings")
	}
	away := &program{dir: filepath.Join(t.TempDir(), "data"), base: p.base}
	away.fails(t, "serve", "--database", "postgres://keyturn@"+freeAddress(t)+"/keyturn")
	wrong := away.operates(t, "serve", "--max-age", "soon")
	_ = wrong.Run()
	if code := wrong.ProcessState.ExitCode(); code != 2 {
		t.Errorf("wrong settings: exit code %d", code)
	}
}
