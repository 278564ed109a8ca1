package session

import (
	"net/http"
	"sync"
)

// locks is a mutex for each session cookie in use.
type locks struct {
	mu   sync.Mutex
	held map[string]*sharedLock
}

type sharedLock struct {
	sync.Mutex
	users int
}

// InTurn lets the requests of one session through next one after the other, as far as they come to this process: what one changes of
// it, its name above all, the next one finds.
func (m *Manager) InTurn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cookie, err := r.Cookie(m.scs.Cookie.Name); err == nil && cookie.Value != "" {
			defer m.locks.lock(Hash(cookie.Value))()
		}
		next.ServeHTTP(w, r)
	})
}

func (l *locks) lock(name string) (unlock func()) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*sharedLock{}
	}
	shared := l.held[name]
	if shared == nil {
		shared = &sharedLock{}
		l.held[name] = shared
	}
	shared.users++
	l.mu.Unlock()
	shared.Lock()
	return func() {
		shared.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if shared.users--; shared.users == 0 {
			delete(l.held, name)
		}
	}
}
