package spool

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"keyturn/auth"
	"keyturn/auth/authtest"
)

// storedEntry is what testdata/entry.json holds.
func storedEntry() entry {
	at := func(hour int) time.Time { return time.Date(2026, 3, 1, hour, 0, 0, 0, time.UTC) }
	return entry{
		Grant: auth.Grant{
			ID: "18NI81E00TOKEN", SessionHash: "hash", Identity: auth.Identity{Provider: "work", Subject: "alice"}, Generation: 2,
			DueAt: at(1), CreatedAt: at(2), SeenAt: at(3), UserAgent: "Browser/1", IP: "192.0.2.1",
		},
		Sealed: []byte("sealed"),
		Record: auth.Renewal{
			ID: 7, GrantID: "18NI81E00TOKEN", Generation: 2, Shared: 1, At: at(4), Trigger: auth.TriggerManual, Outcome: auth.OutcomeRotated,
			Duration: 12 * time.Millisecond, Code: "code", Detail: "detail", Warning: auth.CodeReplayed, OldToken: "old token", NewToken: "new token",
			OldRefresh: "old refresh", NewRefresh: "new refresh", OldScope: "old scope", NewScope: "new scope", OldExpiry: at(5), NewExpiry: at(6),
		},
	}
}

// What an earlier version has left in the spool is read, all of it: the names in it are those of another package's fields.
func TestWhatIsSpooledStaysReadable(t *testing.T) {
	t.Parallel()
	e, err := readEntry(filepath.Join("testdata", "entry.json"))
	if err != nil {
		t.Fatal(err)
	}
	e.Grant = outside(e.Grant) // what else there is says nothing, and is read from what is sealed
	if diff := cmp.Diff(storedEntry(), e); diff != "" {
		t.Errorf("of what is stored another entry is read (-stored +read):\n%s", diff)
	}
	if names := authtest.Unfilled(e.Record); len(names) > 0 {
		t.Errorf("testdata/entry.json lacks %v: add what is new to it, and change nothing that is there", names)
	}
}
