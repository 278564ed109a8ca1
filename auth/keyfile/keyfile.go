// Package keyfile reads and writes the files that hold keys and secrets.
package keyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"syscall"
)

// maxSize bounds what is read, in bytes, should a path name the wrong file.
const maxSize = 64 << 10

// byteOrderMark is what some editors begin a file with. It is no part of a secret.
var byteOrderMark = []byte("\uFEFF")

var (
	errIrregular = errors.New("is no regular file")
	errTooLong   = fmt.Errorf("is longer than %d bytes", maxSize)
)

// Read reads a file with a secret in it. It waits for nobody: a pipe or a device is refused. The error continues a sentence
// that begins with the path, or is what the system says (*fs.PathError).
func Read(path string) ([]byte, error) {
	content, _, err := read(path, 0)
	return content, err
}

// ReadPrivate is Read for keys, which nobody but the file's owner may read or write: mode 0600 or less. One that root hands to
// this process through its group, as Kubernetes and systemd do with secrets, may be readable by that group too. (Windows has
// no such modes.) It also returns what the file was when it was read.
func ReadPrivate(path string) ([]byte, fs.FileInfo, error) {
	return read(path, 0o077)
}

func read(path string, forbidden fs.FileMode) ([]byte, fs.FileInfo, error) {
	// What is looked at is what is read, whatever takes its place meanwhile. No other end of a pipe is waited for.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && handedOut(info) {
		forbidden &^= 0o040
	}
	switch {
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular():
		return nil, nil, errIrregular
	case runtime.GOOS != "windows" && info.Mode().Perm()&forbidden != 0:
		return nil, nil, fmt.Errorf("is open to others than its owner (mode %04o): make it 0600", info.Mode().Perm())
	}
	content, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err == nil && len(content) > maxSize {
		err = errTooLong
	}
	return bytes.TrimPrefix(content, byteOrderMark), info, err
}
