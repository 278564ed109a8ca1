// Package vault seals grants, and holds what the engines that store them share.
package vault

import (
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/tink"

	"keyturn/auth"
)

// Keys gives the AEAD of the present keyset (package keyset has the file-backed one). Implementations are safe for
// concurrent use.
type Keys interface {
	// AEAD returns the primitive. With reload it first reads the keyset anew if that has changed and is of use.
	AEAD(reload bool) tink.AEAD
}

// Sealer turns a grant into a sealed blob and back. The grant's id is the associated data, so that a blob moved to
// another row does not open. It is safe for concurrent use.
type Sealer struct{ Keys Keys }

// SealText seals a text, which opens under the same name only.
func (s Sealer) SealText(name string, plain []byte) ([]byte, error) {
	return s.Keys.AEAD(true).Encrypt(plain, []byte(name))
}

// OpenText is the inverse of SealText. The error is auth.ErrUnreadable when no key opens it; one that another process added since is
// looked for before giving up.
func (s Sealer) OpenText(name string, sealed []byte) ([]byte, error) {
	for _, reload := range []bool{false, true} {
		if plain, err := s.Keys.AEAD(reload).Decrypt(sealed, []byte(name)); err == nil {
			return plain, nil
		}
	}
	return nil, auth.ErrUnreadable
}

// Seal seals what of a grant is secret or personal.
func (s Sealer) Seal(g *auth.Grant) ([]byte, error) {
	plain, err := encode(g)
	if err != nil {
		return nil, fmt.Errorf("seal grant: %w", err)
	}
	return s.SealText(g.ID, plain)
}

// Open fills g, whose ID is set, from its sealed blob. The error is auth.ErrUnreadable when no key opens it.
func (s Sealer) Open(g *auth.Grant, sealed []byte) error {
	plain, err := s.OpenText(g.ID, sealed)
	if err != nil {
		return fmt.Errorf("open grant: %w", err)
	}
	if err := decode(plain, g); err != nil {
		return fmt.Errorf("open grant: %w", errors.Join(auth.ErrUnreadable, err))
	}
	return nil
}

// Reseal seals a blob of the grant id anew with the primary key.
func (s Sealer) Reseal(id string, sealed []byte) ([]byte, error) {
	plain, err := s.OpenText(id, sealed)
	if err != nil {
		return nil, fmt.Errorf("reseal grant: %w", err)
	}
	return s.SealText(id, plain)
}
