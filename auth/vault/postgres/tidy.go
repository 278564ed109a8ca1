package postgres

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"keyturn/auth"
	"keyturn/auth/vault"
)

// writeMarks writes the last-seen marks. Rows that another replica is at are left to it, so that two never wait for each
// other.
func (db *DB) writeMarks(ctx context.Context) error {
	hashes := slices.Collect(maps.Keys(db.marks.Take()))
	if len(hashes) == 0 {
		return nil
	}
	_, err := db.exec(ctx, `WITH seen AS (
			UPDATE sessions SET seen_at = keyturn_now() WHERE token_hash IN
				(SELECT token_hash FROM sessions WHERE token_hash = ANY ($1) FOR UPDATE SKIP LOCKED)
			RETURNING grant_id
		)
		UPDATE grants SET seen_at = keyturn_now() FROM seen WHERE grants.id = seen.grant_id`, hashes)
	return err
}

// usedLonger is for how long what was used stays when it counts no more: by the clock of another process it may count still.
const usedLonger = time.Minute

// Tidy removes sessions that have expired or idled away, with their grants, grants whose session is gone, and what was remembered as used
// until a moment that is over, in small batches.
func (db *DB) Tidy(ctx context.Context) error {
	return errors.Join(
		db.inherit(ctx),
		db.removeSessions(ctx, `expires_at <= keyturn_now() - $2`, 0),
		db.writeMarks(ctx), // a session that was seen a moment ago stays
		db.removeSessions(ctx, `seen_at <= keyturn_now() - $2`, vault.IdleMicros(db.SessionIdle)),
		db.removeOrphans(ctx),
		db.removeAll(ctx, vault.TidyBatch, `DELETE FROM used_tokens WHERE fingerprint IN
			(SELECT fingerprint FROM used_tokens WHERE expires_at <= $2 LIMIT $1 FOR UPDATE SKIP LOCKED)`, vault.Micros(db.Now().Add(-usedLonger))),
	)
}

// removeSessions removes the sessions that are over, and their grants.
func (db *DB) removeSessions(ctx context.Context, over string, since int64) error {
	return db.removeAll(ctx, vault.TidyGrants, `WITH gone AS (
			DELETE FROM sessions WHERE token_hash IN (SELECT token_hash FROM sessions WHERE `+over+` LIMIT $1 FOR UPDATE SKIP LOCKED)
			RETURNING grant_id
		), ended AS (DELETE FROM grants WHERE id IN (SELECT grant_id FROM gone WHERE grant_id <> ''))
		SELECT grant_id FROM gone`, since)
}

// removeOrphans removes grants without a session.
func (db *DB) removeOrphans(ctx context.Context) error {
	now := db.Now()
	from, to := db.orphans.Window(now)
	err := db.removeAll(ctx, vault.TidyGrants, `DELETE FROM grants WHERE id IN (
		SELECT id FROM grants WHERE created_at > $2 AND created_at <= $3
			AND NOT EXISTS (SELECT 1 FROM sessions WHERE sessions.grant_id = grants.id AND sessions.grant_id <> '')
			LIMIT $1 FOR UPDATE SKIP LOCKED)`, vault.Micros(from), vault.Micros(to))
	if err == nil {
		db.orphans.Looked(now, from, to)
	}
	return err
}

func (db *DB) removeAll(ctx context.Context, batch int64, statement string, args ...any) error {
	for {
		n, err := db.exec(ctx, statement, append([]any{batch}, args...)...)
		if err != nil || n < batch {
			return err
		}
	}
}

// inherit takes over the leases under which owners died who presented a refresh token, and whose files are in this process's folder: what
// they had begun is taken up at once, by a process that has their spool. Any other lease of theirs runs out.
func (db *DB) inherit(ctx context.Context) error {
	return db.owners.Bury(func(owner string) error {
		if err := db.owners.Claim(db.heir); err != nil {
			return err
		}
		_, err := db.exec(ctx, `UPDATE grants SET lease_owner = $2, lease_until = keyturn_now() + $3
			WHERE presenting_at > 0 AND lease_owner = $1`, owner, db.heir, auth.LeaseTTL.Microseconds())
		return err
	})
}

func (db *DB) report(err error) {
	if err != nil {
		db.Log.Error("database upkeep failed; it is tried again", "error", err)
	}
}
