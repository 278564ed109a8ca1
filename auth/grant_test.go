package auth_test

import (
	"slices"
	"testing"
	"time"

	"keyturn/auth"
)

func TestGrantIDsAreInTheOrderOfTime(t *testing.T) {
	t.Parallel()
	var ids []string
	at := time.Unix(0, 0)
	for range 1000 {
		ids = append(ids, auth.NewGrantID(at))
		at = at.Add(500*time.Hour + time.Millisecond)
	}
	if !slices.IsSorted(ids) {
		t.Error("they are not sorted")
	}
	one, other := auth.NewGrantID(at), auth.NewGrantID(at)
	if one == other || len(one) != len(ids[0]) || len(one) != 9+26 {
		t.Errorf("%q and %q at one time", one, other)
	}
	if before := auth.NewGrantID(time.Unix(-1, 0)); len(before) != len(one) {
		t.Errorf("%q before 1970", before)
	}
}
