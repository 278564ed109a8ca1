package session

import (
	"net/http"
	"strings"
)

// mostNamed is how many sessions a request may name. Each that is looked up costs a read.
const mostNamed = 4

// ChooseSession leaves to a request that names several sessions the one that lives; the first if there is none. Cookies know no ports, and over http
// a neighbour may set one of the same name for a path, which a browser then sends before the session's own (RFC 6265 section 5.4).
func (m *Manager) ChooseSession(r *http.Request) {
	name, named := m.scs.Cookie.Name, 0
	for _, line := range r.Header["Cookie"] {
		named += strings.Count(line, name+"=")
	}
	if named < 2 {
		return
	}
	var chosen *http.Cookie
	for n, cookie := range r.CookiesNamed(name) {
		if n == mostNamed {
			break
		}
		lives, _, err := m.lives(r.Context(), Hash(cookie.Value))
		if chosen == nil || lives {
			chosen = cookie
		}
		if lives || err != nil { // without the database nobody can tell
			break
		}
	}
	all := r.Cookies()
	r.Header.Del("Cookie")
	for _, cookie := range all {
		if cookie.Name != name {
			r.AddCookie(cookie)
		}
	}
	if chosen != nil {
		r.AddCookie(chosen)
	}
}
