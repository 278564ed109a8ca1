package session

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/alexedwards/scs/v2"
)

// Store is what an engine implements for the Manager: scs's Store with contexts. Tokens come to it hashed. CommitCtx updates a
// session that this request loaded and never inserts it again, so that a request in flight cannot bring a signed-out
// session back to life; it keeps Request.Owner in columns. What another request has changed meanwhile stays (Merge), also when this one
// gives the session another token: what Request.Former names goes in the same transaction, and if it is gone already nothing is stored.
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

// Complete returns a Store with the methods that scs asks for and does not call where there are those with a context. What a request has
// stored already is not stored again.
func Complete(s ContextStore) Store { return complete{s} }

type complete struct{ ContextStore }

// saved is what a request has stored, as it left it.
type saved struct {
	hash   string
	data   string
	expiry int64 // µs
	owner  Owner
}

// CommitCtx implements scs.CtxStore.
func (c complete) CommitCtx(ctx context.Context, hash string, data []byte, expiry time.Time) error {
	request := FromContext(ctx)
	now := saved{hash, string(data), expiry.UnixMicro(), request.Owner}
	if request.Gone || request.saved == now {
		return nil
	}
	err := c.ContextStore.CommitCtx(ctx, hash, data, expiry)
	if err == nil {
		request.saved = now
	}
	return err
}

// DeleteCtx implements scs.CtxStore. A session that gets another token is there until it is stored under that.
func (c complete) DeleteCtx(ctx context.Context, hash string) error {
	if FromContext(ctx).Former == hash {
		return nil
	}
	return c.ContextStore.DeleteCtx(ctx, hash)
}

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

// Owner is who a session belongs to.
type Owner struct {
	GrantID  string
	Provider string
	Subject  string
}

// Request is what the Manager and its Store tell each other about one request.
type Request struct {
	Owner   Owner
	Loaded  string    // hash of the token that the store found, "" if none
	Former  string    // hash of the token that the session has until it is stored under the next; "" unless it gets another
	Read    []byte    // the session's data as the store found it, or as this request left it
	Gone    bool      // it was not there any more when it was to be stored, or is to stay as it was: nothing is stored
	Deleted bool      // the store has deleted it
	SeenAt  time.Time // when the session was last seen before this request
	IdlesAt time.Time // when it ends unless it is seen again; zero: never

	Passive bool // looking is no sign of life

	saved saved // what was stored last

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
