package postgres

import (
	"context"
	"time"

	"keyturn/auth"
	"keyturn/auth/vault"
)

const (
	// live is the condition that a grant has a session that has neither ended nor idled away; $2 is the idle limit.
	live = ` AND EXISTS (SELECT 1 FROM sessions s WHERE s.grant_id = g.id AND s.grant_id <> ''
			AND s.expires_at > keyturn_now() AND s.seen_at > keyturn_now() - $2)`
	// free is the condition that nobody else holds the lease: what this process has inherited ($4) is its own. $3 says whether one that
	// ran out may be taken.
	free = ` AND (g.lease_owner IN ('', $4) OR $3 AND g.lease_until <= keyturn_now())`

	selectDue = `SELECT g.id, g.due_at FROM grants g
		WHERE g.provider = $1 AND g.due_at > 0 AND g.due_at <= $5 AND (g.due_at, g.id) > ($6, $7)` + free + live + `
		ORDER BY g.due_at, g.id LIMIT $8`
	selectStrays = `SELECT g.id, g.due_at FROM grants g
		WHERE g.provider = $1 AND g.issued_at > $5 AND g.due_at > 0 AND g.due_at > $6` + free + live + `
		ORDER BY g.issued_at LIMIT $7`
	selectStruck = `SELECT g.id, g.due_at FROM grants g
		WHERE g.provider = $1 AND g.presenting_at > 0 AND g.state = 'active'` + free + live + `
		ORDER BY g.presenting_at LIMIT $5`
	selectOverdue = `SELECT g.id, g.due_at FROM grants g
		WHERE g.provider = $1 AND g.due_at > 0 AND g.due_at <= $3` + live + `
		ORDER BY g.due_at, g.id LIMIT $4`
)

// Due implements auth.Vault. Each of its two statements is a range of one index.
func (db *DB) Due(
	ctx context.Context, provider string, now time.Time, after auth.Candidate, limit int,
) ([]auth.Candidate, error) {
	at := vault.Micros(now)
	list, err := db.candidates(ctx, selectDue, provider, at, vault.Micros(after.DueAt), after.ID, limit)
	if err != nil || after.ID != "" || len(list) == limit {
		return list, err
	}
	strays, err := db.candidates(ctx, selectStrays, provider, vault.Micros(now.Add(auth.ClockTolerance)), at, limit-len(list))
	return append(list, strays...), err
}

// Overdue lists grants of a provider that are due at now and have a live session, whoever holds their leases, the longest due first, at most
// limit. Where commits hang, each renewal that does leaves a lease.
func (db *DB) Overdue(ctx context.Context, provider string, now time.Time, limit int) ([]auth.Candidate, error) {
	return many(ctx, db, vault.ScanCandidates, selectOverdue, provider, vault.IdleMicros(db.SessionIdle), vault.Micros(now), limit)
}

// Struck implements auth.Vault.
func (db *DB) Struck(ctx context.Context, provider string, limit int) ([]auth.Candidate, error) {
	err := db.queued(ctx, func(ctx context.Context) error {
		_, err := db.heed(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return db.candidates(ctx, selectStruck, provider, limit)
}

// heed looks whether the database takes writes, and whether its clock was set: who has nothing to write would not know that others could not
// extend their leases. It returns what the database's own clock shows.
func (db *DB) heed(ctx context.Context) (shown time.Time, err error) {
	var readOnly bool
	var now int64
	asked := time.Now()
	err = db.one(ctx, into(&readOnly, &now, &shown),
		`SELECT current_setting('transaction_read_only')::boolean, keyturn_now(), clock_timestamp()`)
	if err != nil {
		return shown, err
	}
	db.steady.Heed(asked, vault.FromMicros(now))
	db.compareClocks(shown, time.Since(asked.Round(0))) // by the clock that is compared, also if the machine slept
	if readOnly {
		db.steady.Wait(vault.AfterOutage)
	}
	return shown, nil
}

// clocksApart is by how much this process's clock and the database's may differ.
const clocksApart = 2 * time.Second

// compareClocks says now and then that the database's clock, which showed that at most so long ago, is not this process's. Leases and sessions
// go by the former, tokens by the latter.
func (db *DB) compareClocks(shown time.Time, ago time.Duration) {
	if apart := db.Now().Sub(shown).Round(time.Millisecond); apart < -clocksApart || apart > clocksApart+ago {
		db.apart.Make(func(int) {
			db.Log.Warn("this machine's clock and the database's are apart; set both by NTP: tokens are renewed too early or too late, "+
				"and id tokens may be refused", "ahead_by", apart)
		})
	}
}

func (db *DB) candidates(ctx context.Context, query, provider string, args ...any) ([]auth.Candidate, error) {
	common := []any{provider, vault.IdleMicros(db.SessionIdle), db.steady.Steady(), db.heir}
	return many(ctx, db, vault.ScanCandidates, query, append(common, args...)...)
}
