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
		c := complaint{}
		c.Interval = storeSaid
		var said []int64
		for range 25 {
			c.make(func(times int64) { said = append(said, times) })
			time.Sleep(time.Second)
		}
		if !slices.Equal(said, []int64{1, 10, 10}) {
			t.Errorf("said of %v", said)
		}
	})
}
