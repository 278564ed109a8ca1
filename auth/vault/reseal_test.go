package vault

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"keyturn/auth"
)

// A key that is not in the keyset is found where it sealed lately, and about the moment that is looked at.
func TestCheckKeys(t *testing.T) {
	t.Parallel()
	const known, unknown = 7, 8
	var ids []string
	blobs := map[string][]byte{}
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for n := range 1000 {
		id := auth.NewGrantID(begin.Add(time.Duration(n) * time.Minute))
		ids, blobs[id] = append(ids, id), binary.BigEndian.AppendUint32([]byte{1}, known)
	}
	asked := 0
	previous := func(before string) (Sealed, error) {
		asked++
		i, _ := slices.BinarySearch(ids, before)
		if i == 0 {
			return Sealed{}, nil
		}
		return Sealed{ids[i-1], blobs[ids[i-1]]}, nil
	}
	check := func(at time.Time) error { return CheckKeys(func(id uint32) bool { return id == known }, previous, at) }
	middle := begin.Add(500 * time.Minute)
	for _, at := range []time.Time{middle, begin, begin.Add(-time.Hour), begin.AddDate(1, 0, 0)} {
		if asked = 0; check(at) != nil || asked > 2*looked {
			t.Errorf("%v, with %d questions: %v", at, asked, check(at))
		}
	}
	for _, n := range []int{999, 490} {
		blobs[ids[n]] = binary.BigEndian.AppendUint32([]byte{1}, unknown)
		var found UnknownKeyError
		if err := check(middle); !errors.As(err, &found) || found != unknown {
			t.Errorf("grant %d: %v", n, err)
		}
		blobs[ids[n]] = binary.BigEndian.AppendUint32([]byte{1}, known)
	}
}
