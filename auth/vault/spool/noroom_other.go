//go:build !windows

package spool

import (
	"errors"
	"syscall"
)

// noRoom says that the disk, or what the owner may have of it, is full.
func noRoom(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
