package sqlite

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/vault/vaulttest"
)

// The mark of a token call that takes long is on disk while it is under way: a machine that dies then finds the outcome unknown. What
// is stored with a wait for the disk takes it along; a write that changes nothing does not.
func TestAMarkIsOnDiskSoon(t *testing.T) {
	t.Parallel()
	db := open(t, vaulttest.NewClock())
	flushed := make(chan struct{}, 1)
	f := newFlusher(func() {
		db.flush()
		flushed <- struct{}{}
	})
	db.writer.flusher = f
	pending := func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.pending
	}
	g := create(t, db)
	if pending() {
		t.Error("a grant that is created is in memory only")
	}
	if err := db.Claim(t.Context(), g, "me", time.Minute, db.clock.Now()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-flushed:
	case <-time.After(10 * time.Second):
		t.Fatal("the mark is in memory only")
	}
	for name, write := range map[string]func() error{
		"a look whether it is ready": func() error { return db.Ready(t.Context()) },
		"a renewal of another's": func() error {
			next, record := vaulttest.Renewed(g, db.clock.Now())
			if err := db.Replace(t.Context(), "another", next, record); !errors.Is(err, auth.ErrStale) {
				return fmt.Errorf("stored: %w", err)
			}
			return nil
		},
	} {
		_ = db.Ready(t.Context()) // the next one writes no page
		if err := db.Extend(t.Context(), g.ID, "me", time.Minute); err != nil {
			t.Fatal(err)
		}
		if err := write(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-flushed:
		case <-time.After(10 * time.Second):
			t.Errorf("the mark is in memory only after %s, which changed nothing", name)
		}
	}
	next, record := vaulttest.Renewed(g, db.clock.Now())
	if err := errors.Join(db.Extend(t.Context(), g.ID, "me", time.Minute), db.Replace(t.Context(), "me", next, record)); err != nil {
		t.Fatal(err)
	}
	if pending() {
		t.Error("after new tokens were stored something is in memory only")
	}
	var level int
	if err := db.writer.conn.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&level); err != nil || level != 2 { // FULL
		t.Errorf("new tokens are stored with synchronous=%d, %v", level, err)
	}
	other, sessions := create(t, db), db.Sessions()
	for _, c := range []struct {
		name  string
		write func() error
	}{
		{"a session that begins", func() error { return sessions.CommitCtx(t.Context(), "h", []byte("{}"), db.clock.Now().Add(time.Hour)) }},
		{"a session that ends", func() error { return sessions.DeleteCtx(t.Context(), "h") }},
		{"a grant that ends", func() error { _, err := db.End(t.Context(), g.ID, time.Minute); return err }},
		{"a grant that is removed", func() error { _, err := db.Delete(t.Context(), other.ID); return err }},
		{"a logout token that is used", func() error { _, err := db.Use(t.Context(), "token", db.clock.Now().Add(time.Hour)); return err }},
	} {
		if err := c.write(); err != nil || pending() {
			t.Errorf("%s is in memory only: %v, %v", c.name, pending(), err)
		}
	}
}
