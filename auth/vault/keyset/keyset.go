// Package keyset keeps the Tink keyset that seals the vault in a file.
package keyset

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

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
	path string

	mu     sync.Mutex
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
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("create keyset: %w", err)
	}
	temporary, err := writeTemporary(path, handle)
	if err != nil {
		return fmt.Errorf("create keyset: %w", err)
	}
	defer func() { _ = os.Remove(temporary) }()
	// A link fails when the file exists: of two processes that start at once, one writes and both read the same.
	if err := os.Link(temporary, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create keyset: %w", err)
	}
	return nil
}

// Open reads a keyset file. The error is ErrMissing when there is none, and names the file and the reason when it is
// readable by others or is no keyset.
func Open(path string) (*File, error) {
	f := &File{path: path}
	if err := f.load(); err != nil {
		return nil, err
	}
	return f, nil
}

// AEAD implements vault.Keys.
func (f *File) AEAD(reload bool) (tink.AEAD, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if reload {
		if info, err := os.Stat(f.path); err == nil && !sameFile(info, f.info) {
			if err := f.load(); err != nil {
				return nil, err
			}
		}
	}
	return f.aead, nil
}

// Rotate adds a new key and makes it the primary one; the old ones still open what they sealed. The file is replaced
// at once and whole.
func (f *File) Rotate() (Key, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	// The lock is on the folder, because the file itself is replaced.
	lock, err := filelock.Wait(filepath.Dir(f.path))
	if err != nil {
		return Key{}, fmt.Errorf("rotate keyset: %w", err)
	}
	defer func() { _ = lock.Release() }()
	if err := f.load(); err != nil {
		return Key{}, err
	}
	manager := tinkkeyset.NewManagerFromHandle(f.handle)
	id, err := manager.Add(aead.AES256GCMKeyTemplate())
	if err == nil {
		err = manager.SetPrimary(id)
	}
	if err != nil {
		return Key{}, fmt.Errorf("rotate keyset: %w", err)
	}
	handle, err := manager.Handle()
	if err != nil {
		return Key{}, fmt.Errorf("rotate keyset: %w", err)
	}
	temporary, err := writeTemporary(f.path, handle)
	if err != nil {
		return Key{}, fmt.Errorf("rotate keyset: %w", err)
	}
	if err := os.Rename(temporary, f.path); err != nil {
		return Key{}, fmt.Errorf("rotate keyset: %w", err)
	}
	return Key{ID: id, Primary: true}, f.load()
}

// Keys lists the keys, none of their material.
func (f *File) Keys() []Key {
	f.mu.Lock()
	defer f.mu.Unlock()
	info := f.handle.KeysetInfo()
	var keys []Key
	for _, key := range info.GetKeyInfo() {
		keys = append(keys, Key{
			ID: key.GetKeyId(), Primary: key.GetKeyId() == info.GetPrimaryKeyId(),
		})
	}
	return keys
}

// load reads the file; f.mu is held or f not shared yet.
func (f *File) load() error {
	content, info, err := keyfile.ReadPrivate(f.path)
	var system *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s", ErrMissing, f.path)
	case errors.As(err, &system):
		return fmt.Errorf("read keyset: %w", err)
	case err != nil:
		return fmt.Errorf("read keyset: %s %w", f.path, err)
	}
	handle, err := insecurecleartextkeyset.Read(tinkkeyset.NewJSONReader(bytes.NewReader(content)))
	if err != nil {
		return fmt.Errorf("read keyset: %s holds no Tink keyset", f.path)
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return fmt.Errorf("read keyset: %s holds no AEAD keys", f.path)
	}
	f.info, f.handle, f.aead = info, handle, primitive
	return nil
}

// writeTemporary writes a keyset beside path and makes it durable.
func writeTemporary(path string, handle *tinkkeyset.Handle) (string, error) {
	var content bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, tinkkeyset.NewJSONWriter(&content)); err != nil {
		return "", err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".keyset-*") // CreateTemp makes it 0600
	if err != nil {
		return "", err
	}
	_, err = file.Write(content.Bytes())
	err = errors.Join(err, file.Sync(), file.Close())
	return file.Name(), err
}

func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
