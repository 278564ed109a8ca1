// Package owners tells which owners of leases have died, by files that a process locks for as long as it lives.
package owners

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"keyturn/auth/vault/filelock"
)

// Owners knows which owners of leases are alive. Each owner of this process holds the lock of a file for as long as the process lives,
// however it ends; a file whose lock is free names a dead owner. Where there are no such locks, a lease is free only when it has run
// out. It is safe for concurrent use.
type Owners struct {
	prefix string // of the files' paths; empty: nobody is known of

	mu   sync.Mutex
	held map[string]*filelock.Lock
	over bool // this process has no more owners
}

// New returns the owners whose files have paths that begin with prefix; with an empty one nobody's life is told of. Who died is known to
// those who look in the same folder.
func New(prefix string) *Owners { return &Owners{prefix: prefix} }

// Claim makes owner one of this process's. After Release it fails.
func (o *Owners) Claim(owner string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.held[owner] != nil || o.prefix == "" || !filelock.Supported {
		return nil
	}
	if o.over {
		return errors.New("claim lease owner: the vault is closed")
	}
	// Locked before it has its name, so that nobody takes it for a dead one's.
	temporary, err := os.CreateTemp(filepath.Dir(o.prefix), ".owner-*")
	if err != nil {
		return fmt.Errorf("claim lease owner: %w", err)
	}
	_, _ = temporary.WriteString(filelock.Identity(temporary.Name())) // on a full disk it will pass for a copy
	_ = temporary.Close()
	lock, err := filelock.Try(temporary.Name())
	if err == nil {
		if err = os.Rename(temporary.Name(), o.prefix+owner); err != nil {
			err = errors.Join(err, lock.Release())
		}
	}
	if err != nil {
		return fmt.Errorf("claim lease owner: %w", errors.Join(err, os.Remove(temporary.Name())))
	}
	if o.held == nil {
		o.held = map[string]*filelock.Lock{}
	}
	o.held[owner] = lock
	return nil
}

// dead lists owners that have died, each with the lock of its file, which the caller releases.
func (o *Owners) dead() (map[string]*filelock.Lock, error) {
	if o.prefix == "" {
		return nil, nil
	}
	names, err := os.ReadDir(filepath.Dir(o.prefix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for dead lease owners: %w", err)
	}
	dead := map[string]*filelock.Lock{}
	for _, entry := range names {
		owner, ok := strings.CutPrefix(entry.Name(), filepath.Base(o.prefix))
		if !ok {
			continue
		}
		if lock, err := filelock.Try(o.prefix + owner); err == nil && o.copied(owner) {
			_ = os.Remove(o.prefix + owner)
			_ = lock.Release()
		} else if err == nil {
			dead[owner] = lock
		} else if !errors.Is(err, filelock.ErrHeld) && !errors.Is(err, fs.ErrNotExist) {
			return dead, fmt.Errorf("look for dead lease owners: %w", err)
		}
	}
	return dead, nil
}

// copied says that the owner's file is a copy, as of a whole folder: whoever it names may live on with the first one.
func (o *Owners) copied(owner string) bool {
	identity, err := os.ReadFile(o.prefix + owner)
	return err == nil && string(identity) != filelock.Identity(o.prefix+owner)
}

// Release makes the owners of this process dead ones.
func (o *Owners) Release() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over = true
	var errs []error
	for owner, lock := range o.held {
		errs = append(errs, lock.Release())
		delete(o.held, owner)
	}
	return errors.Join(errs...)
}

// Bury calls free with each owner that has died, and forgets those for whom it succeeds: they hold no lease any more.
func (o *Owners) Bury(free func(owner string) error) error {
	dead, err := o.dead()
	for owner, lock := range dead {
		freed := free(owner)
		if freed == nil {
			freed = os.Remove(o.prefix + owner)
		}
		if errors.Is(freed, fs.ErrNotExist) { // another process was quicker
			freed = nil
		}
		err = errors.Join(err, freed, lock.Release())
	}
	return err
}
