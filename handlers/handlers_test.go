package handlers

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/authtest"
	"keyturn/auth/provider"
	"keyturn/auth/session"
)

// away is the sessions of a database that does not answer.
type away struct {
	session.ContextStore
	err error
}

func (a away) FindCtx(context.Context, string) ([]byte, bool, error) { return nil, false, a.err }

// complete is a Config that New takes. What it is made of is empty.
func complete() Config {
	return Config{
		Session: session.Options{
			Store: session.Complete(away{err: errors.New("away")}), Uses: struct{ auth.Uses }{}, Sealer: struct{ session.Sealer }{}, Lifetime: time.Hour,
			Now: time.Now, Log: slog.New(slog.DiscardHandler),
		},
		Providers: &provider.Set{}, Rotator: &auth.Rotator{}, Grants: &auth.Grants{}, Events: &auth.Events{},
		Vault: struct{ Vault }{}, BaseURL: "https://keyturn.example",
		Ready: func(context.Context, []string) []string { return nil }, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Meter: struct{ Meter }{}, DevPrefix: "/dev", DevProvider: http.NotFoundHandler(),
	}
}

func TestNewRefusesWhatItCannotWorkWith(t *testing.T) {
	t.Parallel()
	if site, err := New(complete()); err != nil || site == nil {
		t.Fatalf("complete: %v", err)
	}
	for what, spoil := range map[string]func(*Config){
		"no Session.St":  func(c *Config) { c.Session.Store = nil },
		"no Session.U":   func(c *Config) { c.Session.Uses = nil },
		"no Session.Se":  func(c *Config) { c.Session.Sealer = nil },
		"no Session.N":   func(c *Config) { c.Session.Now = nil },
		"no Session.L":   func(c *Config) { c.Session.Log = nil },
		"no Providers":   func(c *Config) { c.Providers = nil },
		"no Rotator":     func(c *Config) { c.Rotator = nil },
		"no Grants":      func(c *Config) { c.Grants = nil },
		"no Events":      func(c *Config) { c.Events = nil },
		"no Vault":       func(c *Config) { c.Vault = nil },
		"no Ready":       func(c *Config) { c.Ready = nil },
		"no Now":         func(c *Config) { c.Now = nil },
		"no Log":         func(c *Config) { c.Log = nil },
		"no Meter":       func(c *Config) { c.Meter = nil },
		"no DevProvider": func(c *Config) { c.DevProvider = nil },
		"base URL: ":     func(c *Config) { c.BaseURL = "https://keyturn.example/app" },
	} {
		config := complete()
		spoil(&config)
		if site, err := New(config); err == nil || site != nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// While the database is away, what answers is the site itself: whatever of it the answer uses is there.
func TestASessionThatCannotBeLoadedIsAnsweredByTheSite(t *testing.T) {
	t.Parallel()
	var told int
	config := complete()
	config.Meter = metered{told: func(status int) { told = status }}
	site, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/dashboard": `href="/dashboard">Try again</a>`, "/api/session": `{"error":{"code":"` + auth.CodeStorage,
		"/auth/dev?return_to=%2F%22&x=%22":   `href="/auth/dev?return_to=%2F%22&amp;x=%22">Try again</a>`,
		"/auth/dev/callback?code=c&state=s":  `href="/">To the start page</a>`,
		"/auth/x/callback?oauth_verifier=v":  `href="/">To the start page</a>`,
		"//evil.example/auth/dev?return_to=": `href="/">To the start page</a>`,
	} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.AddCookie(&http.Cookie{Name: "keyturn_session", Value: "alice"})
		w := httptest.NewRecorder()
		site.ServeHTTP(w, r)
		if w.Code != http.StatusServiceUnavailable || told != w.Code || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d, the meter is told of %d: %s", path, w.Code, told, w.Body)
		}
	}
}

// What fails for everybody is said now and then, of how many requests, and when to ask again.
func TestWhatFailsForEverybodyDoesNotFillTheLog(t *testing.T) {
	t.Parallel()
	for seconds, err := range map[string]error{"5": errors.New("away"), "10": auth.ErrUnreadable} {
		log := &authtest.Buffer{}
		config := complete()
		config.Session.Store = session.Complete(away{err: err})
		config.Meter, config.Log = metered{told: func(int) {}}, slog.New(slog.NewTextHandler(log, nil))
		site, failed := New(config)
		if failed != nil {
			t.Fatal(failed)
		}
		for range 20 {
			r := httptest.NewRequest(http.MethodGet, "/api/session", nil)
			r.AddCookie(&http.Cookie{Name: "keyturn_session", Value: "alice"})
			w := httptest.NewRecorder()
			site.ServeHTTP(w, r)
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != seconds {
				t.Fatalf("%v: %d %v", err, w.Code, w.Header())
			}
		}
		if lines := strings.Count(log.String(), "request failed"); lines != 1 {
			t.Errorf("%v: %d lines in the log", err, lines)
		}
	}
}

// metered tells the status of each request that was answered.
type metered struct {
	Meter
	told func(status int)
}

func (m metered) Request(_, _ string, status int, _ time.Duration) { m.told(status) }
