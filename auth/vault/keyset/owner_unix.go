//go:build unix

package keyset

import (
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives a file the owner and the mode of the one that it is going to replace.
func keepOwner(path string, former fs.FileInfo) error {
	if owner, ok := former.Sys().(*syscall.Stat_t); ok {
		if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	return os.Chmod(path, former.Mode().Perm())
}
