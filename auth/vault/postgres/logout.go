package postgres

import (
	"context"

	"keyturn/auth"
	"keyturn/auth/vault"
)

// Concerned implements auth.Vault. Each of its statements is a range of one index.
func (db *DB) Concerned(ctx context.Context, at auth.ProviderSession, limit int) ([]*auth.Grant, error) {
	if at.Subject == "" && at.SID != "" {
		return many(ctx, db, vault.ScanConcerned, `SELECT id, session_hash FROM grants WHERE provider = $1 AND sid = $2 AND sid <> '' LIMIT $3`,
			at.Provider, at.SID, limit)
	}
	return many(ctx, db, vault.ScanConcerned, `SELECT id, session_hash FROM grants
		WHERE provider = $1 AND subject = $2 AND ($3 = '' OR sid IN ($3, '')) LIMIT $4`, at.Provider, at.Subject, at.SID, limit)
}
