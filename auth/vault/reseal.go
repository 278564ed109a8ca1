package vault

import (
	"encoding/binary"
	"fmt"
	"time"

	"keyturn/auth"
)

// Sealed is a grant's sealed blob.
type Sealed struct {
	ID   string
	Blob []byte
}

// ResealAll seals every grant anew with the primary key, and returns how many, and how many no key opens. next returns the
// blob that follows the id after, with an empty ID at the end; swap replaces a blob if it is still the old one, and says
// how many rows that were: a grant that changes meanwhile keeps what was written then.
func (s Sealer) ResealAll(
	next func(after string) (Sealed, error), swap func(id string, old, anew []byte) (int64, error),
) (resealed, unreadable int, err error) {
	for after := ""; ; {
		sealed, err := next(after)
		if err != nil || sealed.ID == "" {
			return resealed, unreadable, err
		}
		after = sealed.ID
		anew, err := s.Reseal(sealed.ID, sealed.Blob)
		if err != nil {
			unreadable++
			continue
		}
		n, err := swap(sealed.ID, sealed.Blob, anew)
		resealed += int(n)
		if err != nil {
			return resealed, unreadable, err
		}
	}
}

// KeyOf is the id of the key that sealed a blob, which stands before the rest of it (Tink's output prefix: 1, and four bytes).
// ok is false for what Tink has not sealed.
func KeyOf(sealed []byte) (id uint32, ok bool) {
	if len(sealed) < 5 || sealed[0] != 1 {
		return 0, false
	}
	return binary.BigEndian.Uint32(sealed[1:5]), true
}

// CountByKey counts by key what was sealed. next is as for ResealAll.
func CountByKey(next func(after string) (Sealed, error)) (map[uint32]int, error) {
	uses := map[uint32]int{}
	for after := ""; ; {
		sealed, err := next(after)
		if err != nil || sealed.ID == "" {
			return uses, err
		}
		after = sealed.ID
		if id, ok := KeyOf(sealed.Blob); ok {
			uses[id]++
		}
	}
}

// UnknownKeyError is the ID of a key that sealed grants and is not in the keyset.
type UnknownKeyError uint32

// Error implements error.
func (id UnknownKeyError) Error() string {
	return fmt.Sprintf("the keyset does not have key %d, which sealed grants in the database", uint32(id))
}

// looked is how many grants CheckKeys looks at in each place.
const looked = 20

// CheckKeys returns an UnknownKeyError if some of the newest grants, or of those before the moment at, were sealed with a key that is
// not known: then the keyset is another database's, or an old one, or another process seals with a key that is new. previous
// returns the blob of the grant before an id, with an empty ID at the beginning.
func CheckKeys(known func(id uint32) bool, previous func(before string) (Sealed, error), at time.Time) error {
	for _, before := range []string{"Z", auth.NewGrantID(at)} { // no id has a Z in front
		for range looked {
			sealed, err := previous(before)
			if err != nil {
				return err
			}
			if sealed.ID == "" {
				break
			}
			before = sealed.ID
			if id, ok := KeyOf(sealed.Blob); ok && !known(id) {
				return UnknownKeyError(id)
			}
		}
	}
	return nil
}
