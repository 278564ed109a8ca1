package keyfile

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// nobody is the user and the group that the container image runs as.
const nobody = 65532

// asNobody calls f with the rights of a user who is not root.
func asNobody(t *testing.T, f func() error) error {
	t.Helper()
	done := make(chan error)
	go func() {
		// These calls change one thread only. It ends with the goroutine, because it is never unlocked.
		runtime.LockOSThread()
		_, _, group := syscall.RawSyscall(syscall.SYS_SETRESGID, nobody, nobody, nobody)
		_, _, user := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody)
		if group != 0 || user != 0 {
			done <- errors.Join(group, user)
			return
		}
		done <- f()
	}()
	return <-done
}

func TestAKeyIsItsOwnersUnlessRootHandsItOut(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can make files of several owners")
	}
	dir, err := os.MkdirTemp("", "keyfile-") // not t.TempDir, whose parents are closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what  string
		owner int
		mode  os.FileMode
		taken bool
	}{
		{"a secret that Kubernetes mounts for the pod's group", 0, 0o440, true},
		{"root's, and its group may read", 0, 0o640, true},
		{"root's, and its group may write", 0, 0o660, false},
		{"root's, and everybody may read", 0, 0o444, false},
		{"its own", nobody, 0o600, true},
		{"its own, and its group may read", nobody, 0o640, false},
		{"somebody else's, and the group may read", 1000, 0o640, false},
	} {
		path := filepath.Join(dir, strings.ReplaceAll(c.what, " ", "-"))
		err := errors.Join(os.WriteFile(path, []byte("key"), 0o600), os.Chown(path, c.owner, nobody), os.Chmod(path, c.mode))
		if err != nil {
			t.Fatal(err)
		}
		err = asNobody(t, func() error { _, _, err := ReadPrivate(path); return err })
		if c.taken != (err == nil) || err != nil && !strings.Contains(err.Error(), "is open to others") {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	path := filepath.Join(dir, "roots")
	if err := errors.Join(os.WriteFile(path, []byte("key"), 0o600), os.Chmod(path, 0o640)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ReadPrivate(path); err == nil {
		t.Error("root took a key that root's group may read")
	}
}
