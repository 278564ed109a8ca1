package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"keyturn/auth"
	"keyturn/auth/vault"
)

var selectOwing = vault.SelectOwing("?1", "?2")

// takeOwed takes the one of a provider, ?3, whose turn came the longest ago, or else one that was put off before the clock was set back: see
// vault.SelectOwing.
const takeOwed = `UPDATE owed_revocations SET next_try = ?4 WHERE id = coalesce(
		(SELECT id FROM owed_revocations WHERE provider = ?3 AND next_try <= ?1 ORDER BY next_try LIMIT 1),
		(SELECT id FROM owed_revocations WHERE provider = ?3 AND next_try > ?1 + ?2 ORDER BY next_try LIMIT 1))
	RETURNING id, provider, subject, sealed, ?1 - owed_since`

var lastTurn = auth.OwedFor.Microseconds()

// End implements auth.Vault.
func (db *DB) End(ctx context.Context, id string, wait time.Duration) (*auth.Grant, error) {
	return db.remove(ctx, id, func(tx *writer) error {
		now := db.Now()
		_, err := tx.Exec(`INSERT INTO owed_revocations (`+vault.OwedColumns+`) SELECT id, provider, subject, sealed, ?, ? FROM grants WHERE id = ?`,
			vault.Micros(now), vault.Micros(now.Add(wait)), id)
		return err
	})
}

// Owe implements auth.Vault.
func (db *DB) Owe(ctx context.Context, gone *auth.Grant, wait time.Duration) error {
	sealed, err := db.Sealer.Seal(gone)
	if err != nil {
		return err
	}
	return db.inTx(ctx, func(tx *writer) error {
		now := db.Now()
		_, err := tx.Exec(`INSERT INTO owed_revocations (`+vault.OwedColumns+`) VALUES (?,?,?,?,?,?)`, gone.ID, gone.Identity.Provider,
			gone.Identity.Subject, sealed, vault.Micros(now), vault.Micros(now.Add(wait)))
		return err
	}, elsewhere)
}

// Owing implements auth.Vault.
func (db *DB) Owing(ctx context.Context) ([]string, error) {
	return many(ctx, db, vault.ScanIDs, selectOwing, vault.Micros(db.Now()), lastTurn)
}

// TakeOwed implements auth.Vault. With the machine goes who would try.
func (db *DB) TakeOwed(ctx context.Context, provider string, wait time.Duration, limit int) (list []auth.Owed, err error) {
	err = db.inLightTx(ctx, func(tx *writer) error {
		list = nil
		for now := db.Now(); len(list) < limit; {
			owed, err := db.Sealer.ScanOwed(tx.QueryRow(takeOwed, vault.Micros(now), lastTurn, provider, vault.Micros(now.Add(wait))))
			if errors.Is(err, sql.ErrNoRows) {
				return nil
			}
			if err != nil {
				return err
			}
			list = append(list, owed)
		}
		return nil
	}, elsewhere)
	if err != nil {
		return nil, err
	}
	return list, nil
}

// PutOff implements auth.Vault.
func (db *DB) PutOff(ctx context.Context, id string, wait time.Duration) error {
	return db.inLightTx(ctx, func(tx *writer) error {
		_, err := tx.Exec(`UPDATE owed_revocations SET next_try = ? WHERE id = ?`, vault.Micros(db.Now().Add(wait)), id)
		return err
	}, elsewhere)
}

// Settle implements auth.Vault. Should it be lost with the machine, the tokens are revoked twice.
func (db *DB) Settle(ctx context.Context, id string) error {
	return db.inLightTx(ctx, func(tx *writer) error {
		_, err := tx.Exec(`DELETE FROM owed_revocations WHERE id = ?`, id)
		return err
	}, elsewhere)
}
