package sqlite

import (
	"bytes"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// What is looked into may be another program's, or of a process that crashed.
func TestLookingForGrantsLeavesTheFileAsItWas(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"delete", "wal"} {
		dir, crashed := t.TempDir(), t.TempDir()
		made, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "db")+"?_pragma=journal_mode("+mode+")")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := made.Exec(`CREATE TABLE grants (id TEXT); INSERT INTO grants VALUES ('g')`); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if err := made.Close(); err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(filepath.Join(dir, "db"))
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{dir, crashed} {
			if holds, err := HoldsGrants(t.Context(), filepath.Join(dir, "db")); !holds || err != nil {
				t.Errorf("%s: holds grants: %v, %v", mode, holds, err)
			}
			after, err := os.ReadFile(filepath.Join(dir, "db"))
			files, listed := os.ReadDir(dir)
			if !bytes.Equal(after, before) || len(files) != 1 || errors.Join(err, listed) != nil {
				t.Errorf("%s: it is another file, or %d files, %v, %v", mode, len(files), err, listed)
			}
		}
	}
}
