package keyfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Create writes a new file that only its owner may read, whole or not at all. It never replaces one: of two processes that start at once,
// one writes and both read the same.
func Create(path string, content []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temporary, err := WriteTemporary(dir, ".keyfile-*", content)
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

// WriteTemporary writes a file in dir, under a name of the pattern (os.CreateTemp), and makes it durable, for it to take another's place. Only
// its owner may read it. Where that fails nothing of it stays: it may be keys, in the clear.
func WriteTemporary(dir, pattern string, content []byte) (path string, err error) {
	file, err := os.CreateTemp(dir, pattern) // CreateTemp makes it 0600
	if err != nil {
		return "", err
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return "", errors.Join(err, os.Remove(file.Name()))
	}
	return file.Name(), nil
}

// SyncDir makes what was put in a place, or renamed or removed there, outlast a loss of power: the vault is about to depend on it. Windows
// lets nobody ask for that, and its file systems keep a journal of such changes.
func SyncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
