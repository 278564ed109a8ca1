package keyfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Create writes a new file that only its owner may read, whole or not at all. It never replaces one: of two processes that start at once,
// one writes and both read the same.
func Create(path string, content []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temporary, err := WriteTemporary(path, content)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temporary) }()
	// Unlike a renaming, a link fails when the file exists.
	if err := os.Link(temporary, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncDir(dir)
}

// WriteTemporary writes a file beside path, and makes it durable, for it to take path's place. Where that fails nothing of it stays: the
// keys are in the clear.
func WriteTemporary(path string, content []byte) (string, error) {
	file, err := os.CreateTemp(filepath.Dir(path), ".keyfile-*") // CreateTemp makes it 0600
	if err != nil {
		return "", err
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return "", errors.Join(err, os.Remove(file.Name()))
	}
	return file.Name(), nil
}

// SyncDir makes what was put in a place outlast a loss of power: the vault is about to depend on it.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
