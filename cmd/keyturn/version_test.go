package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

func TestVersionIsPrintedWhateverTheSettingsAre(t *testing.T) {
	t.Parallel()
	for _, arg := range []string{"version", "--version"} {
		var out bytes.Buffer
		_, _, done, err := parseSettings([]string{arg}, []string{"KEYTURN_LEEWAY=abc"}, &out)
		if err != nil || !done || !strings.HasPrefix(out.String(), "keyturn ") || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%s: got %q, done %t, error %v", arg, out.String(), done, err)
		}
	}
}

func TestAReleaseSaysWhatItWasBuiltFrom(t *testing.T) {
	t.Parallel()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	output, err := exec.Command(path, "version").Output()
	want := "keyturn v1.2.3 revision 0123abc " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH + "\n"
	if err != nil || string(output) != want {
		t.Errorf("%q, %v; want %q", output, err, want)
	}
	output, err = exec.Command(path, "version", "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var got release
	if err := json.Unmarshal(output, &got); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if got != (release{Version: "v1.2.3", Revision: "0123abc", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}) {
		t.Errorf("for programs: %+v", got)
	}
}

func TestMetricsSayWhatTheProgramWasBuiltFrom(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil, anyAdmin)
	want := `keyturn_build_info{go_version="` + runtime.Version() + `",revision="0123abc",version="v1.2.3"} 1`
	if got := scrape(t, p); !strings.Contains(got, want) {
		t.Errorf("%s is not among the metrics", want)
	}
}
