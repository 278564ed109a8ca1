package session_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth/session"
	"keyturn/auth/vault"
	"keyturn/auth/vault/keyset"
	"keyturn/auth/vault/sqlite"
)

// A pending sign-in is good for ten minutes, for one use, and for the provider that it was begun at.
func TestAPendingSignInIsTakenInTimeAndOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		signedIn bool
		after    time.Duration
		state    string
		provider string
		taken    bool
	}{
		"at once":                 {false, 0, "s", "work", true},
		"after nine minutes":      {false, 9 * time.Minute, "s", "work", true},
		"after eleven":            {false, 11 * time.Minute, "s", "work", false},
		"after nine, signed in":   {true, 9 * time.Minute, "s", "work", true},
		"after eleven, signed in": {true, 11 * time.Minute, "s", "work", false},
		"with another state":      {false, 0, "other", "work", false},
		"with no state":           {false, 0, "", "work", false},
		"at another provider":     {false, 0, "s", "home", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var later atomic.Int64
			ask := browser(t, func() time.Time { return time.Now().Add(time.Duration(later.Load())) }, nil)
			ask(func(m *session.Manager, r *http.Request) {
				if c.signedIn {
					if err := enter(m, r); err != nil {
						t.Error(err)
					}
				}
				if err := m.Await(r.Context(), "s", session.Pending{Provider: "work"}); err != nil {
					t.Error(err)
				}
			})
			later.Store(int64(c.after))
			ask(func(m *session.Manager, r *http.Request) {
				if has, in := m.Has(r.Context()), c.signedIn || c.after < 10*time.Minute; has != in {
					t.Errorf("there is a session: %v", has)
				}
				if _, ok := m.Take(r.Context(), c.state, c.provider); ok != c.taken {
					t.Errorf("taken: %v", ok)
				}
			})
			if c.state != "s" {
				return
			}
			ask(func(m *session.Manager, r *http.Request) {
				if _, ok := m.Take(r.Context(), "s", "work"); ok {
					t.Error("it can be taken twice")
				}
			})
		})
	}
}

// moodyStore is a store that finds nothing out while it fails.
type moodyStore struct {
	session.Store
	fails *atomic.Bool
}

// FindCtx implements session.Store.
func (m moodyStore) FindCtx(ctx context.Context, hash string) ([]byte, bool, error) {
	if m.fails.Load() {
		return nil, false, errors.New("away")
	}
	return m.Store.FindCtx(ctx, hash)
}

// A turn that came to nothing, or is over, is the next one's at once.
func TestATurnIsGivenUp(t *testing.T) {
	t.Parallel()
	var fails atomic.Bool
	ask := browser(t, time.Now, &fails)
	ask(func(m *session.Manager, r *http.Request) {
		if err := m.Await(r.Context(), "s", session.Pending{Provider: "work"}); err != nil {
			t.Error(err)
		}
	})
	ask(func(m *session.Manager, r *http.Request) {
		fails.Store(true)
		if _, ok, err := m.Turn(r.Context()); ok || err == nil {
			t.Errorf("while the store is away: %v, %v", ok, err)
		}
		fails.Store(false)
	})
	for range 2 {
		ask(func(m *session.Manager, r *http.Request) {
			began := time.Now()
			end, ok, err := m.Turn(r.Context())
			if took := time.Since(began); !ok || err != nil || took > 5*time.Second {
				t.Fatalf("%v, %v after %v", ok, err, took)
			}
			end()
		})
	}
}

// Of two that give a session a new name at the same time, at two processes, one does, and nobody does once it has ended or is about to. A
// session has its former name until then.
func TestASessionIsRenamedOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile func(m *session.Manager, r *http.Request) error
		want      error
	}{
		"by another":        {enter, session.ErrRenamed},
		"once it has ended": {func(m *session.Manager, r *http.Request) error { return m.End(r.Context()) }, session.ErrEnded},
		"once it is to end": {leave, session.ErrEnded},
		"once it is not to end after all": {func(m *session.Manager, r *http.Request) error {
			stay, err := m.Leave(r.Context())
			stay()
			return err
		}, nil},
		"while nobody else does": {func(m *session.Manager, r *http.Request) error { return nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ask := awaiting(t)
			ask(func(m *session.Manager, one *http.Request) {
				ask(func(m *session.Manager, two *http.Request) {
					if err := c.meanwhile(m, two); err != nil {
						t.Error(err)
					}
				})
				if _, err := m.Renew(one.Context()); err != nil {
					t.Error(err)
				}
				if lives, _, err := m.Lives(one.Context()); lives || err != nil {
					t.Errorf("under the new name before it is stored: %v, %v", lives, err)
				}
				err := m.SignIn(one.Context(), session.Owner{GrantID: "h", Provider: "work", Subject: "alice"})
				if _, in := m.SignedIn(one.Context()); !errors.Is(err, c.want) || in != (c.want == nil) || session.FromContext(one.Context()).Gone != (c.want != nil) {
					t.Errorf("%v, signed in: %v", err, in)
				}
			})
		})
	}
}

// A session that was given another name while it was about to end says so to whoever ends it.
func TestAnEndMeetsANewName(t *testing.T) {
	t.Parallel()
	ask := awaiting(t)
	ask(func(m *session.Manager, one *http.Request) {
		ask(func(m *session.Manager, two *http.Request) {
			if err := enter(m, two); err != nil {
				t.Error(err)
			}
		})
		if err := m.Await(one.Context(), "t", session.Pending{Provider: "work"}); !errors.Is(err, session.ErrEnded) {
			t.Errorf("a sign-in that begins in it: %v", err)
		}
		if err := m.End(one.Context()); !errors.Is(err, session.ErrRenamed) || !session.FromContext(one.Context()).Gone {
			t.Errorf("its end: %v", err)
		}
	})
}

// A browser that has gone away keeps the session that it knows, or none.
func TestNobodySignsInWhoHasGoneAway(t *testing.T) {
	t.Parallel()
	for had, ask := range map[bool]func(func(*session.Manager, *http.Request)){true: awaiting(t), false: browser(t, time.Now, nil)} {
		ask(func(m *session.Manager, r *http.Request) {
			ctx, goAway := context.WithCancel(r.Context())
			if _, err := m.Renew(ctx); err != nil {
				t.Error(err)
			}
			goAway()
			err := m.SignIn(ctx, session.Owner{GrantID: "g", Provider: "work", Subject: "alice"})
			if !errors.Is(err, context.Canceled) || !session.FromContext(ctx).Gone {
				t.Errorf("had a session %v: %v", had, err)
			}
			ask(func(m *session.Manager, later *http.Request) {
				if has := m.Has(later.Context()); has != had {
					t.Errorf("had a session %v, has one %v", had, has)
				}
			})
		})
	}
}

// enter signs somebody in.
func enter(m *session.Manager, r *http.Request) error {
	if _, err := m.Renew(r.Context()); err != nil {
		return err
	}
	return m.SignIn(r.Context(), session.Owner{GrantID: "g", Provider: "work", Subject: "alice"})
}

// leave is a sign-out that is under way, of a browser that has gone away.
func leave(m *session.Manager, r *http.Request) error {
	ctx, goAway := context.WithCancel(r.Context())
	goAway()
	_, err := m.Leave(ctx)
	return err
}

// awaiting is a browser in whose session a sign-in is pending.
func awaiting(t *testing.T) (ask func(use func(*session.Manager, *http.Request))) {
	t.Helper()
	ask = browser(t, time.Now, nil)
	ask(func(m *session.Manager, r *http.Request) {
		if err := m.Await(r.Context(), "s", session.Pending{Provider: "work"}); err != nil {
			t.Error(err)
		}
	})
	return ask
}

// browser is cookies in a house of its own. fails, if it is not nil, says when the store does.
func browser(t *testing.T, now func() time.Time, fails *atomic.Bool) func(use func(*session.Manager, *http.Request)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyturn.db")
	if err := keyset.Create(path + ".keys"); err != nil {
		t.Fatal(err)
	}
	keys, err := keyset.Open(path + ".keys")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.Open(t.Context(), sqlite.Options{
		Path: path, Sealer: vault.Sealer{Keys: keys}, SessionIdle: time.Hour, Now: now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if fails == nil {
		fails = &atomic.Bool{}
	}
	return cookies(session.New(session.Options{
		Store: moodyStore{db.Sessions(), fails}, Uses: db, Sealer: vault.Sealer{Keys: keys}, Lifetime: 24 * time.Hour, Now: now,
	}))
}

// cookies returns what makes a request with a browser's cookies.
func cookies(m *session.Manager) func(use func(*session.Manager, *http.Request)) {
	var cookies []*http.Cookie
	return func(use func(*session.Manager, *http.Request)) {
		request := httptest.NewRequest(http.MethodGet, "/", nil)
		request = request.WithContext(session.NewContext(request.Context()))
		for _, cookie := range cookies {
			request.AddCookie(cookie)
		}
		w := httptest.NewRecorder()
		m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { use(m, r) })).ServeHTTP(w, request)
		if set := w.Result().Cookies(); len(set) > 0 {
			cookies = set
		}
	}
}
