package spool

import (
	"errors"
	"slices"
	"syscall"
)

// noRoom says that the disk, or what the owner may have of it, is full.
func noRoom(err error) bool {
	const handleDiskFull, diskFull, diskQuotaExceeded = syscall.Errno(39), syscall.Errno(112), syscall.Errno(1295)
	full := []error{handleDiskFull, diskFull, diskQuotaExceeded}
	return slices.ContainsFunc(full, func(one error) bool { return errors.Is(err, one) })
}
