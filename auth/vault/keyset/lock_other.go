//go:build !unix

package keyset

// lock does nothing where there is no flock: rotating is an operator's rare command.
func lock(string) (unlock func(), err error) { return func() {}, nil }
