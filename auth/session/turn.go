package session

import (
	"context"
	"strings"
	"sync"
	"time"
)

const (
	// turnLasts is how long a request keeps its turn at the most, and how long others wait.
	turnLasts = 15 * time.Second
	// turnHeld is how long a turn is kept for a request whose process has died. For one that runs it is extended every turnExtend.
	turnHeld   = 4 * time.Second
	turnExtend = time.Second
	// turnLook is how often a request that waits looks whether its turn has come.
	turnLook = 100 * time.Millisecond
	// turnEnds bounds the giving up, and an extension.
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
	mark, end := "turn "+hash, func() {}
	for began := time.Now(); ; {
		asked, until := time.Now(), m.now().Add(turnHeld)
		// Cut off in the middle, nobody would know whose the turn is.
		first, err := m.uses.Use(context.WithoutCancel(ctx), mark, until)
		if err != nil {
			return nil, false, err
		}
		if first {
			end = m.hold(ctx, mark, asked, until)
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
	if lives, _, err := m.lives(ctx, hash); err != nil || !lives {
		end()
		return nil, false, err
	}
	return end, true, nil
}

// hold extends a turn that was asked for then, and whose mark lasts until then, until end gives it up.
func (m *Manager) hold(ctx context.Context, mark string, asked, until time.Time) (end func()) {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	began := asked
	// Else it is somebody else's by now. The mark runs out by the clock, which goes on while the machine sleeps.
	mine := func() bool { return time.Since(asked) < turnHeld && m.now().Round(0).Before(until.Round(0)) }
	var mu sync.Mutex
	var timer *time.Timer
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(turnExtend, func() {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() != nil || !mine() || time.Since(began) > turnLasts-turnHeld {
			return
		}
		bounded, cancel := context.WithTimeout(ctx, turnEnds)
		defer cancel()
		now, later := time.Now(), m.now().Add(turnHeld)
		if kept, err := m.uses.Keep(bounded, mark, later); err == nil && kept {
			asked, until = now, later
		}
		timer.Reset(turnExtend)
	})
	return func() {
		stop()
		timer.Stop()
		mu.Lock()
		defer mu.Unlock()
		if mine() {
			m.giveUp(ctx, mark)
		}
	}
}

// giveUp forgets a mark. Should that fail, it runs out.
func (m *Manager) giveUp(ctx context.Context, mark string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), turnEnds)
	defer cancel()
	_ = m.uses.Unuse(ctx, mark)
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
