package session

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/alexedwards/scs/v2"
)

// Store is what an engine implements for the Manager: scs's Store with contexts. Tokens come to it hashed. CommitCtx updates a
// session that this request loaded and never inserts it again, so that a request in flight cannot bring a signed-out
// session back to life; it keeps Request.Person in columns. What another request has changed meanwhile stays (Merge), also when this one
// gives the session another token: then DeleteCtx comes before CommitCtx.
type Store interface {
	scs.Store
	scs.CtxStore
}

// ContextStore is the part of Store that an engine writes; Complete makes the rest.
type ContextStore interface {
	FindCtx(ctx context.Context, hash string) (data []byte, found bool, err error)
	CommitCtx(ctx context.Context, hash string, data []byte, expiry time.Time) error
	DeleteCtx(ctx context.Context, hash string) error
}

// Complete returns a Store with the methods that scs asks for and does not call where there are those with a context.
func Complete(s ContextStore) Store { return complete{s} }

type complete struct{ ContextStore }

// Find implements scs.Store.
func (c complete) Find(hash string) ([]byte, bool, error) {
	return c.FindCtx(context.Background(), hash)
}

// Commit implements scs.Store.
func (c complete) Commit(hash string, data []byte, expiry time.Time) error {
	return c.CommitCtx(context.Background(), hash, data, expiry)
}

// Delete implements scs.Store.
func (c complete) Delete(hash string) error { return c.DeleteCtx(context.Background(), hash) }

// Person is who a session belongs to.
type Person struct {
	GrantID  string
	Provider string
	Subject  string
}

// Request is what the Manager and its Store tell each other about one request.
type Request struct {
	Person  Person
	Loaded  string    // hash of the token that the store found, "" if none
	Read    []byte    // the session's data as the store found it
	Left    []byte    // its data when the store deleted it, to be merged into what follows it
	Gone    bool      // it was not there any more when it was to be stored
	SeenAt  time.Time // when the session was last seen before this request
	IdlesAt time.Time // when it ends unless it is seen again; zero: never

	Passive bool // looking is no sign of life

	Beside atomic.Pointer[Beside] // for the engine's own use
}

// Beside is what an engine read together with a session.
type Beside struct {
	What any
	At   time.Time // with a monotonic reading
}

type requestKey struct{}

// requestContext is a context and the record in it: one of the two is never without the other.
type requestContext struct {
	context.Context
	request Request
}

// Value implements context.Context.
func (c *requestContext) Value(key any) any {
	if key == (requestKey{}) {
		return &c.request
	}
	return c.Context.Value(key)
}

// NewContext returns a context with a fresh record for one request.
func NewContext(ctx context.Context) context.Context { return &requestContext{Context: ctx} }

// FromContext returns the request's record; outside a request an empty one.
func FromContext(ctx context.Context) *Request {
	if r, ok := ctx.Value(requestKey{}).(*Request); ok {
		return r
	}
	return new(Request)
}
