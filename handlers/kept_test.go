package handlers

import (
	"strconv"
	"testing"
	"time"
)

// Nothing of somebody who asks no more stays longer than it could be sent.
func TestKeptAnswersGoWhenTheyAreOld(t *testing.T) {
	t.Parallel()
	kept, made := keep(3), 0
	asked := func(second int64, grant string, want int) {
		t.Helper()
		_, err := kept.under(circumstances{at: time.Unix(second, 0)}, grant, func() ([]byte, error) { made++; return nil, nil }).body()
		if n := kept.recent.Len(); err != nil || n != want {
			t.Errorf("%s at %d: %d are kept, want %d, %v", grant, second, n, want, err)
		}
	}
	asked(1, "alice", 1)
	asked(1, "bob", 2)
	asked(1, "alice", 2)
	asked(2, "bob", 1)
	asked(2, "carol", 2)
	asked(2, "bob", 2)
	asked(-9, "dave", 1) // the clock was set back
	if made != 5 {
		t.Errorf("%d were made", made)
	}
}

// Who looked at the clock just before others did throws away nothing that is of use to them.
func TestALateRequestLeavesWhatIsNewer(t *testing.T) {
	t.Parallel()
	kept, made := keep(200), 0
	asked := func(second int64, grant string) {
		t.Helper()
		_, err := kept.under(circumstances{at: time.Unix(second, 0)}, grant, func() ([]byte, error) { made++; return nil, nil }).body()
		if err != nil {
			t.Error(err)
		}
	}
	everybody := func() {
		t.Helper()
		for n := range 100 {
			asked(2, strconv.Itoa(n))
		}
	}
	everybody()
	asked(1, "late")
	everybody()
	if made != 101 {
		t.Errorf("%d were made", made)
	}
}
