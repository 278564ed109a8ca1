package postgres

import (
	"context"
	"time"

	"keyturn/auth"
	"keyturn/auth/vault"
)

// turnHasCome is the condition that it is an owed revocation's turn, by the database's clock. One whose turn is later than any could be
// ($1) was put off before the clock was set back.
const turnHasCome = `(next_try <= keyturn_now() OR next_try > keyturn_now() + $1)`

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
	return many(ctx, db, vault.ScanIDs, `SELECT DISTINCT provider FROM owed_revocations WHERE `+turnHasCome, lastTurn)
}

// TakeOwed implements auth.Vault.
func (db *DB) TakeOwed(ctx context.Context, provider string, wait time.Duration, limit int) ([]auth.Owed, error) {
	return many(ctx, db, db.Sealer.ScanAllOwed, `UPDATE owed_revocations SET next_try = keyturn_now() + $2 WHERE id IN (
			SELECT id FROM owed_revocations WHERE provider = $3 AND `+turnHasCome+` ORDER BY next_try LIMIT $4 FOR UPDATE SKIP LOCKED)
		RETURNING id, provider, subject, sealed, keyturn_now() - owed_since`, lastTurn, wait.Microseconds(), provider, limit)
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
