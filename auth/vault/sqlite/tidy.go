package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"
)

const (
	marksEvery = time.Second      // how often last-seen marks are written
	tidyEvery  = time.Minute      // how often what has ended is removed
	tidyBatch  = 200              // rows at a time, so that no lock is felt
	orphanAge  = 10 * time.Minute // a sign-in stores its grant a moment before its session
)

// marks collects last-seen marks, so that reading a session writes nothing.
type marks struct {
	mu      sync.Mutex
	pending map[string]time.Time // by session hash
}

func (m *marks) seen(hash string, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pending == nil {
		m.pending = map[string]time.Time{}
	}
	m.pending[hash] = at
}

func (m *marks) take() map[string]time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := m.pending
	m.pending = nil
	return taken
}

// keepTidy writes marks and removes what has ended until ctx is done; the last marks are written then.
func (db *DB) keepTidy(ctx context.Context) {
	mark, tidy := time.NewTicker(marksEvery), time.NewTicker(tidyEvery)
	defer mark.Stop()
	defer tidy.Stop()
	for {
		select {
		case <-mark.C:
			db.report(db.writeMarks(ctx))
			db.report(db.freeLeases(ctx))
		case <-tidy.C:
			db.report(db.Tidy(ctx))
		case <-ctx.Done():
			db.report(db.writeMarks(context.WithoutCancel(ctx)))
			return
		}
	}
}

func (db *DB) report(err error) {
	if err != nil {
		db.Log.Error("database upkeep failed; it is tried again", "error", err)
	}
}

func (db *DB) writeMarks(ctx context.Context) error {
	marks := db.marks.take()
	if len(marks) == 0 {
		return nil
	}
	return db.inTx(ctx, func(tx *writer) error {
		for hash, at := range marks {
			if _, err := tx.Exec(`UPDATE sessions SET seen_at = ? WHERE token_hash = ?`, micros(at), hash); err != nil {
				return err
			}
			_, err := tx.Exec(`UPDATE grants SET seen_at = ?
				WHERE id = (SELECT grant_id FROM sessions WHERE token_hash = ?)`, micros(at), hash)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Tidy removes sessions that have expired or idled away, grants whose session is gone, and used tokens that would be refused as
// too old by now, in small batches.
func (db *DB) Tidy(ctx context.Context) error {
	now := db.Now()
	for _, removal := range []struct {
		statement string
		args      []any
	}{
		{`DELETE FROM sessions WHERE token_hash IN (SELECT token_hash FROM sessions WHERE expires_at <= ? LIMIT ?)`, []any{micros(now), tidyBatch}},
		{`DELETE FROM sessions WHERE token_hash IN (SELECT token_hash FROM sessions WHERE seen_at <= ? LIMIT ?)`, []any{db.seenSince(now), tidyBatch}},
		{`DELETE FROM grants WHERE id IN (SELECT id FROM grants WHERE created_at <= ?
			AND NOT EXISTS (SELECT 1 FROM sessions WHERE sessions.grant_id = grants.id) LIMIT ?)`, []any{micros(now.Add(-orphanAge)), tidyBatch}},
		{`DELETE FROM used_tokens WHERE fingerprint IN (SELECT fingerprint FROM used_tokens WHERE expires_at <= ? LIMIT ?)`, []any{micros(now), tidyBatch}},
	} {
		if err := db.removeAll(ctx, removal.statement, removal.args); err != nil {
			return err
		}
	}
	return nil
}

func (db *DB) removeAll(ctx context.Context, statement string, args []any) error {
	for {
		var n int64
		err := db.inTx(ctx, func(tx *writer) (err error) {
			n, err = affected(tx.Exec(statement, args...))
			return err
		})
		if err != nil || n < tidyBatch {
			return err
		}
	}
}

// Reseal seals every grant anew with the primary key, and returns how many, and how many no key opens. A grant
// that changes meanwhile keeps what was written then.
func (db *DB) Reseal(ctx context.Context) (resealed, unreadable int, err error) {
	after := ""
	for {
		var id string
		var sealed []byte
		err := db.read.QueryRowContext(ctx, `SELECT id, sealed FROM grants WHERE id > ? ORDER BY id LIMIT 1`, after).Scan(&id, &sealed)
		if errors.Is(err, sql.ErrNoRows) {
			return resealed, unreadable, nil
		}
		if err != nil {
			return resealed, unreadable, err
		}
		after = id
		anew, err := db.Sealer.Reseal(id, sealed)
		if err != nil {
			unreadable++
			continue
		}
		err = db.inTx(ctx, func(tx *writer) error {
			n, err := affected(tx.Exec(`UPDATE grants SET sealed = ? WHERE id = ? AND sealed = ?`, anew, id, sealed))
			resealed += int(n)
			return err
		})
		if err != nil {
			return resealed, unreadable, err
		}
	}
}
