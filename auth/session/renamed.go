package session

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// renamedFor is how long a session's former name is remembered: a browser learns of the new one well before.
const renamedFor = 10 * time.Second

// formerMark is what remembers that a session was called so. It opens nothing.
func formerMark(hash string) string { return "former " + hash }

// leavingFor is how long a sign-out may take until the session is gone.
const leavingFor = 10 * time.Second

// leavingMark is what remembers that a session is about to end.
func leavingMark(hash string) string { return "leaving " + hash }

// Renamed says whether the request names its session as it was called until a moment ago, when somebody signed in with it, perhaps at
// another replica. Where nobody can say, it does not.
func (m *Manager) Renamed(r *http.Request) bool {
	cookie, err := r.Cookie(m.scs.Cookie.Name)
	if err != nil || m.Has(r.Context()) {
		return false
	}
	renamed, err := m.uses.Used(r.Context(), formerMark(Hash(cookie.Value)))
	return err == nil && renamed
}

// Withhold takes the session's cookie out of an answer that is about to be written, if the session was gone when it was to be stored: another
// request has ended it, or given it a new name, which the browser must not lose.
func (m *Manager) Withhold(ctx context.Context, answer http.Header) {
	if !FromContext(ctx).Gone {
		return
	}
	var others []string
	for _, cookie := range answer.Values("Set-Cookie") {
		if !strings.HasPrefix(cookie, m.scs.Cookie.Name+"=") {
			others = append(others, cookie)
		}
	}
	answer["Set-Cookie"] = others
}
