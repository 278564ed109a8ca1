package session

import (
	"context"
	"strings"
	"time"
)

const (
	// turnLasts is how long a turn is held for a request that does not give it up, because its process died.
	turnLasts = 45 * time.Second
	// turnWait is how long a request waits for its turn, and turnLook how often it looks whether that has come.
	turnWait = 30 * time.Second
	turnLook = 150 * time.Millisecond
)

// Turn waits until no other request finishes a sign-in of the request's session, at another process perhaps: of two that did at once each
// would leave a session of its own, and the browser would know of one. Where only one sign-in is pending there is no other. ok is false
// when the session was given a new name meanwhile, which the browser is to come with; else end gives the turn up.
func (m *Manager) Turn(ctx context.Context) (end func(), ok bool, err error) {
	if m.awaited(ctx) < 2 {
		return func() {}, true, nil
	}
	hash := Hash(m.scs.Token(ctx))
	mark := "turn " + hash
	for deadline := time.Now().Add(turnWait); ; {
		first, err := m.marks.Use(ctx, mark, m.now().Add(turnLasts))
		if err != nil {
			return nil, false, err
		}
		lives, _, err := m.lives(ctx, hash)
		switch {
		case err == nil && first && lives, err == nil && !first && lives && time.Now().After(deadline):
			return func() {
				if first {
					_ = m.marks.Unuse(context.WithoutCancel(ctx), mark) // it runs out
				}
			}, true, nil
		case err != nil || !lives:
			return nil, false, err
		}
		select {
		case <-time.After(turnLook):
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}

// awaited is how many sign-ins are pending in the session.
func (m *Manager) awaited(ctx context.Context) (n int) {
	for _, name := range m.scs.Keys(ctx) {
		if strings.HasPrefix(name, pendingPrefix) {
			n++
		}
	}
	return n
}
