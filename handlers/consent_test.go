package handlers

import (
	"testing"
	"time"
)

// Who was asked in vain is asked again after an hour, and sign-ins begin with consent again where it helps others.
func TestWhatWasInVainCountsForAnHour(t *testing.T) {
	t.Parallel()
	var c consents
	began := time.Now()
	c.brought("work", "alice", true, began)
	for i, who := range []string{"bob", "carol", "dave"} {
		if only, many := c.broughtNone("work", who, false, began.Add(time.Minute)); only != (i == 0) || many != (i == 2) {
			t.Errorf("%s is the only one: %v; it is the client's matter: %v", who, only, many)
		}
	}
	for _, after := range []time.Duration{2 * time.Minute, time.Hour, 62 * time.Minute} {
		now, vain := began.Add(after), after <= time.Hour
		for _, who := range []string{"alice", "bob", "erin"} {
			if got := c.inVain("work", who, now); got != vain {
				t.Errorf("%s would be asked in vain after %v: %v", who, after, got)
			}
		}
		if got := c.insists("work", now); got == vain {
			t.Errorf("sign-ins begin with consent after %v: %v", after, got)
		}
	}
	if c.insists("other", began) || c.inVain("other", "bob", began) {
		t.Error("another provider has to do with it")
	}
}
