//go:build !unix

package filelock

import "os"

// Supported says whether this system has such locks.
const Supported = false

// lock takes any lock at once: what it guards is an operator's rare command, or has another guard besides.
func lock(*os.File, bool) error { return nil }

// Identity is not known on this system.
func Identity(string) string { return "" }
