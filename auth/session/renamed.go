package session

import (
	"net/http"
	"sync"
	"time"
)

// Renamed says whether the request names its session as it was called until a moment ago, when somebody signed in with it.
func (m *Manager) Renamed(r *http.Request) bool {
	cookie, err := r.Cookie(m.scs.Cookie.Name)
	return err == nil && !m.Has(r.Context()) && m.former.lately(Hash(cookie.Value))
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
