package session

import (
	"net/http"
	"sync"
	"time"
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

// InTurn lets the requests of one session through next one after the other. scs writes a session whole, so that of two
// that change it at once one would be lost: two tabs that begin a sign-in, for one.
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

// renamedFor is how long a session's former name is remembered: a browser learns of the new one well before.
const renamedFor = 10 * time.Second

// formerNames are the hashes of tokens that sessions had until lately. They open nothing.
type formerNames struct {
	mu    sync.Mutex
	names map[string]bool
}

func (f *formerNames) add(hash string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.names == nil {
		f.names = map[string]bool{}
	}
	f.names[hash] = true
	time.AfterFunc(renamedFor, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.names, hash)
	})
}

func (f *formerNames) lately(hash string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.names[hash]
}
