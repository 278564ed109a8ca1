package auth

import (
	"encoding/json"
	"log/slog"
	"math"
	"time"
)

const (
	// MaxLifetime bounds what is believed of a provider's expires_in.
	MaxLifetime = 24 * time.Hour
	// DefaultAssumedLifetime is used for an access token that nowhere says when it expires.
	DefaultAssumedLifetime = time.Hour
)

// NoToken stands in place of an access token where a provider signs people in and gives none. It is stored, and shown to nobody.
const NoToken Secret = "no-access-token"

// TokenSet is the tokens of one generation. Printing it shows fingerprints only.
type TokenSet struct {
	Access  Secret
	Refresh Secret // empty: the provider gave none
	ID      Secret // empty: the provider gave none; always a verified one
	Type    string // token_type as the provider wrote it
	Scope   string // space-delimited, RFC 6749 section 3.3; empty: the provider never said

	IssuedAt  time.Time // when the request that brought the access token began
	ExpiresAt time.Time // of the access token
	Assumed   bool      // the answer did not say when: it is read from the access token, or a guess

	RefreshExpiresAt    time.Time // zero: unknown, or never when RefreshNeverExpires
	RefreshNeverExpires bool

	ClientAuth string // tokenendpoint.AuthMethod that the sign-in found to work; empty: as configured or discovered
}

// Lifetime is how long the access token lives from issue to expiry.
func (t TokenSet) Lifetime() time.Duration { return t.ExpiresAt.Sub(t.IssuedAt) }

// Secrets are the tokens.
func (t TokenSet) Secrets() []Secret { return []Secret{t.Access, t.Refresh, t.ID} }

// None says that the provider gave no token: there is the sign-in, which lasts until ExpiresAt, and nothing else.
func (t TokenSet) None() bool { return t.Access == NoToken }

// Guessed says that nothing tells when the access token expires, neither the provider nor the token: a lifetime is assumed.
func (t TokenSet) Guessed() bool {
	return t.Assumed && !t.None() && jwtLifetime(t.Access, t.IssuedAt) == 0
}

// Capped says that the access token itself tells of a later expiry than what is believed.
func (t TokenSet) Capped() bool {
	return t.Lifetime() == MaxLifetime && jwtLifetime(t.Access, t.IssuedAt) > MaxLifetime+ClockTolerance // counted from the request
}

// ValidAt says whether the access token may still be used at now.
func (t TokenSet) ValidAt(now time.Time) bool { return t.Access != "" && now.Before(t.ExpiresAt) }

// LogValue implements slog.LogValuer.
func (t TokenSet) LogValue() slog.Value {
	return slog.GroupValue(slog.Any("access", t.Access), slog.Any("refresh", t.Refresh), slog.Time("expires_at", t.ExpiresAt))
}

// Answer is what a token endpoint granted (RFC 6749 section 5.1), read leniently.
type Answer struct {
	Access      Secret
	Refresh     Secret // empty: absent, null or empty
	ID          Secret
	Type        string
	Scope       string        // empty: absent
	Anew        bool          // granted for no earlier token, whose scope therefore says nothing of this one's
	Lifetime    time.Duration // of the access token; 0: absent, unreadable or absurd
	BrokeOff    bool          // what it lacks may have been in what did not come
	RequestedAt time.Time     // when the request began, which is the safe side of "issued at"

	RefreshLifetime     time.Duration // 0: the provider did not say
	RefreshNeverExpires bool

	ClientAuth string // as in TokenSet
}

// Secrets are the tokens.
func (a Answer) Secrets() []Secret { return []Secret{a.Access, a.Refresh, a.ID} }

// TokenSet turns an answer into the token set that follows previous, which is zero at sign-in. What the answer
// leaves out stays as it was: refresh token and, unless it is granted anew, scope (RFC 6749 section 6). The id token is left as it was as well,
// because a new one counts only after its verification. assumed is the lifetime of an access token that does not
// say; 0 means DefaultAssumedLifetime.
func (a Answer) TokenSet(previous TokenSet, assumed time.Duration) TokenSet {
	next := TokenSet{
		Access: a.Access, Refresh: a.Refresh, ID: previous.ID, Type: a.Type, Scope: a.Scope, IssuedAt: a.RequestedAt,
		RefreshNeverExpires: a.RefreshNeverExpires, ClientAuth: a.ClientAuth,
	}
	if next.ClientAuth == "" {
		next.ClientAuth = previous.ClientAuth
	}
	if a.RefreshLifetime > 0 {
		next.RefreshExpiresAt = a.RequestedAt.Add(a.RefreshLifetime)
	}
	if next.Refresh == "" {
		next.Refresh = previous.Refresh
	}
	if next.Refresh == previous.Refresh && a.RefreshLifetime == 0 && !a.RefreshNeverExpires {
		next.RefreshExpiresAt, next.RefreshNeverExpires = previous.RefreshExpiresAt, previous.RefreshNeverExpires
	}
	if next.Type == "" {
		next.Type = "Bearer"
	}
	if next.Scope == "" && !a.Anew {
		next.Scope = previous.Scope
	}
	lifetime := a.Lifetime
	if next.Assumed = lifetime <= 0; next.Assumed {
		lifetime = jwtLifetime(a.Access, a.RequestedAt)
	}
	if lifetime <= 0 {
		lifetime = assumed
	}
	if lifetime <= 0 {
		lifetime = DefaultAssumedLifetime
	}
	next.ExpiresAt = a.RequestedAt.Add(min(lifetime, MaxLifetime))
	return next
}

// jwtLifetime is the time from now to the exp claim of an access token that is a JWT, 0 if there is none in the
// future. The token is not verified: a client takes the hint, it decides nothing about trust on it.
func jwtLifetime(token Secret, now time.Time) time.Duration {
	jwt, _ := ParseJWT(token)
	number, ok := jwt.Claims["exp"].(json.Number)
	if !ok {
		return 0
	}
	exp, err := number.Float64()
	if err != nil || math.IsNaN(exp) || exp <= 0 || exp > math.MaxInt32*4 {
		return 0
	}
	return max(0, time.UnixMilli(int64(exp*1000)).Sub(now))
}
