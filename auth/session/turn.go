package session

import (
	"context"
	"strings"
	"time"
)

const (
	// turnLasts is how long a turn is kept for a request that does not give it up, because its process died, and how long others wait.
	turnLasts = 15 * time.Second
	// turnLook is how often a request that waits looks whether its turn has come.
	turnLook = 100 * time.Millisecond
	// turnEnds bounds the giving up.
	turnEnds = 2 * time.Second
)

// Turn waits until no other request finishes a sign-in of the request's session, at another process perhaps: of two that did at once each
// would leave a session of its own, and the browser would know of one. ok is false when the session was given a new name meanwhile, which
// the browser is to come with; else end gives the turn up. Nobody waits for more than 15 s.
func (m *Manager) Turn(ctx context.Context) (end func(), ok bool, err error) {
	if !m.awaits(ctx) {
		return func() {}, true, nil
	}
	hash := Hash(m.scs.Token(ctx))
	mark, began := "turn "+hash, time.Now()
	for {
		asked := time.Now()
		// Cut off in the middle, nobody would know whose the turn is.
		first, err := m.marks.Use(context.WithoutCancel(ctx), mark, m.now().Add(turnLasts))
		if err != nil {
			return nil, false, err
		}
		if first {
			began = asked
			break
		}
		if time.Since(began) > turnLasts {
			break
		}
		select {
		case <-time.After(turnLook):
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
	end = func() {
		if time.Since(began) < turnLasts { // else it is somebody else's by now
			m.giveUp(ctx, mark)
		}
	}
	if lives, _, err := m.lives(ctx, hash); err != nil || !lives {
		end()
		return nil, false, err
	}
	return end, true, nil
}

// giveUp forgets a mark. Should that fail, it runs out.
func (m *Manager) giveUp(ctx context.Context, mark string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), turnEnds)
	defer cancel()
	_ = m.marks.Unuse(ctx, mark)
}

// awaits says whether a sign-in is pending in the session.
func (m *Manager) awaits(ctx context.Context) bool {
	for _, name := range m.scs.Keys(ctx) {
		if strings.HasPrefix(name, pendingPrefix) {
			return true
		}
	}
	return false
}
