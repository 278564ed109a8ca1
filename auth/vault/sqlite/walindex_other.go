//go:build !unix

package sqlite

import "errors"

// walIndex is not known on this system: every read goes to the file.
type walIndex struct{}

func openWALIndex(string) (*walIndex, error) { return nil, errors.ErrUnsupported }

func (w *walIndex) now() (snapshot, bool) { return snapshot{}, false }
