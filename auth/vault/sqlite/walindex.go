package sqlite

import "encoding/binary"

// snapshot is the header of the WAL-index, which every process that has the file open shares in memory. SQLite itself tells by
// it whether anything has been committed since (https://sqlite.org/walformat.html, section 2.1).
type snapshot [48]byte

const (
	walIndexVersion = 3007000 // the only version of the format that there has been
	offsetVersion   = 0
	offsetCommits   = 8 // counts transactions
	offsetReady     = 12
)

// commits counts the transactions that have been committed, with overflow.
func (s snapshot) commits() uint32 { return binary.NativeEndian.Uint32(s[offsetCommits:]) }

// follows says that exactly one transaction, or none that changed anything, was committed between before and s.
func (s snapshot) follows(before snapshot) bool {
	return s == before || s.commits() == before.commits()+1
}

func (s snapshot) sound() bool {
	return binary.NativeEndian.Uint32(s[offsetVersion:]) == walIndexVersion && s[offsetReady] != 0
}
