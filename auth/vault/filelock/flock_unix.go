//go:build unix

package filelock

import (
	"errors"
	"os"
	"syscall"
)

// Supported says whether this system has such locks.
const Supported = true

func lock(file *os.File, wait bool) error {
	how := syscall.LOCK_EX
	if !wait {
		how |= syscall.LOCK_NB
	}
	err := syscall.Flock(int(file.Fd()), how)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrHeld
	}
	return err
}
