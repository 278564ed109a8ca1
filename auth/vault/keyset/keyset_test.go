package keyset

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestKeysetFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "deep", "keyset.json")
	if _, err := Open(path); !errors.Is(err, ErrMissing) {
		t.Fatalf("%v, want ErrMissing", err)
	}
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	first, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	if again, err := Open(path); err != nil || again.Keys()[0] != first.Keys()[0] {
		t.Errorf("a second Create replaced the keyset: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path+" is open to others") {
		t.Errorf("readable by its group: %v", err)
	}
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("{}"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "no Tink keyset") {
		t.Errorf("no keyset: %v", err)
	}
}

func TestRotationsAtOnceAllCount(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keyset.json")
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			f, err := Open(path)
			if err == nil {
				_, err = f.Rotate()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	f, err := Open(path)
	if err != nil || len(f.Keys()) != 9 {
		t.Fatalf("%d keys, %v; want 9", len(f.Keys()), err)
	}
	primaries := 0
	for _, key := range f.Keys() {
		if key.Primary {
			primaries++
		}
	}
	if primaries != 1 {
		t.Errorf("%d primary keys", primaries)
	}
}
