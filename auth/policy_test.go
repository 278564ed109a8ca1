package auth

import (
	"testing"
	"time"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func grantOf(lifetime time.Duration) *Grant {
	return &Grant{Generation: 1, Tokens: TokenSet{Access: "a", Refresh: "r", IssuedAt: start, ExpiresAt: start.Add(lifetime)}}
}

func TestPolicyDue(t *testing.T) {
	t.Parallel()
	policy := Policy{MaxAge: 30 * time.Minute, Leeway: time.Minute}
	for name, c := range map[string]struct {
		policy   Policy
		lifetime time.Duration
		edit     func(*Grant)
		due      time.Duration // since the issue; negative: never
	}{
		"by leeway":                      {policy, 10 * time.Minute, nil, 9 * time.Minute},
		"by age":                         {policy, 2 * time.Hour, nil, 30 * time.Minute},
		"leeway is at most a quarter":    {policy, 2 * time.Minute, nil, 90 * time.Second},
		"without leeway":                 {Policy{MaxAge: time.Hour}, 10 * time.Minute, nil, 10 * time.Minute},
		"without a refresh token":        {policy, time.Hour, func(g *Grant) { g.Tokens.Refresh = "" }, -1},
		"client credentials need none":   {Policy{Leeway: time.Minute, GrantType: GrantClientCredentials}, time.Hour, func(g *Grant) { g.Tokens.Refresh = "" }, 59 * time.Minute},
		"refused":                        {policy, time.Hour, func(g *Grant) { g.Standing.Refused = true }, -1},
		"backing off":                    {policy, 10 * time.Minute, func(g *Grant) { g.Standing.NextTry = start.Add(9*time.Minute + 20*time.Second) }, 9*time.Minute + 20*time.Second},
		"before the refresh token ends":  {policy, time.Hour, func(g *Grant) { g.Tokens.RefreshExpiresAt = start.Add(20 * time.Minute) }, 19 * time.Minute},
		"before it ends, by a quarter":   {policy, time.Hour, func(g *Grant) { g.Tokens.RefreshExpiresAt = start.Add(8 * time.Second) }, 6 * time.Second},
		"but not in a loop":              {policy, time.Hour, func(g *Grant) { g.Tokens.RefreshExpiresAt = start.Add(time.Second) }, 30 * time.Minute},
		"once more soon, fresh or not":   {policy, time.Hour, func(g *Grant) { g.Standing.InvalidRequests, g.Standing.NextTry = 1, start.Add(2*time.Second) }, 2 * time.Second},
		"an assumed lifetime waits 30 s": {Policy{MaxAge: time.Second}, time.Hour, func(g *Grant) { g.Tokens.Assumed, g.Standing.AutomaticAt = true, start }, 30 * time.Second},
		"but not with a lost answer": {Policy{MaxAge: time.Second}, time.Hour, func(g *Grant) {
			g.Tokens.Assumed, g.Standing = true, Standing{AutomaticAt: start, Open: CodeReplayed, NextTry: start.Add(time.Second)}
		}, time.Second},
		"what the operator may have mended": {Policy{Leeway: time.Minute, Since: start.Add(9 * time.Minute)}, 9 * time.Minute, func(g *Grant) {
			g.Standing = Standing{TriedAt: start.Add(8 * time.Minute), NextTry: start.Add(13 * time.Minute), Failure: Failure{Code: "invalid_client", Party: PartyOperator}}
		}, 9 * time.Minute},
		"and not what was tried since": {Policy{Leeway: time.Minute, Since: start.Add(9 * time.Minute)}, 9 * time.Minute, func(g *Grant) {
			g.Standing = Standing{TriedAt: start.Add(10 * time.Minute), NextTry: start.Add(15 * time.Minute), Failure: Failure{Code: "invalid_client", Party: PartyOperator}}
		}, 15 * time.Minute},
		"nor what stands open": {Policy{Leeway: time.Minute, Since: start.Add(9 * time.Minute)}, 9 * time.Minute, func(g *Grant) {
			g.Standing = Standing{TriedAt: start, NextTry: start.Add(15 * time.Minute), Open: CodeReplayed, Failure: Failure{Party: PartyOperator}}
		}, 15 * time.Minute},
		"a stated lifetime is believed": {Policy{MaxAge: time.Second}, time.Hour, func(g *Grant) { g.Standing.AutomaticAt = start }, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := grantOf(c.lifetime)
			if c.edit != nil {
				c.edit(g)
			}
			if c.due < 0 {
				if next := c.policy.NextAt(g); !next.IsZero() || c.policy.Due(g, start.Add(100*time.Hour)) {
					t.Errorf("due at %v, want never", next)
				}
				return
			}
			at := start.Add(c.due)
			if next := c.policy.NextAt(g); !next.Equal(at) {
				t.Errorf("next at %v, want %v", next.Sub(start), c.due)
			}
			if c.policy.Due(g, at.Add(-time.Millisecond)) || !c.policy.Due(g, at) {
				t.Errorf("not due exactly from %v on", c.due)
			}
		})
	}
}

// A clock that jumps back an hour must neither let a token die unrenewed nor renew in a loop.
func TestAClockThatWasSetBack(t *testing.T) {
	t.Parallel()
	policy := Policy{MaxAge: 30 * time.Minute, Leeway: time.Minute}
	back := start.Add(-time.Hour)
	g := grantOf(10 * time.Minute)
	if !policy.Due(g, back) {
		t.Error("a token from the future is believed")
	}
	g.Tokens.IssuedAt, g.Tokens.ExpiresAt = back, back.Add(10*time.Minute)
	if policy.Due(g, back.Add(time.Second)) {
		t.Error("after its renewal it is due again at once")
	}
	g.Standing.NextTry, g.Standing.TriedAt = start, start.Add(-time.Minute)
	if !policy.Due(g, back) {
		t.Error("a back-off from before the jump holds for an hour")
	}
	g.Tokens.ExpiresAt = start.Add(time.Hour) // no sign that it is about to end
	if !policy.Due(g, back) {
		t.Error("a back-off from before the jump holds for an hour, while the token lives")
	}
	g.Standing.TriedAt = back
	if policy.Due(g, back.Add(time.Minute)) {
		t.Error("a try since the jump that waits for the expiry is put forward")
	}
	g.Tokens.IssuedAt, g.Standing.NextTry = start, back.Add(10*time.Second)
	if policy.Due(g, back.Add(9*time.Second)) || !policy.Due(g, back.Add(10*time.Second)) {
		t.Error("a token from the future is not tried again when its back-off ends")
	}
}

func TestState(t *testing.T) {
	t.Parallel()
	policy := Policy{MaxAge: 30 * time.Minute, Leeway: time.Minute}
	for name, c := range map[string]struct {
		edit    func(*Grant)
		at      time.Duration
		running bool
		want    State
	}{
		"new":                              {nil, 0, false, StateFresh},
		"old":                              {nil, 9 * time.Minute, false, StateDue},
		"running":                          {nil, 0, true, StateDue},
		"over":                             {nil, 10 * time.Minute, false, StateExpired},
		"over and refused":                 {func(g *Grant) { g.Standing.Refused = true }, 10 * time.Minute, false, StateNeedsSignIn},
		"refused and still valid":          {func(g *Grant) { g.Standing.Refused = true }, 9 * time.Minute, false, StateFresh},
		"over and without a refresh token": {func(g *Grant) { g.Tokens.Refresh = "" }, 10 * time.Minute, false, StateNeedsSignIn},
		"without an access token":          {func(g *Grant) { g.Tokens.Access, g.Standing.Refused = "", true }, 0, false, StateNeedsSignIn},
	} {
		g := grantOf(10 * time.Minute)
		if c.edit != nil {
			c.edit(g)
		}
		if got := policy.State(g, start.Add(c.at), c.running); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	for failures, bound := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 9: 256 * time.Second, 10: 5 * time.Minute, 1000: 5 * time.Minute} {
		least, most := bound, time.Duration(0)
		for range 1000 {
			wait := backoff(failures, 0)
			least, most = min(least, wait), max(most, wait)
		}
		if most > bound || most < bound/2 || least > bound/10 {
			t.Errorf("after %d failures %v to %v, want a jitter up to %v", failures, least, most, bound)
		}
	}
	if wait := backoff(1, time.Hour); wait != 10*time.Minute {
		t.Errorf("Retry-After of an hour is %v, want 10 min", wait)
	}
	if wait := backoff(1, 30*time.Second); wait != 30*time.Second {
		t.Errorf("Retry-After of 30 s is %v", wait)
	}
}
