//go:build unix

package sqlite

import (
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// walIndex is the part of the WAL-index in memory that tells of commits. It is safe for concurrent use, also when the database is
// closed: then it tells of nothing new.
type walIndex struct {
	memory []byte
	file   *os.File // stays open: closing any descriptor of a file drops all locks that this process has on it, SQLite's as well (fcntl(2))
}

var errWALIndex = errors.New("the WAL-index is not in the format that is known")

// openWALIndex finds the WAL-index of an open database. It stays where it is for as long as a connection is open, and what is returned,
// with an error too, is to be kept for as long.
func openWALIndex(path string) (*walIndex, error) {
	file, err := os.Open(path + "-shm")
	if err != nil {
		return nil, err
	}
	w := &walIndex{file: file}
	w.memory, err = syscall.Mmap(int(file.Fd()), 0, 2*len(snapshot{}), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return w, err
	}
	runtime.AddCleanup(w, func(memory []byte) { _ = syscall.Munmap(memory) }, w.memory)
	if now, ok := w.now(); !ok || !now.sound() {
		return w, errWALIndex
	}
	return w, nil
}

// now is what has been committed; false while somebody commits. Writers fill the second copy of the header first.
func (w *walIndex) now() (s snapshot, ok bool) {
	const words = len(s) / 8
	header := (*[2 * words]uint64)(unsafe.Pointer(unsafe.SliceData(w.memory))) //nolint:gosec // mapped memory has no other way to be read by words
	var first, second [words]uint64
	for i := range words {
		first[i] = atomic.LoadUint64(&header[i])
	}
	for i := range words {
		second[i] = atomic.LoadUint64(&header[words+i])
	}
	runtime.KeepAlive(w)
	for i, word := range first {
		binary.NativeEndian.PutUint64(s[8*i:], word)
	}
	return s, first == second
}
