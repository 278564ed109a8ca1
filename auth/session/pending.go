package session

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"time"
)

const (
	pendingKey = "pending"
	maxPending = 5
	// pendingLifetime is how long a sign-in may take. What it needs when it comes back is sealed with the key of its beginning.
	pendingLifetime = 10 * time.Minute
)

// Pending is a sign-in that has gone to the provider and not come back yet.
type Pending struct {
	Provider string    `json:"provider"`
	Session  string    `json:"session"` // goth.Session.Marshal: nonce and code verifier among others
	ReturnTo string    `json:"return_to,omitempty"`
	Prompt   string    `json:"prompt,omitempty"`
	Asked    bool      `json:"asked,omitempty"` // again, because the first answer had no refresh token
	Began    time.Time `json:"began"`
}

// Await keeps a pending sign-in under its state, for 10 minutes and one use. Several may be pending in one session, at
// most 5: the oldest goes.
func (m *Manager) Await(ctx context.Context, state string, p Pending) error {
	all := m.pending(ctx)
	p.Began = m.now()
	all[state] = p
	for len(all) > maxPending {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(all)), func(a, b string) int {
			return cmp.Or(all[a].Began.Compare(all[b].Began), cmp.Compare(a, b))
		})
		delete(all, oldest)
	}
	if _, ok := m.SignedIn(ctx); !ok {
		m.scs.SetDeadline(ctx, m.now().Add(anonymousLifetime).UTC())
	}
	return m.keepPending(ctx, all)
}

// Take returns the pending sign-in for state at provider and forgets it. A state that was begun at another provider is forgotten too and not
// returned (mix-up, RFC 9700 section 4.4).
func (m *Manager) Take(ctx context.Context, state, provider string) (Pending, bool) {
	all := m.pending(ctx)
	p, ok := all[state]
	if !ok || state == "" {
		return Pending{}, false
	}
	delete(all, state)
	if err := m.keepPending(ctx, all); err != nil {
		return Pending{}, false
	}
	return p, p.Provider == provider
}

func (m *Manager) pending(ctx context.Context) map[string]Pending {
	_, all := openPending(m.scs.GetString(ctx, pendingKey), m.sealer, m.now())
	return all
}

// AwaitedSeal is what is sealed in a session's data, if that holds sign-ins that may still come back at now.
func AwaitedSeal(data []byte, sealer Sealer, now time.Time) (sealed []byte, ok bool) {
	_, values, err := codec{}.Decode(data)
	if err != nil {
		return nil, false
	}
	text, _ := values[pendingKey].(string)
	sealed, all := openPending(text, sealer, now)
	return sealed, len(all) > 0
}

// openPending opens the sign-ins that may still come back at now. What cannot be read, because its key is gone, is one that has taken
// too long.
func openPending(text string, sealer Sealer, now time.Time) (sealed []byte, all map[string]Pending) {
	all = map[string]Pending{}
	if text == "" {
		return nil, all
	}
	sealed, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil, all
	}
	plain, err := sealer.OpenText(pendingKey, sealed)
	if err != nil || json.Unmarshal(plain, &all) != nil {
		return sealed, map[string]Pending{}
	}
	maps.DeleteFunc(all, func(_ string, p Pending) bool { return now.Sub(p.Began) > pendingLifetime })
	return sealed, all
}

func (m *Manager) keepPending(ctx context.Context, all map[string]Pending) error {
	if len(all) == 0 {
		m.scs.Remove(ctx, pendingKey)
		return nil
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	sealed, err := m.sealer.SealText(pendingKey, text)
	if err != nil {
		return err
	}
	m.scs.Put(ctx, pendingKey, base64.RawStdEncoding.EncodeToString(sealed))
	return nil
}
