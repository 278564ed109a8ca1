package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
)

// Releases and images are built with -ldflags "-X main.version=… -X main.revision=…", because their sources come without
// the repository that the go command would ask. Elsewhere both are empty.
var version, revision string

// release says what this program was built from, as far as the build knows.
type release struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified"` // the work tree held more than the revision
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func thisRelease() release {
	r := release{Version: version, Revision: revision, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return r
	}
	if r.Version == "" {
		r.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && r.Revision == "":
			r.Revision = s.Value
		case s.Key == "vcs.modified":
			r.Modified = s.Value == "true"
		}
	}
	return r
}

// String is the release on one line.
func (r release) String() string {
	parts := []string{"keyturn"}
	if r.Version != "" {
		parts = append(parts, r.Version)
	}
	if r.Revision != "" {
		parts = append(parts, "revision", r.Revision)
	}
	if r.Modified {
		parts = append(parts, "(modified)")
	}
	return strings.Join(append(parts, r.Go, r.Platform), " ")
}

// writeVersion answers keyturn version.
func writeVersion(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(thisRelease())
	}
	_, err := fmt.Fprintln(w, thisRelease())
	return err
}
