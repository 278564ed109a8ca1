package vault

import (
	"errors"
	"fmt"
	"time"

	"keyturn/auth"
)

// OwedColumns are the columns of an owed revocation.
const OwedColumns = `id, provider, subject, sealed, owed_since, next_try`

// SelectOwing is the query for the providers of owed revocations whose turn has come by the expression now. One whose turn is later than
// any could be, by lastTurn, was put off before the clock was set back. It goes from provider to provider, and looks at the ends of their
// queues: there may be a hundred thousand in one.
func SelectOwing(now, lastTurn string) string {
	return `WITH RECURSIVE providers (provider) AS (
			SELECT min(provider) FROM owed_revocations
			UNION ALL
			SELECT (SELECT min(o.provider) FROM owed_revocations o WHERE o.provider > p.provider) FROM providers p WHERE p.provider IS NOT NULL
		)
		SELECT provider FROM providers p WHERE (SELECT min(next_try) FROM owed_revocations o WHERE o.provider = p.provider) <= ` + now + `
			OR (SELECT max(next_try) FROM owed_revocations o WHERE o.provider = p.provider) > ` + now + ` + ` + lastTurn
}

// ScanOwed reads and opens an owed revocation from a row of id, provider, subject, sealed and for how long it has been owed, in
// microseconds. One that does not open comes without tokens.
func (s Sealer) ScanOwed(row Row) (auth.Owed, error) {
	owed := auth.Owed{Grant: &auth.Grant{}}
	g := owed.Grant
	var sealed []byte
	var us int64
	if err := row.Scan(&g.ID, &g.Identity.Provider, &g.Identity.Subject, &sealed, &us); err != nil {
		return auth.Owed{}, fmt.Errorf("read owed revocation: %w", err)
	}
	owed.For = time.Duration(us) * time.Microsecond
	if err := s.Open(g, sealed); err != nil && !errors.Is(err, auth.ErrUnreadable) {
		return auth.Owed{}, err
	}
	return owed, nil
}

// ScanAllOwed is ScanOwed of every row.
func (s Sealer) ScanAllOwed(rows Rows) ([]auth.Owed, error) {
	return scanAll(rows, "find owed revocations", func(into *auth.Owed) (err error) {
		*into, err = s.ScanOwed(rows)
		return err
	})
}
