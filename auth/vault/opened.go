package vault

import (
	lru "github.com/hashicorp/golang-lru/v2"

	"keyturn/auth"
)

// openedGrants bounds how many grants are remembered.
const openedGrants = 2048

// Opened remembers grants as they were read last. What was sealed of one is good for as long as the row is at its revision, and need
// not be read and opened again. It is safe for concurrent use.
type Opened struct {
	grants *lru.Cache[string, *auth.Grant]
}

// NewOpened returns an Opened that remembers nothing yet.
func NewOpened() Opened {
	grants, err := lru.New[string, *auth.Grant](openedGrants)
	if err != nil {
		panic(err) // only a size below 1 is an error
	}
	return Opened{grants}
}

// Known is the grant as it was read last; an empty one, which no row has the ID of, if it is not remembered.
func (o Opened) Known(id string) *auth.Grant {
	if g, ok := o.grants.Get(id); ok {
		return g
	}
	return &auth.Grant{}
}

// Remember keeps a grant as it was read; its Revision is the row's.
func (o Opened) Remember(g *auth.Grant) {
	remembered := *g
	o.grants.Add(g.ID, &remembered)
}

// Written keeps a grant as it was written; its Revision is the row's.
func (o Opened) Written(g *auth.Grant) {
	remembered := *g
	asSealed(&remembered)
	o.grants.Add(g.ID, &remembered)
}

// Forget drops a grant that is gone.
func (o Opened) Forget(id string) { o.grants.Remove(id) }
