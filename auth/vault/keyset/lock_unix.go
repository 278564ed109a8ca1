//go:build unix

package keyset

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// lock keeps two rotations of one keyset apart. The lock is on the folder, because the file itself is replaced.
func lock(path string) (unlock func(), err error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return func() { _ = dir.Close() }, nil
}
