package handlers

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/auth/session"
)

// complete is a Config that New takes. What it is made of is empty.
func complete() Config {
	return Config{
		Sessions: session.New(session.Options{}), Providers: &provider.Set{}, Rotator: &auth.Rotator{}, Grants: &auth.Grants{},
		Events: &auth.Events{}, Vault: struct{ Vault }{}, BaseURL: "https://keyturn.example",
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
		"no Sessions":    func(c *Config) { c.Sessions = nil },
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
