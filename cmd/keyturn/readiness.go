package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"keyturn/auth/vault"
	"keyturn/auth/vault/keyset"
	"keyturn/auth/vault/spool"
)

// readiness returns what says which parts fail that requests need. The providers are none of them: without one, people who are
// signed in at another are served. Parts to exclude are not looked at: what fails for all replicas alike is no reason to send people to
// none.
func (s *site) readiness(log *slog.Logger, db database, unstored *spool.Dir) func(ctx context.Context, exclude []string) []string {
	parts := []struct {
		name  string
		check func(context.Context) error
	}{
		{"database", db.Ready},
		{"migrations", db.Migrated},
		{"keyset", func(context.Context) error { return s.keyset.check() }},
		{"spool", func(context.Context) error { return unstored.Check() }},
	}
	return func(ctx context.Context, exclude []string) (failing []string) {
		if s.draining.Load() {
			return []string{"stopping"}
		}
		for _, part := range parts {
			if slices.Contains(exclude, part.name) {
				continue
			}
			if err := part.check(ctx); err != nil {
				log.WarnContext(ctx, "not ready", "part", part.name, "error", err)
				failing = append(failing, part.name)
			}
		}
		return failing
	}
}

// keysetEvery is how often the keyset is looked at with nobody asking. It is well below the time that a key is kept for after another
// took its place.
const keysetEvery = 10 * time.Second

// keysetWatch notices a keyset that has become another one than the grants need, be it that the file changed, or that another
// replica seals with a key that is not in it.
type keysetWatch struct {
	lifetime time.Duration // of sessions
	keys     *keyset.File
	db       database
	log      *slog.Logger
	unknown  atomic.Uint32 // a key that sealed grants and is not in the keyset; 0: none that is known of
}

// run looks until ctx is done, and says what changes.
func (w *keysetWatch) run(ctx context.Context) {
	ticker := time.NewTicker(keysetEvery)
	defer ticker.Stop()
	said := ""
	for {
		w.look(ctx)
		switch err := w.check(); {
		case err != nil && err.Error() != said:
			said = err.Error()
			w.log.ErrorContext(ctx, "the keyset cannot be used as it is now", "error", err)
		case err == nil && said != "":
			said = ""
			w.log.InfoContext(ctx, "the keyset can be used again")
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// look asks the database for what this keyset would not open. While it does not answer, what is known stays.
func (w *keysetWatch) look(ctx context.Context) {
	err := checkKeys(ctx, w.lifetime, w.keys, w.db)
	var unknown vault.UnknownKeyError
	if errors.As(err, &unknown) {
		w.unknown.Store(uint32(unknown))
	} else if err == nil {
		w.unknown.Store(0)
	}
}

// check says what is wrong with the keyset.
func (w *keysetWatch) check() error {
	if err := w.keys.Check(); err != nil {
		return err
	}
	if id := w.unknown.Load(); id != 0 && !w.keys.Has(id) {
		return vault.UnknownKeyError(id)
	}
	return nil
}
