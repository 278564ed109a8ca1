package session

import (
	"context"
	"time"

	"github.com/alexedwards/scs/v2"
)

// Store is what an engine implements for the Manager: scs's Store with contexts. Tokens come to it hashed. CommitCtx updates a
// session that this request loaded and never inserts it again, so that a request in flight cannot bring a signed-out
// session back to life; it keeps Request.Person in columns.
type Store interface {
	scs.Store
	scs.CtxStore
}

// Person is who a session belongs to.
type Person struct {
	GrantID  string
	Provider string
	Subject  string
}

// Request is what the Manager and its Store tell each other about one request.
type Request struct {
	Person Person
	Loaded string    // hash of the token that the store found, "" if none
	SeenAt time.Time // when the session was last seen before this request

	Passive bool // looking is no sign of life
}

type requestKey struct{}

// NewContext returns a context with a fresh record for one request.
func NewContext(ctx context.Context) context.Context {
	return context.WithValue(ctx, requestKey{}, new(Request))
}

// FromContext returns the request's record; outside a request an empty one.
func FromContext(ctx context.Context) *Request {
	if r, ok := ctx.Value(requestKey{}).(*Request); ok {
		return r
	}
	return new(Request)
}
