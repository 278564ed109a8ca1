package auth_test

import (
	"testing"

	"keyturn/auth"
)

// Dex says invalid_request of its own failures, too, with the status of those.
func TestAnInvalidRequestOfAProviderThatIsUnwellIsNone(t *testing.T) {
	t.Parallel()
	for _, status := range []int{408, 429, 500, 503} {
		h := newHouse(t, options{idp: scriptedBy(oauthError(status, "invalid_request"))})
		for range 3 {
			h.expect(t, h.renew(t), auth.OutcomeKept, 1)
		}
		if n := h.stored(t).Standing.InvalidRequests; n != 0 {
			t.Errorf("%d: %d count", status, n)
		}
	}
}
