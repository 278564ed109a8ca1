package sqlite

import (
	"context"
	"time"

	"keyturn/auth"
	"keyturn/auth/vault"
)

// live is the condition that a grant has a session that has neither ended nor idled away.
const live = ` AND EXISTS (SELECT 1 FROM sessions s INDEXED BY sessions_grant
		WHERE s.grant_id = g.id AND s.grant_id <> '' AND s.expires_at > ? AND s.seen_at > ?)`

const (
	selectDue = `SELECT g.id, g.due_at FROM grants g INDEXED BY grants_due
		WHERE g.provider = ? AND g.due_at > 0 AND g.due_at <= ? AND (g.due_at, g.id) > (?, ?) AND g.lease_until <= ?` + live + `
		ORDER BY g.due_at, g.id LIMIT ?`
	selectStrays = `SELECT g.id, g.due_at FROM grants g INDEXED BY grants_issued
		WHERE g.provider = ? AND g.issued_at > ? AND g.due_at > 0 AND g.due_at > ? AND g.lease_until <= ?` + live + `
		ORDER BY g.issued_at LIMIT ?`
	selectStruck = `SELECT g.id, g.due_at FROM grants g INDEXED BY grants_presenting
		WHERE g.provider = ? AND g.presenting_at > 0 AND g.lease_until <= ? AND g.state = 'active'` + live + `
		ORDER BY g.presenting_at LIMIT ?`
	selectOverdue = `SELECT g.id, g.due_at FROM grants g INDEXED BY grants_due
		WHERE g.provider = ? AND g.due_at > 0 AND g.due_at <= ?` + live + `
		ORDER BY g.due_at, g.id LIMIT ?`
)

// Due implements auth.Vault. Each of its two statements is a range of one index.
func (db *DB) Due(ctx context.Context, provider string, now time.Time, after auth.Candidate, limit int) ([]auth.Candidate, error) {
	at, seen := vault.Micros(now), db.seenSince(now)
	list, err := db.candidates(ctx, selectDue, provider, at, vault.Micros(after.DueAt), after.ID, at, at, seen, limit)
	if err != nil || after.ID != "" || len(list) == limit {
		return list, err
	}
	strays, err := db.candidates(ctx, selectStrays, provider, vault.Micros(now.Add(auth.ClockTolerance)), at, at, at, seen, limit-len(list))
	return append(list, strays...), err
}

// Overdue lists grants of a provider that are due at now and have a live session, whoever holds their leases, the longest due first, at most
// limit.
func (db *DB) Overdue(ctx context.Context, provider string, now time.Time, limit int) ([]auth.Candidate, error) {
	at := vault.Micros(now)
	return db.candidates(ctx, selectOverdue, provider, at, at, db.seenSince(now), limit)
}

// Struck implements auth.Vault.
func (db *DB) Struck(ctx context.Context, provider string, limit int) ([]auth.Candidate, error) {
	now := db.heedClock() // who takes no lease would not know of a clock that was set before
	return db.candidates(ctx, selectStruck, provider, vault.Micros(now), vault.Micros(now), db.seenSince(now), limit)
}

func (db *DB) candidates(ctx context.Context, query string, args ...any) ([]auth.Candidate, error) {
	return many(ctx, db, vault.ScanCandidates, query, args...)
}
