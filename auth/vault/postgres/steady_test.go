package postgres

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/vault/postgres/pgtest"
	"keyturn/auth/vault/vaulttest"
)

// A database that answers, and takes no writes, keeps holders from extending their leases as well as one that is gone.
func TestAfterWritesFailedALeaseThatRanOutIsItsHoldersFirst(t *testing.T) {
	t.Parallel()
	url, keys := pgtest.Database(t), vaulttest.Keyset(t)
	holder, other := connect(t, url, keys), connect(t, url, keys)
	for code, waits := range map[string]bool{
		"25006": true, "53100": true, "55P03": true, "57014": true, "58030": true, // read-only, full, locked, too slow, a disk that fails
		"22012": false, // a division by zero
	} {
		g := create(t, holder)
		if _, err := holder.Lease(t.Context(), g.ID, "holder", time.Millisecond); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
		other.calm()
		if _, err := other.exec(t.Context(), fmt.Sprintf(`DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '%s'; END $$`, code)); err == nil {
			t.Fatal("nothing failed")
		}
		if _, err := other.Lease(t.Context(), g.ID, "other", time.Second); errors.Is(err, auth.ErrLeased) != waits {
			t.Errorf("after %s: %v", code, err)
		}
	}
}
