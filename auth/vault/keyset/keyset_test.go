package keyset

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"keyturn/auth/authtest"
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
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path+" holds no Tink keyset; allowed: ") {
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

// What has become unusable does not take the place of what is in use, whatever the reason.
func TestAFileThatBecomesUnusableIsNotTakenUp(t *testing.T) {
	t.Parallel()
	path, other := filepath.Join(t.TempDir(), "keyset.json"), filepath.Join(t.TempDir(), "keyset.json")
	if err := errors.Join(Create(path), Create(other)); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	sealed := func() []byte {
		t.Helper()
		text, err := f.AEAD(true).Encrypt([]byte("x"), nil)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for want, change := range map[string]func() error{
		"no Tink keyset":           func() error { return os.WriteFile(path, []byte("{"), 0o600) },
		"keyset without key":       func() error { return os.WriteFile(path, foreign, 0o600) },
		"file is missing":          func() error { return os.Remove(path) },
		"open to others than its ": func() error { return os.Chmod(path, 0o644) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		text := sealed()
		if err := f.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if err := errors.Join(os.WriteFile(path, kept, 0o600), os.Chmod(path, 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := f.Check(); err != nil {
			t.Errorf("after %q was mended: %v", want, err)
		}
		again, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := again.AEAD(false).Decrypt(text, nil); err != nil {
			t.Errorf("what was sealed after %q does not open: %v", want, err)
		}
	}
}

// What hangs with the disk that the file is on is one look at the file: everything else goes on with the keys that there are.
func TestALookThatHangsHoldsUpNobody(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keyset.json")
	if err := Create(path); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		f.reading <- struct{}{}
		began := time.Now()
		sealed, err := f.AEAD(true).Encrypt([]byte("x"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != readWait {
			t.Errorf("sealed after %v", took)
		}
		if _, err := f.AEAD(false).Decrypt(sealed, nil); err != nil || time.Since(began) != readWait {
			t.Errorf("opened after %v, %v", time.Since(began), err)
		}
		if err := f.Check(); err == nil || !strings.Contains(err.Error(), path) || len(f.Keys()) != 1 {
			t.Errorf("%d keys, %v", len(f.Keys()), err)
		}
		<-f.reading
		if err := f.Check(); err != nil {
			t.Errorf("once it is over: %v", err)
		}
	})
}

// Whoever rotates, the server can read the file afterwards, at the place that its path leads to.
func TestRotatingKeepsOwnerModeAndLink(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keyset.json")
	link := filepath.Join(t.TempDir(), "link.json")
	if err := errors.Join(Create(path), os.Chmod(path, 0o400), os.Symlink(path, link)); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	server, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	operator, err := Open(link)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := operator.Rotate(); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is now %v, %v", info, err)
	}
	if owner(before) != owner(after) || before.Mode() != after.Mode() {
		t.Errorf("%s, %v before, %s, %v after", owner(before), before.Mode(), owner(after), after.Mode())
	}
	if err := server.Check(); err != nil || len(server.Keys()) != 2 {
		t.Errorf("the server has %d keys, %v", len(server.Keys()), err)
	}
}

func owner(info os.FileInfo) string {
	owner := reflect.Indirect(reflect.ValueOf(info.Sys()))
	return fmt.Sprint(owner.FieldByName("Uid"), ":", owner.FieldByName("Gid"))
}

func TestAKeysetThatCannotBeWrittenLeavesNoKeysBehind(t *testing.T) {
	t.Parallel()
	dir := authtest.SmallDisk(t, "64k")
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	if err := Create(filepath.Join(dir, "keyset.json")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a keyset on a full disk: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".keyfile-*")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
