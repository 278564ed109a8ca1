package session_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keyturn/auth/session"
)

// memory is a store of sessions and marks by the clock of a test.
type memory struct {
	now      func() time.Time
	mu       sync.Mutex
	sessions map[string][]byte
	marks    map[string]time.Time
	stored   int
	full     bool       // takes no session
	taken    bool       // all marks are somebody else's
	struck   bool       // whoever has a mark has died
	keeping  chan error // if it is not nil, nothing is kept: it is told of the beginning, and why nobody waits any more
}

var errFull = errors.New("full")

func (s *memory) FindCtx(ctx context.Context, hash string) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, found := s.sessions[hash]
	if request := session.FromContext(ctx); found {
		request.Loaded, request.Read = hash, data
	}
	return data, found, nil
}

func (s *memory) CommitCtx(ctx context.Context, hash string, data []byte, _ time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		return errFull
	}
	request := session.FromContext(ctx)
	delete(s.sessions, request.Former)
	s.sessions[hash] = data
	request.Loaded, request.Former, request.Read = hash, "", data
	s.stored++
	return nil
}

func (s *memory) DeleteCtx(_ context.Context, hash string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, hash)
	return nil
}

// Use implements auth.Uses. Who is cut off learns nothing of what is done.
func (s *memory) Use(ctx context.Context, mark string, until time.Time) (first bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken || s.now().Before(s.marks[mark]) {
		return false, nil
	}
	s.marks[mark] = until
	return true, ctx.Err()
}

func (s *memory) Used(ctx context.Context, mark string) (bool, error) {
	return s.Lasts(ctx, mark, s.now())
}

func (s *memory) Lasts(_ context.Context, mark string, beyond time.Time) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return beyond.Before(s.marks[mark]), nil
}

func (s *memory) Keep(ctx context.Context, mark string, until time.Time) (kept bool, err error) {
	if s.keeping != nil {
		s.keeping <- nil
		<-ctx.Done()
		s.keeping <- ctx.Err()
		return false, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if kept = !s.struck && s.now().Before(s.marks[mark]); kept {
		s.marks[mark] = until
	}
	return kept, nil
}

func (s *memory) Unuse(_ context.Context, mark string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.marks, mark)
	return nil
}

// turns is how many turns are taken.
func (s *memory) turns() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for mark, until := range s.marks {
		if s.now().Before(until) && strings.HasPrefix(mark, "turn ") {
			n++
		}
	}
	return n
}

// unsealed seals nothing.
type unsealed struct{}

func (unsealed) SealText(_ string, plain []byte) ([]byte, error)  { return plain, nil }
func (unsealed) OpenText(_ string, sealed []byte) ([]byte, error) { return sealed, nil }

// inMemory is a browser in whose session a sign-in is pending. It is made where time is not the test's: scs leaves a goroutine behind.
func inMemory(t *testing.T) (s *memory, ask func(use func(*session.Manager, *http.Request))) {
	t.Helper()
	return inMemoryBy(t, time.Now)
}

// inMemoryBy is inMemory by another clock.
func inMemoryBy(t *testing.T, now func() time.Time) (s *memory, ask func(use func(*session.Manager, *http.Request))) {
	t.Helper()
	s = &memory{now: now, sessions: map[string][]byte{}, marks: map[string]time.Time{}}
	ask = cookies(session.New(session.Options{
		Store: session.Complete(s), Uses: s, Sealer: unsealed{}, Lifetime: 24 * time.Hour, Now: now,
		OnError: func(http.ResponseWriter, *http.Request, error) {},
	}))
	ask(func(m *session.Manager, r *http.Request) {
		if err := m.Await(r.Context(), "s", session.Pending{Provider: "work"}); err != nil {
			t.Error(err)
		}
	})
	return s, ask
}

// Who closes the tab while an earlier sign-in of the same browser goes on is not signed in behind it.
func TestWhoHasGoneIsNotServedInTurn(t *testing.T) {
	t.Parallel()
	s := &memory{now: time.Now, sessions: map[string][]byte{}, marks: map[string]time.Time{}}
	failed := make(chan error, 1)
	m := session.New(session.Options{
		Store: session.Complete(s), Uses: s, Sealer: unsealed{}, Lifetime: 24 * time.Hour, Now: time.Now,
		OnError: func(_ http.ResponseWriter, _ *http.Request, err error) { failed <- err },
	})
	served, goOn := make(chan string), make(chan bool)
	handler := m.InTurn(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		served <- r.URL.Path
		<-goOn
	}))
	request := func(ctx context.Context, path string) {
		r := httptest.NewRequestWithContext(ctx, "GET", path, nil)
		r.AddCookie(&http.Cookie{Name: "keyturn_session", Value: "alice"})
		handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	go request(t.Context(), "/first")
	if path := <-served; path != "/first" {
		t.Fatal(path)
	}
	gone, leave := context.WithCancel(t.Context())
	go request(gone, "/gone")
	leave()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	go request(t.Context(), "/next")
	goOn <- true
	if path := <-served; path != "/next" {
		t.Errorf("%s is served", path)
	}
	goOn <- true
}

func TestNobodyWaitsLongForATurn(t *testing.T) {
	t.Parallel()
	s, ask := inMemory(t)
	synctest.Test(t, func(t *testing.T) {
		ask(func(m *session.Manager, r *http.Request) {
			s.taken = true
			ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
			defer cancel()
			began := time.Now()
			_, ok, err := m.Turn(ctx)
			if took := time.Since(began); !ok || err != nil || took < 15*time.Second || took > 16*time.Second {
				t.Errorf("%v, %v after %v", ok, err, took)
			}
		})
	})
}

// inTurn makes a request that waits for its turn.
func inTurn(t *testing.T, ask func(use func(*session.Manager, *http.Request)), then func(end func())) {
	t.Helper()
	ask(func(m *session.Manager, r *http.Request) {
		end, ok, err := m.Turn(r.Context())
		if !ok || err != nil {
			t.Fatalf("%v, %v", ok, err)
		}
		then(end)
	})
}

// While a machine sleeps a mark runs out, and no timer does: who wakes has nothing to give up any more.
func TestATurnThatRanOutInASleepIsSomebodyElses(t *testing.T) {
	t.Parallel()
	var slept atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(slept.Load())) }
	s, ask := inMemoryBy(t, now)
	inTurn(t, ask, func(end func()) {
		slept.Store(int64(time.Minute))
		inTurn(t, ask, func(func()) {
			end()
			if n := s.turns(); n != 1 {
				t.Errorf("%d turns are taken by who came meanwhile", n)
			}
		})
	})
}

func TestATurnIsKeptWhileItsRequestRuns(t *testing.T) {
	t.Parallel()
	s, ask := inMemory(t)
	synctest.Test(t, func(t *testing.T) {
		inTurn(t, ask, func(end func()) {
			time.Sleep(14 * time.Second)
			if n := s.turns(); n != 1 {
				t.Errorf("%d turns are taken", n)
			}
			end()
			if n := s.turns(); n != 0 {
				t.Errorf("%d turns are taken at the end", n)
			}
		})
	})
}

func TestTheTurnOfADeadProcessIsInheritedSoon(t *testing.T) {
	t.Parallel()
	s, ask := inMemory(t)
	synctest.Test(t, func(t *testing.T) {
		inTurn(t, ask, func(dead func()) {
			s.mu.Lock()
			s.struck = true
			s.mu.Unlock()
			began := time.Now()
			inTurn(t, ask, func(end func()) {
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("the next waited for %v", took)
				}
				if dead(); s.turns() != 1 {
					t.Error("who had it before, and was not dead after all, gives it up")
				}
				end()
			})
		})
	})
}

// Who took longer than a turn lasts does not give up the turn of the next.
func TestATurnThatRanOutIsSomebodyElses(t *testing.T) {
	t.Parallel()
	s, ask := inMemory(t)
	synctest.Test(t, func(t *testing.T) {
		inTurn(t, ask, func(end func()) {
			time.Sleep(16 * time.Second)
			inTurn(t, ask, func(next func()) {
				end()
				if n := s.turns(); n != 1 {
					t.Errorf("%d turns are taken, want the next one's", n)
				}
				next()
				if n := s.turns(); n != 0 {
					t.Errorf("%d turns are taken at the end", n)
				}
			})
		})
	})
}

func TestTheEndOfATurnWaitsForNoExtension(t *testing.T) {
	t.Parallel()
	s, ask := inMemory(t)
	s.keeping = make(chan error, 2)
	inTurn(t, ask, func(end func()) {
		<-s.keeping
		end()
		if err := <-s.keeping; !errors.Is(err, context.Canceled) || s.turns() != 0 {
			t.Errorf("the extension ended with %v, %d turns are taken", err, s.turns())
		}
	})
}

// A browser that goes away while its request asks for a turn leaves nobody waiting for that.
func TestATurnOfWhoeverHasGoneAwayIsGivenUp(t *testing.T) {
	t.Parallel()
	s, ask := inMemory(t)
	ask(func(m *session.Manager, r *http.Request) {
		ctx, goAway := context.WithCancel(r.Context())
		goAway()
		end, ok, err := m.Turn(ctx)
		if ok {
			end()
		}
		if n := s.turns(); n != 0 {
			t.Errorf("%d turns are taken; %v", n, err)
		}
	})
}

// What could not be stored is not stored by the end of its request, when the browser has been told that it was not.
func TestASignInThatIsNotBegunIsNotStored(t *testing.T) {
	t.Parallel()
	s, ask := inMemory(t)
	ask(func(m *session.Manager, r *http.Request) {
		s.full = true
		if err := m.Await(r.Context(), "t", session.Pending{Provider: "work"}); !errors.Is(err, errFull) {
			t.Errorf("%v", err)
		}
		s.full = false
	})
	if s.stored != 1 {
		t.Errorf("stored %d times", s.stored)
	}
}

// A session that could not be given another name has none, whatever becomes of it.
func TestANameThatCouldNotBeStoredIsNotLookedFor(t *testing.T) {
	t.Parallel()
	s, ask := inMemory(t)
	var former string
	ask(func(m *session.Manager, r *http.Request) {
		former = r.Header.Get("Cookie")
		s.full = true
		if err := enter(m, r); !errors.Is(err, errFull) {
			t.Errorf("a sign-in: %v", err)
		}
		s.full = false
	})
	clear(s.sessions)
	ask(func(m *session.Manager, r *http.Request) {
		r.Header.Set("Cookie", former)
		if m.Has(r.Context()) || m.Renamed(r) {
			t.Error("the session that is gone is said to have another name")
		}
	})
}

func TestWhatARequestHasStoredIsNotStoredAgain(t *testing.T) {
	t.Parallel()
	s, _ := inMemory(t)
	if s.stored != 1 {
		t.Errorf("stored %d times", s.stored)
	}
}
