package auth

import (
	"context"
	"errors"
	"time"
)

// Errors of a Vault. Any other error is the storage's, and says nothing about the grant.
var (
	ErrNotFound   = errors.New("no such grant")
	ErrLeased     = errors.New("the grant is leased to another owner")
	ErrStale      = errors.New("the grant is not what the write came from")
	ErrUnreadable = errors.New("the grant does not open with the present keyset")
)

// Vault is where grants are kept, sealed. Implementations are safe for concurrent use, by several processes too; what
// they return is the caller's own. Writes are on disk when they return.
type Vault interface {
	// Create stores a new grant, which holds no lease.
	Create(ctx context.Context, g *Grant) error
	// Get reads a grant; ErrNotFound when it is gone, ErrUnreadable when its seal does not open.
	Get(ctx context.Context, id string) (*Grant, error)

	// Lease gives owner the sole right to renew the grant for the time ttl, and returns the grant as it is under the
	// lease. ErrLeased while another owner's lease runs, ErrNotFound when the grant is gone. An owner may lease again.
	Lease(ctx context.Context, id, owner string, ttl time.Duration) (*Grant, error)
	// Extend makes owner's lease run for ttl from now; ErrStale when owner holds it no more.
	Extend(ctx context.Context, id, owner string, ttl time.Duration) error
	// Present marks the refresh token as being presented now; ErrStale when owner holds the lease no more.
	Present(ctx context.Context, id, owner string, at time.Time) error
	// Release ends owner's lease, and the mark of Present, without a change; no error if owner held none.
	Release(ctx context.Context, id, owner string) error

	// Replace stores what a renewal left, together with its record, in one transaction, and ends the lease. It
	// replaces exactly the generation that it came from: a grant whose Generation is one up replaces the one before
	// it, a failed try's replaces its own. ErrStale when the stored generation is another or owner lost the lease,
	// ErrNotFound when the grant is gone. It sets the record's ID.
	Replace(ctx context.Context, owner string, g *Grant, r *Renewal) error
	// Amend stores a grant again at its generation, and the record of the renewal that made it, without a lease.
	// ErrStale and ErrNotFound as with Replace.
	Amend(ctx context.Context, g *Grant, r *Renewal) error

	// Delete removes a grant, its lease and its history, and returns it as it was; ErrNotFound when it is gone. A grant
	// that does not open is removed as well and comes back without identity and tokens.
	Delete(ctx context.Context, id string) (*Grant, error)
	// History lists the newest renewals of a grant, newest first, at most limit, those older than the record before
	// when before is not 0.
	History(ctx context.Context, id string, before int64, limit int) ([]Renewal, error)
}
