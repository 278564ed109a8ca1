package main

import (
	"context"
	"log/slog"

	"keyturn/auth/vault/keyset"
)

// readiness returns what says which parts fail that requests need. The providers are none of them: without one, people who are
// signed in at another are served.
func (s *site) readiness(log *slog.Logger, db database, keys *keyset.File) func(context.Context) []string {
	parts := []struct {
		name  string
		check func(context.Context) error
	}{
		{"database", db.Ready},
		{"migrations", db.Migrated},
		{"keyset", func(context.Context) error { _, err := keys.AEAD(true); return err }},
	}
	return func(ctx context.Context) (failing []string) {
		if s.draining.Load() {
			return []string{"stopping"}
		}
		for _, part := range parts {
			if err := part.check(ctx); err != nil {
				log.WarnContext(ctx, "not ready", "part", part.name, "error", err)
				failing = append(failing, part.name)
			}
		}
		return failing
	}
}
