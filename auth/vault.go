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
	ErrUnwritable = errors.New("the database takes no writes")
)

// ListedSessions is how many of a person's sessions are listed at most.
const ListedSessions = 200

// Person names a person at a provider. The zero Person is everybody.
type Person struct{ Provider, Subject string }

// Vault is where grants are kept, sealed. Implementations are safe for concurrent use, by several processes too. What
// they return is the caller's own, but the maps in a grant are for reading only. A write is on disk when it returns, unless the
// method says that it may be a moment later: then the machine, or the server, that dies in that moment takes it along. Each call returns
// within some seconds by itself, whatever its context: renewals are not cancelled, and none may hang in one.
type Vault interface {
	// Create stores a new grant, which holds no lease.
	Create(ctx context.Context, g *Grant) error
	// Get reads a grant; ErrNotFound when it is gone, ErrUnreadable when its seal does not open.
	Get(ctx context.Context, id string) (*Grant, error)

	// Lease gives owner the sole right to renew the grant for the time ttl, and returns the grant as it is under the
	// lease. ErrLeased while another owner's lease runs, ErrNotFound when the grant is gone. An owner may lease again. It, and all that is
	// done to a lease or a mark up to Release, may be on disk a moment later where all processes are on one machine, and die with it.
	Lease(ctx context.Context, id, owner string, ttl time.Duration) (*Grant, error)
	// Claim is Lease and Present in one write, for a grant that is as seen was read: at its revision, leased to nobody else and with no
	// refresh token being presented. ErrStale, and nothing written, when it is not.
	Claim(ctx context.Context, seen *Grant, owner string, ttl time.Duration, at time.Time) error
	// Extend makes owner's lease run for ttl from now, also one that has run out and that nobody took since; ErrStale
	// when another owner has.
	Extend(ctx context.Context, id, owner string, ttl time.Duration) error
	// Hold makes the leases of grants, by ID, run for ttl from now, and says of how many: owner's own, those that its process has inherited,
	// and those that others let run out, which become owner's. What has none, or is being written to at the moment, it leaves alone, and what
	// is not at the generation given: its holder may have what comes after a later one.
	Hold(ctx context.Context, generations map[string]int64, owner string, ttl time.Duration) (held int, err error)
	// Present marks the refresh token as being presented at the given time; a mark that is there already stays, because
	// a provider's reuse interval runs from the first time. ErrStale when owner's lease has run out.
	Present(ctx context.Context, id, owner string, at time.Time) error
	// Release ends owner's lease without a change, and leaves the mark of Present; no error if owner held none.
	Release(ctx context.Context, id, owner string) error

	// Replace stores what a renewal left, together with its record, in one transaction, and ends the lease. It
	// replaces exactly the generation that it came from (Renewal.From). ErrStale when the stored generation is another
	// or owner's lease has run out, or the grant has Ended, ErrNotFound when it is gone. It sets the grant's Revision and the record's
	// ID, and clears the mark of Present.
	Replace(ctx context.Context, owner string, g *Grant, r *Renewal) error
	// Amend stores a grant again, and the record of a renewal of it, without a lease, if it is still at the revision that g has.
	// ErrStale and ErrNotFound as with Replace. It sets the grant's Revision. It may be on disk a moment later: what is lost is settled again.
	Amend(ctx context.Context, g *Grant, r *Renewal) error
	// Shared adds n to the count of those who shared the latest renewal that left the grant at a generation. No error if its record is
	// gone. It may be on disk a moment later.
	Shared(ctx context.Context, id string, generation int64, n int) error

	// Person lists the grants of a person's live sessions, the latest seen first, at most ListedSessions. Their tokens and claims are not filled.
	Person(ctx context.Context, provider, subject string) ([]*Grant, error)
	// All lists a person's grants by ID, whether or not their sessions live: those that follow after, which is empty for the first, at
	// most limit. They are filled as Person's.
	All(ctx context.Context, whose Person, after string, limit int) ([]*Grant, error)

	// Beyond lists grants of a person that follow the newest keep of them, at most limit. Only their ID and SessionHash are filled.
	Beyond(ctx context.Context, provider, subject string, keep, limit int) ([]*Grant, error)

	// Concerned lists grants that a provider means by a session of its own, at most limit, whether or not their sessions here live.
	// Only their ID and SessionHash are filled.
	Concerned(ctx context.Context, at ProviderSession, limit int) ([]*Grant, error)
	Uses

	// Due lists grants of a provider that are due at now, have a live session and no lease, the longest due first, at
	// most limit, and only those that follow after, which is zero for the first. Among them are grants whose token set
	// is from the future, because the clock was set back since.
	Due(ctx context.Context, provider string, now time.Time, after Candidate, limit int) ([]Candidate, error)
	// Struck lists grants of a provider that have a live session, and whose refresh token was being presented when the
	// holder of the lease died or lost it, the longest ago first; at most limit.
	Struck(ctx context.Context, provider string, limit int) ([]Candidate, error)

	// Delete removes a grant, its lease and its history, and returns it as it was; ErrNotFound when it is gone. A grant
	// that does not open is removed as well and comes back as much as is in the clear, without tokens.
	Delete(ctx context.Context, id string) (*Grant, error)
	// End is Delete, and leaves in the same transaction an owed revocation of the grant's tokens, whose turn comes in wait.
	End(ctx context.Context, id string, wait time.Duration) (*Grant, error)
	// Owe adds an owed revocation of the tokens of a grant that never was in the vault. Its turn comes in wait.
	Owe(ctx context.Context, gone *Grant, wait time.Duration) error
	// Owing lists the providers of owed revocations whose turn has come.
	Owing(ctx context.Context) ([]string, error)
	// TakeOwed returns owed revocations of a provider whose turn has come, the longest ago first, at most limit. They are the caller's
	// to try until their next turn, which comes in wait. That may be on disk a moment later, as with PutOff and Settle: what is lost has
	// them tried sooner, or once more.
	TakeOwed(ctx context.Context, provider string, wait time.Duration, limit int) ([]Owed, error)
	// PutOff has the next turn of an owed revocation come in wait. No error if it is owed no more.
	PutOff(ctx context.Context, id string, wait time.Duration) error
	// Settle drops an owed revocation. No error if it is owed no more.
	Settle(ctx context.Context, id string) error
	// History lists the newest renewals of a grant, newest first, at most limit, those older than the record before
	// when before is not 0.
	History(ctx context.Context, id string, before int64, limit int) ([]Renewal, error)
}

// Uses remembers what is good once, or holds for a while, for all processes that share the vault: a logout token, a state, a grant that a
// new sign-in has replaced, the former name of a session, one that is about to end or has ended at its provider, or the turn of a request.
type Uses interface {
	// Used says whether Use has been told of what the fingerprint names, and until is not over.
	Used(ctx context.Context, fingerprint string) (bool, error)
	// Lasts says whether what Use was told of is remembered beyond a time.
	Lasts(ctx context.Context, fingerprint string, beyond time.Time) (bool, error)
	// Use remembers until then that it has been used. Of several that tell of the same, first is true for one only.
	Use(ctx context.Context, fingerprint string, until time.Time) (first bool, err error)
	// Keep has what Use was told of remembered until then, if it still is; kept is false when it is not. It may be on disk a moment later.
	Keep(ctx context.Context, fingerprint string, until time.Time) (kept bool, err error)
	// Unuse forgets what Use was told of, which may be used again.
	Unuse(ctx context.Context, fingerprint string) error
}

// Journal is a Vault that is asked what other processes did.
type Journal interface {
	// Changes lists the grants that renewals were recorded for after the record last, and the newest record's ID. With
	// last -1 it lists none.
	Changes(ctx context.Context, last int64) (grants []string, newest int64, err error)
	// Missing are those of the grants that are gone.
	Missing(ctx context.Context, ids []string) ([]string, error)
}

// Announcer is a Vault that tells by itself what other processes do.
type Announcer interface {
	// Listen calls changed with each grant that any process has renewed or ended, and missed when some of that may have gone
	// by unheard: at the beginning, after a gap, and now and then. It returns when ctx is done.
	Listen(ctx context.Context, changed func(grant string), missed func())
}

// Owed is a revocation of the tokens of a grant that is gone, which the provider has not answered for good.
type Owed struct {
	Grant *Grant        // as it was; its tokens, claims and issuer are not filled if it does not open
	For   time.Duration // since it is owed, by the vault's clock
}

// Candidate is a grant that the Scheduler may hand to the Rotator.
type Candidate struct {
	ID    string
	DueAt time.Time
}

// Unstored is what a renewal left and the vault has not taken yet.
type Unstored struct {
	Grant  *Grant
	Record *Renewal
}

// Spool keeps on disk, sealed, what the vault would not take, so that it outlives the process. Implementations are
// safe for concurrent use, by several processes too.
type Spool interface {
	// Put stores an entry in place of an older one of the same grant. It is on disk when Put returns.
	Put(u Unstored) error
	// Find returns the entry of a grant; ErrNotFound when there is none, and ErrUnreadable when nobody will be able to read it.
	Find(id string) (Unstored, error)
	// All returns every entry that can be read. The error says that there are others.
	All() ([]Unstored, error)
	// Remove drops an entry, if it is still there and no other has taken its place.
	Remove(u Unstored) error
}
