package auth

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatIsAmissIsSaidNowAndThen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := Complaint{Every: storeSaid}
		var said []int
		say := func(times int) { said = append(said, times) }
		for range 25 {
			c.Make(say)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Hour)
		c.Make(say) // of something else
		if !slices.Equal(said, []int{1, 10, 10, 1}) {
			t.Errorf("said of %v", said)
		}
	})
}
