package vault_test

import (
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/vault"
	"keyturn/auth/vault/vaulttest"
)

func BenchmarkSeal(b *testing.B) {
	sealer, g := vault.Sealer{Keys: vaulttest.Keyset(b)}, vaulttest.Grant(time.Now())
	for b.Loop() {
		if _, err := sealer.Seal(g); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	sealer, g := vault.Sealer{Keys: vaulttest.Keyset(b)}, vaulttest.Grant(time.Now())
	sealed, err := sealer.Seal(g)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := sealer.Open(&auth.Grant{ID: g.ID}, sealed); err != nil {
			b.Fatal(err)
		}
	}
}
