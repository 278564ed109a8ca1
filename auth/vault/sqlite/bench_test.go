package sqlite

import (
	"testing"
	"time"

	"keyturn/auth/vault/vaulttest"
)

func BenchmarkGet(b *testing.B) {
	db := open(b, vaulttest.NewClock())
	g := create(b, db)
	for b.Loop() {
		if _, err := db.Get(b.Context(), g.ID); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFindSession(b *testing.B) {
	db := open(b, vaulttest.NewClock())
	if err := db.Sessions().CommitCtx(b.Context(), "h", []byte(`{"deadline":1}`), db.clock.Now().Add(time.Hour)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, ok, err := db.Sessions().FindCtx(b.Context(), "h"); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

// BenchmarkRenewal is what a renewal reads and writes: the grant, the claim, and the new tokens with their record.
func BenchmarkRenewal(b *testing.B) {
	db := open(b, vaulttest.NewClock())
	g := create(b, db)
	for b.Loop() {
		seen, err := db.Get(b.Context(), g.ID)
		if err != nil {
			b.Fatal(err)
		}
		if err := db.Claim(b.Context(), seen, "me", time.Minute, db.clock.Now()); err != nil {
			b.Fatal(err)
		}
		next, record := vaulttest.Renewed(seen, db.clock.Now())
		if err := db.Replace(b.Context(), "me", next, record); err != nil {
			b.Fatal(err)
		}
	}
}
