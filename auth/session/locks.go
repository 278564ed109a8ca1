package session

import (
	"context"
	"net/http"
	"sync"
)

// locks is a mutex for each session cookie in use.
type locks struct {
	mu   sync.Mutex
	held map[string]*sharedLock
}

// sharedLock is a mutex that one can leave off waiting for.
type sharedLock struct {
	held  chan struct{} // full while it is
	users int
}

// InTurn lets the requests of one session through next one after the other, as far as they come to this process: what one changes of
// it, its name above all, the next one finds. One whose client has gone while it waited is not served.
func (m *Manager) InTurn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cookie, err := r.Cookie(m.scs.Cookie.Name); err == nil && cookie.Value != "" {
			unlock, err := m.locks.lock(r.Context(), Hash(cookie.Value))
			if err != nil {
				m.scs.ErrorFunc(w, r, err)
				return
			}
			defer unlock()
		}
		next.ServeHTTP(w, r)
	})
}

// lock waits until nobody else holds the name's lock, or ctx is done.
func (l *locks) lock(ctx context.Context, name string) (unlock func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*sharedLock{}
	}
	shared := l.held[name]
	if shared == nil {
		shared = &sharedLock{held: make(chan struct{}, 1)}
		l.held[name] = shared
	}
	shared.users++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if shared.users--; shared.users == 0 {
			delete(l.held, name)
		}
	}
	select {
	case shared.held <- struct{}{}:
		return func() { <-shared.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
