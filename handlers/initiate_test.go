package handlers

import (
	"strings"
	"testing"
)

func TestAHintThatIsNoAddressForItsLengthIsLeftOut(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("a", 308) + "@example.com"
	for hint, want := range map[string]string{"": "", "alice@example.com": "alice@example.com", longest: longest, "a" + longest: ""} {
		if got := loginHint(hint); got != want {
			t.Errorf("%q is passed on as %q", hint, got)
		}
	}
}
