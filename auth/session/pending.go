package session

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

const (
	// pendingPrefix begins the name of a value that is a pending sign-in; the hash of its state follows. Each is a value of its own, so
	// that two tabs that begin at once, at two replicas perhaps, change two things.
	pendingPrefix = "pending "
	maxPending    = 5
	// pendingLifetime is how long a sign-in may take. What it needs when it comes back is sealed with the key of its beginning.
	pendingLifetime = 10 * time.Minute
)

// Pending is a sign-in that has gone to the provider and not come back yet.
type Pending struct {
	Provider string    `json:"provider"`
	Session  string    `json:"session"` // goth.Session.Marshal: nonce and code verifier among others
	ReturnTo string    `json:"return_to,omitempty"`
	Prompt   string    `json:"prompt,omitempty"`
	Hint     string    `json:"login_hint,omitempty"`  // whose sign-in it is to be (OpenID Connect Core 3.1.2.1)
	Asked    string    `json:"asked_again,omitempty"` // subject whose first answer had no refresh token
	Began    time.Time `json:"began"`
}

// Await keeps a pending sign-in under its state, for 10 minutes and one use. Several may be pending in one session, at
// most 5: the oldest goes. ErrEnded says that the session was given another name or has ended since the request began, so that the sign-in
// would not be known when it comes back.
func (m *Manager) Await(ctx context.Context, state string, p Pending) error {
	p.Began = m.now()
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	name := pendingPrefix + Hash(state)
	sealed, err := m.sealer.SealText(name, text)
	if err != nil {
		return err
	}
	m.dropOldest(ctx)
	m.scs.Put(ctx, name, base64.RawStdEncoding.EncodeToString(sealed))
	if _, ok := m.SignedIn(ctx); !ok {
		m.scs.SetDeadline(ctx, m.now().Add(anonymousLifetime).UTC())
	}
	if _, _, err = m.scs.Commit(ctx); err == nil && FromContext(ctx).Gone {
		err = ErrEnded
	}
	if err != nil {
		m.Keep(ctx)
	}
	return err
}

// dropOldest makes room for one more pending sign-in, and forgets those that have taken too long.
func (m *Manager) dropOldest(ctx context.Context) {
	var all []string
	began := map[string]time.Time{}
	for _, name := range m.scs.Keys(ctx) {
		if !strings.HasPrefix(name, pendingPrefix) {
			continue
		}
		p, _, ok := openPending(name, m.scs.GetString(ctx, name), m.sealer, m.now())
		if !ok {
			m.scs.Remove(ctx, name)
			continue
		}
		all, began[name] = append(all, name), p.Began
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(began[a].Compare(began[b]), cmp.Compare(a, b)) })
	for ; len(all) >= maxPending; all = all[1:] {
		m.scs.Remove(ctx, all[0])
	}
}

// Take returns the pending sign-in for state at provider and forgets it. A state that was begun at another provider is forgotten too and not
// returned (mix-up, RFC 9700 section 4.4).
func (m *Manager) Take(ctx context.Context, state, provider string) (Pending, bool) {
	name := pendingPrefix + Hash(state)
	if !m.scs.Exists(ctx, name) {
		return Pending{}, false
	}
	p, _, ok := openPending(name, m.scs.PopString(ctx, name), m.sealer, m.now())
	return p, ok && p.Provider == provider
}

// AwaitedSeals is what is sealed in a session's data of sign-ins that may still come back at now.
func AwaitedSeals(data []byte, sealer Sealer, now time.Time) (all [][]byte) {
	_, values, err := codec{}.Decode(data)
	if err != nil {
		return nil
	}
	for name, value := range values {
		text, _ := value.(string)
		if _, sealed, ok := openPending(name, text, sealer, now); ok {
			all = append(all, sealed)
		}
	}
	return all
}

// openPending opens a value that is a sign-in which may still come back at now. One that cannot be read, because its key is gone, is one
// that has taken too long.
func openPending(name, text string, sealer Sealer, now time.Time) (p Pending, sealed []byte, ok bool) {
	sealed, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || !strings.HasPrefix(name, pendingPrefix) {
		return Pending{}, nil, false
	}
	plain, err := sealer.OpenText(name, sealed)
	if err != nil || json.Unmarshal(plain, &p) != nil {
		return Pending{}, nil, false
	}
	return p, sealed, now.Sub(p.Began) <= pendingLifetime
}
