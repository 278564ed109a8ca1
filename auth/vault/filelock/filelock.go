// Package filelock locks files between processes. The operating system gives a lock up when its process dies.
package filelock

import (
	"errors"
	"os"
)

// ErrHeld says that somebody else holds the lock.
var ErrHeld = errors.New("the file is locked")

// Lock is a held lock.
type Lock struct{ file *os.File }

// Try locks the file or folder at path, which must exist, without waiting; ErrHeld when another open file holds it, of
// this process or of another.
func Try(path string) (*Lock, error) { return open(path, false) }

// Wait locks the file or folder at path, which must exist.
func Wait(path string) (*Lock, error) { return open(path, true) }

func open(path string, wait bool) (*Lock, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := lock(file, wait); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &Lock{file}, nil
}

// Release gives the lock up.
func (l *Lock) Release() error { return l.file.Close() }
