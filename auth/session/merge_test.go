package session

import (
	"maps"
	"testing"
	"time"
)

// Of two requests that change a session at once, neither takes back what the other did.
func TestOfEachValueTheChangeCounts(t *testing.T) {
	t.Parallel()
	type values = map[string]any
	before, soon, late := time.Unix(1000, 0), time.Unix(2000, 0), time.Unix(3000, 0)
	read := values{"same": "1", "mine": "1", "theirs": "1", "dropped": "1"}
	left := values{"same": "1", "mine": "2", "theirs": "1", "added": "1"}
	stored := values{"same": "1", "mine": "1", "theirs": "3", "dropped": "1", "more": "3"}
	for name, c := range map[string]struct{ left, stored, want time.Time }{
		"nobody sets the deadline":   {before, before, before},
		"this one sets the deadline": {soon, before, soon},
		"the other one does":         {before, late, late},
		"both do":                    {soon, late, soon},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			merged, expires, err := Merge(encoded(t, before, read), encoded(t, c.left, left), encoded(t, c.stored, stored), c.left)
			if err != nil || !expires.Equal(c.want) {
				t.Errorf("it ends at %v, want %v; %v", expires, c.want, err)
			}
			deadline, got, err := codec{}.Decode(merged)
			want := values{"same": "1", "mine": "2", "theirs": "3", "added": "1", "more": "3"}
			if err != nil || !deadline.Equal(c.want) || !maps.Equal(got, want) {
				t.Errorf("%v, to %v; want %v, to %v; %v", got, deadline, want, c.want, err)
			}
		})
	}
}

func encoded(t *testing.T, deadline time.Time, values map[string]any) []byte {
	t.Helper()
	b, err := codec{}.Encode(deadline, values)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
