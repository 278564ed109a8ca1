package provider_test

import (
	"net/http"
	"strings"
	"testing"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
)

// A token may stand where an answer is cut, too.
func TestNoPartOfATokenIsInWhatIsShownOfUserInfo(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	p := newOIDC(t, idp, nil)
	const token = "0123456789/abcdefghijklmnop"
	for _, before := range []int{0, 64<<10 - 20} {
		idp.Change(func() {
			idp.UserInfo = func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write([]byte(strings.Repeat(" ", before) + token))
			}
		})
		shown, err := p.UserInfo(t.Context(), auth.TokenSet{Access: token})
		if err != nil || strings.Contains(shown.Body, token[:4]) || shown.Cut != (before > 0) {
			t.Errorf("after %d bytes: %q, %v", before, strings.TrimSpace(shown.Body), err)
		}
	}
}
