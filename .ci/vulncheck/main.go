// Command vulncheck looks for known vulnerabilities that Keyturn's code reaches, with govulncheck. The vulnerability database is
// taken out of its Go module, so that the check is made wherever modules can be downloaded.
//
//	go run ./.ci/vulncheck GOVULNCHECK-VERSION
//
// It fails when something is found that accepted does not name, and when what that names is not found any more. What is wrong with the
// Go that runs here, and mended in the one that go.mod names, is no fault of Keyturn's.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	goversion "go/version"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// accepted are reports that name all of a module, for whose line there is no mended version, and what keeps Keyturn from having
// the fault that they tell of.
var accepted = map[string]string{
	"GO-2026-6872": "Echo's rate limiter believes X-Forwarded-For by default. Keyturn does not use it, and always sets IPExtractor, " +
		"which believes that header of --trusted-proxies only.",
	"GO-2026-6875": "Echo's reverse proxy passes the caller's X-Real-IP on. Keyturn does not use it.",
}

func main() {
	if len(os.Args) != 2 {
		fail(errors.New("usage: vulncheck GOVULNCHECK-VERSION"))
	}
	reports, err := download()
	if err != nil {
		fmt.Println("not checked, the vulnerability database cannot be downloaded from here:", err)
		return
	}
	dir, err := os.MkdirTemp("", "keyturn-vulnerabilities-")
	if err != nil {
		fail(err)
	}
	found, err := check(reports, dir, os.Args[1])
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		fail(err)
	}
	named, err := toolchain()
	if err != nil {
		fail(err)
	}
	clean := true
	for _, id := range slices.Sorted(maps.Keys(found)) {
		f := found[id]
		if why, ok := accepted[id]; ok {
			fmt.Printf("accepted: %s: %s\n", id, why)
		} else if f.mendedBy(named) {
			fmt.Printf("mended by the %s of go.mod: %s: %s\n", named, id, f)
		} else {
			clean = false
			fmt.Printf("FOUND: %s: %s\n       https://pkg.go.dev/vuln/%s\n", id, f, id)
		}
	}
	for id := range accepted {
		if _, ok := found[id]; !ok {
			clean = false
			fmt.Printf("NOT FOUND any more, so not to be accepted: %s\n", id)
		}
	}
	if !clean {
		os.Exit(1)
	}
	fmt.Println("no other known vulnerability is reached")
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "vulncheck:", err)
	os.Exit(1)
}

// toolchain is the Go that go.mod names.
func toolchain() (string, error) {
	output, err := exec.Command("go", "mod", "edit", "-json").Output()
	if err != nil {
		return "", fmt.Errorf("read go.mod: %w", err)
	}
	var mod struct{ Toolchain string }
	if err := json.Unmarshal(output, &mod); err != nil {
		return "", fmt.Errorf("read go.mod: %w", err)
	}
	return mod.Toolchain, nil
}

// finding is a vulnerability that the code reaches.
type finding struct {
	module, version, function string
	fixed                     string // the version that mends it; empty: none
}

func (f finding) String() string {
	return fmt.Sprintf("%s of %s@%s; fixed in: %s", f.function, f.module, f.version, cmp.Or(f.fixed, "nothing yet"))
}

// mendedBy says whether the fault is the standard library's, and mended in a Go such as "go1.26.11".
func (f finding) mendedBy(toolchain string) bool {
	return f.module == "stdlib" && f.fixed != "" && goversion.Compare("go"+strings.TrimPrefix(f.fixed, "v"), toolchain) <= 0
}

// check returns what Keyturn's code reaches, by identifier. The database is made in dir.
func check(reports, dir, version string) (map[string]finding, error) {
	if err := arrange(reports, dir); err != nil {
		return nil, fmt.Errorf("arrange the database: %w", err)
	}
	cmd := exec.Command("go", "run", "golang.org/x/vuln/cmd/govulncheck@"+version, //nolint:gosec // .ci/run says which
		"-format", "json", "-db", "file://"+filepath.ToSlash(dir), "./...")
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("govulncheck: %w", err)
	}
	return reached(bytes.NewReader(output))
}

// download returns the folder of the database's reports.
func download() (string, error) {
	output, err := exec.Command("go", "mod", "download", "-json", "golang.org/x/vulndb@latest").Output()
	var module struct{ Version, Dir, Error string }
	if jsonErr := json.Unmarshal(output, &module); jsonErr != nil {
		return "", errors.Join(err, jsonErr)
	}
	if module.Error != "" {
		return "", errors.New(module.Error)
	}
	fmt.Println("the vulnerability database is", module.Version)
	return filepath.Join(module.Dir, "data", "osv"), nil
}

// report is what an index needs of a report in the OSV format.
type report struct {
	ID        string `json:"id"`
	Modified  string `json:"modified"`
	Withdrawn string `json:"withdrawn"`
	Affected  []struct {
		Package struct {
			Name string `json:"name"`
		} `json:"package"`
	} `json:"affected"`
}

type (
	// indexedModule is an element of index/modules.json.
	indexedModule struct {
		Path  string          `json:"path"`
		Vulns []indexedReport `json:"vulns"`
	}
	indexedReport struct {
		ID       string `json:"id"`
		Modified string `json:"modified"`
	}
)

// arrange writes reports into dir as https://go.dev/doc/security/vuln/database tells a database's layout.
func arrange(reports, dir string) error {
	paths, err := filepath.Glob(filepath.Join(reports, "*.json"))
	if err != nil || len(paths) == 0 {
		return errors.Join(err, fmt.Errorf("no reports in %s", reports))
	}
	for _, folder := range []string{"ID", "index"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			return err
		}
	}
	modules := map[string]*indexedModule{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var r report
		if err := json.Unmarshal(text, &r); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if r.Withdrawn != "" {
			continue
		}
		for _, affected := range r.Affected {
			name := affected.Package.Name
			m := modules[name]
			if m == nil {
				m = &indexedModule{Path: name}
				modules[name] = m
			}
			entry := indexedReport{ID: r.ID, Modified: r.Modified}
			if !slices.Contains(m.Vulns, entry) {
				m.Vulns = append(m.Vulns, entry)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "ID", r.ID+".json"), text, 0o600); err != nil {
			return err
		}
	}
	return errors.Join(
		write(filepath.Join(dir, "index", "modules.json"), slices.Collect(maps.Values(modules))),
		write(filepath.Join(dir, "index", "db.json"), map[string]string{"modified": "0001-01-01T00:00:00Z"}),
	)
}

func write(path string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// reached reads govulncheck's messages and returns the findings whose code is called, or may be.
func reached(messages io.Reader) (map[string]finding, error) {
	found := map[string]finding{}
	decoder := json.NewDecoder(messages)
	for {
		var message struct {
			Finding *struct {
				OSV   string `json:"osv"`
				Fixed string `json:"fixed_version"`
				Trace []struct{ Module, Version, Package, Function string }
			} `json:"finding"`
		}
		err := decoder.Decode(&message)
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("govulncheck's output: %w", err)
		}
		if f := message.Finding; f != nil && len(f.Trace) > 0 && f.Trace[0].Function != "" {
			at := f.Trace[0]
			found[f.OSV] = finding{at.Module, at.Version, at.Package + "." + at.Function, f.Fixed}
		}
	}
}
