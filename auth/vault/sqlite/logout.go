package sqlite

import (
	"context"

	"keyturn/auth"
	"keyturn/auth/vault"
)

const selectConcerned = `SELECT id, session_hash FROM grants`

// Concerned implements auth.Vault. Each of its statements is a range of one index.
func (db *DB) Concerned(ctx context.Context, at auth.ProviderSession, limit int) ([]*auth.Grant, error) {
	if at.Subject == "" && at.SID != "" {
		return many(ctx, db, vault.ScanConcerned,
			selectConcerned+` INDEXED BY grants_sid WHERE provider = ? AND sid = ? AND sid <> '' LIMIT ?`, at.Provider, at.SID, limit)
	}
	return many(ctx, db, vault.ScanConcerned,
		selectConcerned+` INDEXED BY grants_person WHERE provider = ?1 AND subject = ?2 AND (?3 = '' OR sid IN (?3, '')) LIMIT ?4`,
		at.Provider, at.Subject, at.SID, limit)
}
