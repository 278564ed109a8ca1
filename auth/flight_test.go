package auth

import (
	"testing"
	"time"
)

// A provider whose turn came late has not been asked for long.
func TestAProviderThatWasAskedLateIsNotSaidToBeSlow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		waited bool
		ago    time.Duration
		want   string
	}{
		"at once":         {false, 0, CodeTimeout},
		"late":            {true, 0, CodeBusy},
		"late, long ago":  {true, time.Hour, CodeTimeout},
		"at once, by now": {false, time.Hour, CodeTimeout},
	} {
		f := &flight{turn: newTurn("grant", byNobody), turnAt: time.Now().Add(-c.ago)}
		f.turn.waited = c.waited
		if why := f.unended(time.Minute); why.Code != CodeBusy {
			t.Errorf("%s, before it is asked: %s", name, why.Code)
		}
		f.calling.Store(true)
		if why := f.unended(time.Minute); why.Code != c.want {
			t.Errorf("asked %s: %s, want %s", name, why.Code, c.want)
		}
	}
}
