// Package keyset keeps the Tink keyset that seals the vault in a file.
package keyset

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	tinkkeyset "github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"keyturn/auth/keyfile"
	"keyturn/auth/vault/filelock"
)

// ErrMissing says that there is no keyset file.
var ErrMissing = errors.New("keyset file is missing")

// File is a keyset file, opened. It notices when another process rotates it. It is safe for concurrent use.
type File struct {
	path    string
	inUse   atomic.Pointer[opened]
	reading chan struct{} // holds one while the file is looked at, and what follows belongs to whoever put it there
	trouble error         // why the file is not what is in use
}

// readWait is how long somebody else's look at the file is waited for. One that takes longer hangs with what the file is on, and nobody
// else with it.
const readWait = time.Second

// opened is a keyset as it was read.
type opened struct {
	info   fs.FileInfo
	handle *tinkkeyset.Handle
	aead   tink.AEAD
}

// Key describes one key of a keyset.
type Key struct {
	ID      uint32
	Primary bool
}

// Create writes a new keyset with one AES-256-GCM key, readable by the owner only. It never replaces a file.
func Create(path string) error {
	handle, err := tinkkeyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return fmt.Errorf("create keyset: %w", err)
	}
	content, err := written(handle)
	if err == nil {
		err = keyfile.Create(path, content)
	}
	if err != nil {
		return fmt.Errorf("create keyset: %w", err)
	}
	return nil
}

// Open reads a keyset file. The error is ErrMissing when there is none, and names the file and the reason when it is
// readable by others or is no keyset.
func Open(path string) (*File, error) {
	f := &File{path: path, reading: make(chan struct{}, 1)}
	if err := f.load(); err != nil {
		return nil, err
	}
	return f, nil
}

// AEAD implements vault.Keys. A file that has become unusable does not take the place of what was read before: a renewal under way
// has to be sealed with something. Without reload nothing is waited for.
func (f *File) AEAD(reload bool) tink.AEAD {
	if reload && f.turn() {
		f.reload()
		<-f.reading
	}
	return f.inUse.Load().aead
}

// turn waits until nobody else looks at the file, and says whether that has come. The caller ends its turn.
func (f *File) turn() bool {
	select {
	case f.reading <- struct{}{}:
		return true
	default:
	}
	patience := time.NewTimer(readWait)
	defer patience.Stop()
	select {
	case f.reading <- struct{}{}:
		return true
	case <-patience.C:
		return false
	}
}

// Check looks at the file, and says why it cannot be used if it has changed so since it was opened.
func (f *File) Check() error {
	if !f.turn() {
		return fmt.Errorf("%s cannot be looked at: that takes more than %v", f.path, readWait)
	}
	defer func() { <-f.reading }()
	f.reload()
	return f.trouble
}

// reload takes up what another process wrote; the turn is the caller's. A keyset that lacks the key which seals now is another vault's: rotating
// adds a key, and the old one is not retired while it is in use.
func (f *File) reload() {
	present := f.inUse.Load()
	info, err := os.Stat(f.path)
	if err == nil && sameFile(info, present.info) {
		f.trouble = nil
		return
	}
	next, err := read(f.path)
	if err == nil && !has(keysOf(next.handle), primaryOf(present.handle)) {
		err = fmt.Errorf("%s has been replaced by a keyset without key %d, which seals the grants", f.path, primaryOf(present.handle))
	}
	if f.trouble = err; err == nil {
		f.inUse.Store(next)
	}
}

// Rotate adds a new key and makes it the primary one; the old ones still open what they sealed.
func (f *File) Rotate() (Key, error) {
	var id uint32
	err := f.change(func(manager *tinkkeyset.Manager) (err error) {
		if id, err = manager.Add(aead.AES256GCMKeyTemplate()); err != nil {
			return err
		}
		return manager.SetPrimary(id)
	})
	if err != nil {
		return Key{}, fmt.Errorf("rotate keyset: %w", err)
	}
	return Key{ID: id, Primary: true}, nil
}

// Retire removes the keys that are not in use, and returns them; never the primary one. What they sealed does not open any more.
func (f *File) Retire(inUse func(id uint32) bool) (retired []Key, err error) {
	err = f.change(func(manager *tinkkeyset.Manager) error {
		for _, key := range f.Keys() {
			if key.Primary || inUse(key.ID) {
				continue
			}
			if err := manager.Delete(key.ID); err != nil {
				return err
			}
			retired = append(retired, key)
		}
		if len(retired) == 0 {
			return errUnchanged
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("retire keys: %w", err)
	}
	return retired, nil
}

// errUnchanged says that the file can stay as it is.
var errUnchanged = errors.New("unchanged")

// change replaces the file at once and whole, one process at a time.
func (f *File) change(change func(*tinkkeyset.Manager) error) error {
	f.reading <- struct{}{}
	defer func() { <-f.reading }()
	// The lock is on the folder, because the file itself is replaced: the one that a link leads to.
	path, err := filepath.EvalSymlinks(f.path)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	lock, err := filelock.Wait(dir)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Release() }()
	if err := f.load(); err != nil {
		return err
	}
	manager := tinkkeyset.NewManagerFromHandle(f.inUse.Load().handle)
	switch err := change(manager); {
	case errors.Is(err, errUnchanged):
		return nil
	case err != nil:
		return err
	}
	handle, err := manager.Handle()
	if err != nil {
		return err
	}
	content, err := written(handle)
	if err != nil {
		return err
	}
	temporary, err := keyfile.WriteTemporary(dir, ".keyfile-*", content)
	if err != nil {
		return err
	}
	// An operator who is root leaves the server what it can read.
	err = keepOwner(temporary, f.inUse.Load().info)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	if err := keyfile.SyncDir(dir); err != nil {
		return err
	}
	return f.load()
}

// ChangedAt is when the file was written that is in use.
func (f *File) ChangedAt() time.Time {
	return f.inUse.Load().info.ModTime()
}

// Keys lists the keys, none of their material.
func (f *File) Keys() []Key {
	return keysOf(f.inUse.Load().handle)
}

// Has says whether there is a key with the id.
func (f *File) Has(id uint32) bool {
	return has(f.Keys(), id)
}

func has(keys []Key, id uint32) bool {
	return slices.ContainsFunc(keys, func(key Key) bool { return key.ID == id })
}

func keysOf(handle *tinkkeyset.Handle) []Key {
	var keys []Key
	for _, key := range handle.KeysetInfo().GetKeyInfo() {
		keys = append(keys, Key{ID: key.GetKeyId(), Primary: key.GetKeyId() == primaryOf(handle)})
	}
	return keys
}

func primaryOf(handle *tinkkeyset.Handle) uint32 { return handle.KeysetInfo().GetPrimaryKeyId() }

// load reads the file; the turn is the caller's, or f not shared yet.
func (f *File) load() error {
	next, err := read(f.path)
	if err != nil {
		return err
	}
	f.inUse.Store(next)
	return nil
}

func read(path string) (*opened, error) {
	const allowed = "allowed: a keyset such as keyturn keys create makes"
	content, info, err := keyfile.ReadPrivate(path)
	var system *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %s", ErrMissing, path)
	case errors.As(err, &system):
		return nil, fmt.Errorf("read keyset: %w", err)
	case err != nil:
		return nil, fmt.Errorf("read keyset: %s %w", path, err)
	}
	handle, err := insecurecleartextkeyset.Read(tinkkeyset.NewJSONReader(bytes.NewReader(content)))
	if err != nil {
		return nil, fmt.Errorf("read keyset: %s holds no Tink keyset; %s", path, allowed)
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("read keyset: %s holds no AEAD keys; %s", path, allowed)
	}
	return &opened{info, handle, primitive}, nil
}

// written is a keyset as its file has it.
func written(handle *tinkkeyset.Handle) ([]byte, error) {
	var content bytes.Buffer
	err := insecurecleartextkeyset.Write(handle, tinkkeyset.NewJSONWriter(&content))
	return content.Bytes(), err
}

func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.Mode() == b.Mode() && a.ModTime().Equal(b.ModTime())
}
