package vault

import (
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"keyturn/auth"
)

// GrantColumns are the columns of a grant that GrantValues fills, in its order.
const GrantColumns = `id, session_hash, provider, subject, sealed, generation, state, due_at, issued_at, created_at, seen_at,
	user_agent, ip, sid`

// RenewalColumns are the columns of a renewal that RenewalValues fills, in its order. ScanRenewals reads them after the id.
const RenewalColumns = `grant_id, generation, at, trigger_name, outcome, micros, code, detail, warning,
	old_token, new_token, old_refresh, new_refresh, old_scope, new_scope, old_expiry, new_expiry, shared`

// Row is one row of a result, whichever driver read it.
type Row interface{ Scan(dest ...any) error }

// Rows are the rows of a result. Who asked for them closes them.
type Rows interface {
	Row
	Next() bool
	Err() error
}

// Micros is a time as the engines store it: microseconds since 1970 UTC, 0 for the zero time.
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// FromMicros is the inverse of Micros.
func FromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// IdleMicros is how old the last-seen mark of a session grows before the session has idled away, in microseconds: a bound that is not
// positive bounds nothing. A session that is in use does not end because its mark is not of its latest request.
func IdleMicros(idle time.Duration) int64 {
	if idle <= 0 {
		return math.MaxInt64 / 2
	}
	return IdlesAt(time.UnixMicro(0), idle).UnixMicro()
}

// IdlesAt is when a session has idled away that was seen at seen the last time; zero: never.
func IdlesAt(seen time.Time, idle time.Duration) time.Time {
	if idle <= 0 {
		return time.Time{}
	}
	return seen.Add(idle + TouchEvery(idle))
}

// SeenFrom is from when on, at the least, a session counts as seen that expires at expiry: one in which nobody is signed in, and
// somebody is perhaps about to, does not idle away. 0 leaves that to when it is seen.
func SeenFrom(grantID string, expiry time.Time, idle time.Duration) int64 {
	if grantID != "" {
		return 0
	}
	return max(0, Micros(expiry)-IdleMicros(idle))
}

// State is the grant's state in storage: active, refused or ended.
func State(g *auth.Grant) string {
	switch {
	case g.Ended():
		return "ended"
	case g.Standing.Refused:
		return "refused"
	default:
		return "active"
	}
}

// Latest is the latest moment that a grant is known to have lived to: one from the future betrays a clock that was set back.
func Latest(g *auth.Grant) time.Time {
	if g.Standing.TriedAt.After(g.Tokens.IssuedAt) {
		return g.Standing.TriedAt
	}
	return g.Tokens.IssuedAt
}

// GrantValues are the values of GrantColumns.
func GrantValues(g *auth.Grant, sealed []byte) []any {
	return []any{
		g.ID, g.SessionHash, g.Identity.Provider, g.Identity.Subject, sealed, g.Generation, State(g), Micros(g.DueAt),
		Micros(Latest(g)), Micros(g.CreatedAt), Micros(g.SeenAt), g.UserAgent, g.IP, g.SID(),
	}
}

// ScanGrant reads and opens a grant from a row of id, session_hash, provider, subject, sealed, generation, due_at,
// presenting_at, created_at, seen_at, user_agent, ip, revision and, last, when its lease ends, which leasedUntil turns into a time.
// The statement may leave sealed NULL where the row is still at the revision of known, the grant as it was read before.
func (s Sealer) ScanGrant(row Row, leasedUntil func(us int64) time.Time, known *auth.Grant) (*auth.Grant, error) {
	g, sealed, err := scanGrant(row, leasedUntil)
	if err != nil {
		return nil, err
	}
	if sealed == nil && known != nil && known.ID == g.ID && known.Revision == g.Revision {
		share(known, g)
		return g, nil
	}
	return g, s.Open(g, sealed)
}

// ScanWritten reads the row that a statement has just written of a grant, without what is sealed, which is the grant's own.
func ScanWritten(row Row, leasedUntil func(us int64) time.Time, written *auth.Grant) (*auth.Grant, error) {
	g, _, err := scanGrant(row, leasedUntil)
	if err == nil {
		share(written, g)
		asSealed(g)
	}
	return g, err
}

func scanGrant(row Row, leasedUntil func(us int64) time.Time) (*auth.Grant, []byte, error) {
	var g auth.Grant
	var sealed []byte
	var due, presenting, leased, created, seen int64
	err := row.Scan(&g.ID, &g.SessionHash, &g.Identity.Provider, &g.Identity.Subject, &sealed, &g.Generation, &due, &presenting,
		&created, &seen, &g.UserAgent, &g.IP, &g.Revision, &leased)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil, auth.ErrNotFound
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read grant: %w", err)
	}
	g.DueAt, g.PresentingAt, g.LeasedUntil = FromMicros(due), FromMicros(presenting), leasedUntil(leased)
	g.CreatedAt, g.SeenAt = FromMicros(created), FromMicros(seen)
	return &g, sealed, nil
}

// RenewalValues are the values of RenewalColumns. A scope that no database takes may be sealed in a grant, or in the spool.
func RenewalValues(r *auth.Renewal) []any {
	return []any{
		r.GrantID, r.Generation, Micros(r.At), r.Trigger, r.Outcome, r.Duration.Microseconds(), r.Code, r.Detail, r.Warning,
		r.OldToken, r.NewToken, r.OldRefresh, r.NewRefresh, auth.Storable(r.OldScope), auth.Storable(r.NewScope),
		Micros(r.OldExpiry), Micros(r.NewExpiry), r.Shared,
	}
}

// ScanRenewals reads rows of id and RenewalColumns.
func ScanRenewals(rows Rows) ([]auth.Renewal, error) {
	return scanAll(rows, "read history", func(r *auth.Renewal) error {
		var at, us, oldExpiry, newExpiry int64
		err := rows.Scan(&r.ID, &r.GrantID, &r.Generation, &at, &r.Trigger, &r.Outcome, &us, &r.Code, &r.Detail, &r.Warning,
			&r.OldToken, &r.NewToken, &r.OldRefresh, &r.NewRefresh, &r.OldScope, &r.NewScope, &oldExpiry, &newExpiry, &r.Shared)
		r.At, r.Duration = FromMicros(at), time.Duration(us)*time.Microsecond
		r.OldExpiry, r.NewExpiry = FromMicros(oldExpiry), FromMicros(newExpiry)
		return err
	})
}

// ScanCandidates reads rows of id and due_at.
func ScanCandidates(rows Rows) ([]auth.Candidate, error) {
	return scanAll(rows, "find grants to renew", func(c *auth.Candidate) error {
		var due int64
		err := rows.Scan(&c.ID, &due)
		c.DueAt = FromMicros(due)
		return err
	})
}

// ScanSessions reads rows of id, session_hash, provider, subject, generation, created_at, seen_at, user_agent and ip.
func ScanSessions(rows Rows) ([]*auth.Grant, error) {
	return scanAll(rows, "list sessions", func(into **auth.Grant) error {
		g := &auth.Grant{}
		var created, seen int64
		err := rows.Scan(&g.ID, &g.SessionHash, &g.Identity.Provider, &g.Identity.Subject, &g.Generation, &created, &seen, &g.UserAgent, &g.IP)
		g.CreatedAt, g.SeenAt = FromMicros(created), FromMicros(seen)
		*into = g
		return err
	})
}

// ScanIDs reads rows of id.
func ScanIDs(rows Rows) ([]string, error) {
	return scanAll(rows, "find grants", func(into *string) error { return rows.Scan(into) })
}

// ScanData reads rows of data.
func ScanData(rows Rows) ([][]byte, error) {
	return scanAll(rows, "read sessions", func(into *[]byte) error { return rows.Scan(into) })
}

// ScanConcerned reads rows of id and session_hash.
func ScanConcerned(rows Rows) ([]*auth.Grant, error) {
	return scanAll(rows, "find the grants of a session", func(into **auth.Grant) error {
		*into = &auth.Grant{}
		return rows.Scan(&(*into).ID, &(*into).SessionHash)
	})
}

// scanAll reads every row with scan; what names what is being done in an error.
func scanAll[T any](rows Rows, what string, scan func(*T) error) ([]T, error) {
	var list []T
	for rows.Next() {
		var one T
		if err := scan(&one); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		list = append(list, one)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return list, nil
}
