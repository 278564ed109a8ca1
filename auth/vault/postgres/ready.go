package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keyturn/auth/vault"
)

// readiness writes nothing, where it may, and lists what the role lacks.
const readiness = `WITH written AS (UPDATE sessions SET seen_at = seen_at WHERE token_hash = '')
	SELECT coalesce(string_agg(lack, ', '), '') FROM (
		SELECT privilege || ' on ' || name
		FROM unnest(ARRAY['sessions', 'grants', 'renewals', 'used_tokens', 'owed_revocations']) AS name,
			unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
		WHERE NOT has_table_privilege(name, privilege)
		UNION ALL SELECT 'EXECUTE on keyturn_now()' WHERE NOT has_function_privilege('keyturn_now()', 'EXECUTE')) AS lacks(lack)`

// probing changes a row of this process's own, which Tidy removes in a while: its commit waits for all that any other waits for, such as a
// synchronous standby.
const probing = `INSERT INTO used_tokens (fingerprint, expires_at) VALUES ('ready ' || $1, $2)
	ON CONFLICT (fingerprint) DO UPDATE SET expires_at = excluded.expires_at`

// errFull says that something did not find room. A row that is changed where it is needs none: no probe would tell.
var errFull = errors.New("the database had no room for something that was to be stored a moment ago")

// Ready says whether the database answers and can be written to.
func (db *DB) Ready(ctx context.Context) error {
	var lacks string
	err := db.one(ctx, into(&lacks), readiness)
	switch {
	case err != nil:
		return err
	case lacks != "":
		return fmt.Errorf("the role that Keyturn connects with lacks privileges: %s", lacks)
	case time.Since(time.Unix(0, db.full.Load())) < vault.AfterOutage:
		return errFull
	case !db.probe.Due():
		return db.probe.Result()
	}
	_, err = db.exec(ctx, probing, db.heir, vault.Micros(db.Now()))
	if errors.Is(err, context.Canceled) {
		db.probe.Undone()
	} else {
		db.probe.Done(err)
	}
	return err
}
