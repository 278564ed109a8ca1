//go:build unix

package keyfile

import (
	"io/fs"
	"os"
	"syscall"
)

// handedOut says whether a file is root's, and this process is not: all that it can read there it was meant to.
func handedOut(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == 0 && os.Getuid() != 0
}
