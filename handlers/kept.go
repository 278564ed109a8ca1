package handlers

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/labstack/echo/v4"

	"keyturn/auth"
)

const (
	// keptPages and keptStates bound how many dashboards, and how many answers of the session's state, are kept made.
	keptPages, keptStates = 256, 4096
	// keptFor is how old a kept answer may be when it is sent: what it says of the time is in whole seconds.
	keptFor = time.Second
	// keptAhead is how far ahead of a request's time those of others may be that came before it. More is a clock that was set back.
	keptAhead = 5 * time.Second
)

// circumstances are what an answer about a grant depends on. Under equal ones it is the same.
type circumstances struct {
	at          time.Time // in steps of keptFor
	revision    int64
	generation  int64 // with changed: of what the vault has not taken yet
	changed     time.Time
	state       auth.State
	running     bool
	renewable   bool
	problem     auth.Failure
	nextAt      time.Time
	sessionEnds time.Time
}

func (a *app) circumstances(c echo.Context, view auth.View) circumstances {
	return circumstances{
		at: a.Now().Truncate(keptFor), revision: view.Grant.Revision, generation: view.Grant.Generation,
		changed: changedAt(view.Grant), state: view.State, running: view.Running,
		renewable: view.Renewable, problem: view.Problem, nextAt: view.NextAt, sessionEnds: a.Sessions.EndsAt(c.Request().Context()),
	}
}

// keptAnswer is an answer's body. It is made, and compressed, once: by the first who needs it.
type keptAnswer struct {
	under circumstances
	body  func() ([]byte, error)
	zip   func() ([]byte, error)
}

func newAnswer(body func() ([]byte, error)) *keptAnswer {
	k := &keptAnswer{body: sync.OnceValues(body)}
	k.zip = sync.OnceValues(func() ([]byte, error) {
		body, err := k.body()
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(body); err != nil {
			return nil, err
		}
		err = z.Close()
		return b.Bytes(), err
	})
	return k
}

// keptAnswers are the answers for those who asked last, one for each grant; when one is added, those go that are too old to be sent. They
// are safe for concurrent use.
type keptAnswers struct {
	mu     sync.Mutex
	recent *simplelru.LRU[string, *keptAnswer]
}

func keep(most int) *keptAnswers {
	recent, err := simplelru.NewLRU[string, *keptAnswer](most, nil)
	if err != nil {
		panic(fmt.Sprintf("keep %d answers: %v", most, err)) // only a bound below 1 is an error
	}
	return &keptAnswers{recent: recent}
}

// under returns the grant's answer under the circumstances. body makes it, unless it is there already or being made.
func (k *keptAnswers) under(now circumstances, grant string, body func() ([]byte, error)) *keptAnswer {
	k.mu.Lock()
	defer k.mu.Unlock()
	if found, ok := k.recent.Get(grant); ok && found.under == now {
		return found
	}
	made := newAnswer(func() ([]byte, error) {
		b, err := body()
		if err != nil {
			k.drop(grant) // the next one tries anew
		}
		return b, err
	})
	made.under = now
	for { // what is too old to be sent: it has names in it, of people who may have signed out
		_, oldest, ok := k.recent.GetOldest()
		if !ok || !oldest.under.at.Before(now.at) && !oldest.under.at.After(now.at.Add(keptAhead)) {
			break
		}
		k.recent.RemoveOldest()
	}
	k.recent.Add(grant, made)
	return made
}

func (k *keptAnswers) drop(grant string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.recent.Remove(grant)
}
