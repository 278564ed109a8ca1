package sqlite

import "encoding/binary"

// snapshot is the header of the WAL-index, which every process that has the file open shares in memory. SQLite itself tells by
// it whether anything has been committed since (https://sqlite.org/walformat.html, section 2.1).
type snapshot [48]byte

const (
	walIndexVersion = 3007000 // the only version of the format that there has been
	offsetVersion   = 0
	offsetReady     = 12
)

func (s snapshot) sound() bool {
	return binary.NativeEndian.Uint32(s[offsetVersion:]) == walIndexVersion && s[offsetReady] != 0
}
