package postgres

import (
	"context"
	"time"

	"keyturn/auth"
	"keyturn/auth/vault"
)

var selectOwing = vault.SelectOwing("keyturn_now()", "$1")

// takeOwed takes those first whose turn has come. The others were put off before the clock was set back: see vault.SelectOwing.
const takeOwed = `WITH due AS (
		SELECT id FROM owed_revocations WHERE provider = $3 AND next_try <= keyturn_now() ORDER BY next_try LIMIT $4 FOR UPDATE SKIP LOCKED
	), early AS (
		SELECT id FROM owed_revocations WHERE provider = $3 AND next_try > keyturn_now() + $1 ORDER BY next_try LIMIT $4 FOR UPDATE SKIP LOCKED
	)
	UPDATE owed_revocations SET next_try = keyturn_now() + $2
		WHERE id IN ((SELECT id FROM due UNION ALL SELECT id FROM early) LIMIT $4)
		RETURNING id, provider, subject, sealed, keyturn_now() - owed_since`

var lastTurn = auth.OwedFor.Microseconds()

// End implements auth.Vault.
func (db *DB) End(ctx context.Context, id string, wait time.Duration) (*auth.Grant, error) {
	return db.remove(ctx, `WITH gone AS (
			DELETE FROM grants WHERE id = $1 RETURNING *
		), owed AS (
			INSERT INTO owed_revocations (`+vault.OwedColumns+`)
				SELECT id, provider, subject, sealed, keyturn_now(), keyturn_now() + $2 FROM gone
		)
		SELECT `+grantColumns+` FROM gone`, id, wait.Microseconds())
}

// Owe implements auth.Vault.
func (db *DB) Owe(ctx context.Context, gone *auth.Grant, wait time.Duration) error {
	sealed, err := db.Sealer.Seal(gone)
	if err != nil {
		return err
	}
	_, err = db.exec(ctx, `INSERT INTO owed_revocations (`+vault.OwedColumns+`) VALUES ($1, $2, $3, $4, keyturn_now(), keyturn_now() + $5)`,
		gone.ID, gone.Identity.Provider, gone.Identity.Subject, sealed, wait.Microseconds())
	return err
}

// Owing implements auth.Vault.
func (db *DB) Owing(ctx context.Context) ([]string, error) {
	return many(ctx, db, vault.ScanIDs, selectOwing, lastTurn)
}

// TakeOwed implements auth.Vault.
func (db *DB) TakeOwed(ctx context.Context, provider string, wait time.Duration, limit int) ([]auth.Owed, error) {
	return many(ctx, db, db.Sealer.ScanAllOwed, takeOwed, lastTurn, wait.Microseconds(), provider, limit)
}

// PutOff implements auth.Vault.
func (db *DB) PutOff(ctx context.Context, id string, wait time.Duration) error {
	_, err := db.exec(ctx, `UPDATE owed_revocations SET next_try = keyturn_now() + $2 WHERE id = $1`, id, wait.Microseconds())
	return err
}

// Settle implements auth.Vault. It does not wait for the server's disk: should it be lost, the tokens are revoked twice.
func (db *DB) Settle(ctx context.Context, id string) error {
	_, err := db.exec(ctx, `WITH unhurried AS (SELECT set_config('synchronous_commit', 'off', true))
		DELETE FROM owed_revocations USING unhurried WHERE id = $1`, id)
	return err
}
