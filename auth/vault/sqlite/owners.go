package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"keyturn/auth/vault/filelock"
)

// owners knows which owners of leases are alive. Each owner of this process holds the lock of a file beside the
// database for as long as the process lives, however it ends; a file whose lock is free names a dead owner. Where there
// are no such locks, a lease is free only when it has run out.
type owners struct {
	prefix string // of the files' paths

	mu   sync.Mutex
	held map[string]*filelock.Lock
}

// claim makes owner one of this process's.
func (o *owners) claim(owner string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.held[owner] != nil || !filelock.Supported {
		return nil
	}
	// Locked before it has its name, so that nobody takes it for a dead one's.
	temporary, err := os.CreateTemp(filepath.Dir(o.prefix), ".owner-*")
	if err != nil {
		return fmt.Errorf("claim lease owner: %w", err)
	}
	_ = temporary.Close()
	lock, err := filelock.Try(temporary.Name())
	if err == nil {
		err = os.Rename(temporary.Name(), o.prefix+owner)
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
func (o *owners) dead() (map[string]*filelock.Lock, error) {
	names, err := os.ReadDir(filepath.Dir(o.prefix))
	if err != nil {
		return nil, fmt.Errorf("look for dead lease owners: %w", err)
	}
	dead := map[string]*filelock.Lock{}
	for _, entry := range names {
		owner, ok := strings.CutPrefix(entry.Name(), filepath.Base(o.prefix))
		if !ok {
			continue
		}
		if lock, err := filelock.Try(o.prefix + owner); err == nil {
			dead[owner] = lock
		} else if !errors.Is(err, filelock.ErrHeld) && !errors.Is(err, fs.ErrNotExist) {
			return dead, fmt.Errorf("look for dead lease owners: %w", err)
		}
	}
	return dead, nil
}

// release makes the owners of this process dead ones.
func (o *owners) release() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs []error
	for owner, lock := range o.held {
		errs = append(errs, lock.Release())
		delete(o.held, owner)
	}
	return errors.Join(errs...)
}

// freeLeases ends the leases of owners that have died, so that what they had begun is taken up at once.
func (db *DB) freeLeases(ctx context.Context) error {
	dead, err := db.owners.dead()
	for owner, lock := range dead {
		free := db.inTx(ctx, func(tx *writer) error {
			_, err := tx.Exec(`UPDATE grants SET lease_owner = '', lease_until = 0 WHERE lease_owner = ?`, owner)
			return err
		})
		if free == nil {
			free = os.Remove(db.owners.prefix + owner)
		}
		if errors.Is(free, fs.ErrNotExist) { // another process was quicker
			free = nil
		}
		err = errors.Join(err, free, lock.Release())
	}
	return err
}
