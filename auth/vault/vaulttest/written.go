package vaulttest

import (
	"reflect"
	"testing"
	"time"

	"keyturn/auth"
)

// WritesWhatIsRead checks that a grant which an engine remembers because it has just written it is the one that another process reads
// and opens. keys counts what writer seals and opens.
func WritesWhatIsRead(t *testing.T, g *auth.Grant, writer, reader auth.Vault, keys *CountingKeys) {
	t.Helper()
	leased, err := writer.Lease(t.Context(), g.ID, "me", time.Minute)
	must(t, err)
	next, record := Renewed(leased, time.Now())
	next.Tokens.IssuedAt = time.Now()
	next.Tokens.ExpiresAt = next.Tokens.IssuedAt.Add(time.Hour + time.Nanosecond)
	next.Tokens.RefreshExpiresAt = next.Tokens.ExpiresAt.In(time.FixedZone("east", 3600))
	next.DueAt, next.Standing.AutomaticAt = next.Tokens.IssuedAt.Add(time.Minute), time.Now()
	next.Standing.NextTry = time.Now().Add(time.Second)
	must(t, writer.Replace(t.Context(), "me", next, record))
	before := keys.Asked()
	remembered, err := writer.Get(t.Context(), g.ID)
	must(t, err)
	if n := keys.Asked() - before; n != 0 {
		t.Errorf("what was written is opened %d times", n)
	}
	read, err := reader.Get(t.Context(), g.ID)
	must(t, err)
	if !reflect.DeepEqual(remembered, read) || read.Generation != next.Generation {
		t.Errorf("remembered\n%#v\nread\n%#v", plain(remembered), plain(read))
	}
}
