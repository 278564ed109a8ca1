package auth

import (
	"crypto/rand"
	"strconv"
	"strings"
	"time"
)

// Grant is what one sign-in gave us: who signed in, the current tokens, and how their renewals went. The names of its fields that
// the spool has in the clear are a storage format: add, never rename.
type Grant struct {
	ID          string // from NewGrantID
	SessionHash string // of the session token that owns the grant (session.Hash)
	Identity    Identity
	Tokens      TokenSet
	Generation  int64          // 1 after sign-in, +1 with each successful renewal
	Kept        map[string]any // what Callbacks.Token decided to keep
	Former      Former         // what the tokens before these said
	Standing    Standing
	Pending     Secret    // a new id token whose verification could not be done yet
	PendingFor  Secret    // the access token that Pending came with, if later renewals have replaced it since
	Revision    int64     // the vault's: ascends with each change of what it stores about the tokens and of the history
	DueAt       time.Time // next automatic renewal; zero: never
	CreatedAt   time.Time
	SeenAt      time.Time // at most a minute old
	UserAgent   string
	IP          string

	// PresentingAt is when the refresh token was first marked as being presented; zero when no call is under way.
	// Found set by whoever takes the lease, it says that a call was struck in the middle and its outcome is unknown.
	PresentingAt time.Time
	LeasedUntil  time.Time // when the lease that somebody holds runs out; zero when nobody holds one
}

// SID is the id of the provider's own session that the grant came from (sid, OpenID Connect Back-Channel Logout section 2.1); empty
// when its id token names none, or one that is no identifier: nothing but logout needs it.
func (g *Grant) SID() string {
	if sid, _ := g.Identity.Claims["sid"].(string); IsID(sid) {
		return sid
	}
	return ""
}

// Ended says that the grant is over and its tokens are gone, because a renewal brought somebody else's. What is left of it only
// tells its session why, and goes with it.
func (g *Grant) Ended() bool {
	return g.Standing.Refused && g.Standing.Failure.Code == CodeIdentityChanged
}

// PendingAccess is the access token that Pending came with.
func (g *Grant) PendingAccess() Secret {
	if g.PendingFor != "" {
		return g.PendingFor
	}
	return g.Tokens.Access
}

// end takes from the grant what is somebody else's, and says why.
func (g *Grant) end(now time.Time) {
	g.Tokens = TokenSet{IssuedAt: g.Tokens.IssuedAt, ExpiresAt: g.Tokens.IssuedAt}
	g.Pending, g.PendingFor, g.DueAt = "", "", time.Time{}
	st := &g.Standing
	st.Outcome, st.Refused, st.TriedAt = OutcomeRefused, true, now
	st.Failure = Failure{Code: CodeIdentityChanged, Party: PartyPerson}
}

// triedSince says whether a renewal has ended, well or not, since the grant was as in before.
func (g *Grant) triedSince(before *Grant) bool {
	return g.Generation != before.Generation || !g.Standing.TriedAt.Equal(before.Standing.TriedAt)
}

// StruckAt says whether, at now, a call for the grant was struck in the middle: its refresh token is marked as being
// presented, and nobody holds the lease.
func (g *Grant) StruckAt(now time.Time) bool { return !g.PresentingAt.IsZero() && !g.LeasedAt(now) }

// LeasedAt says whether somebody renews the grant at now.
func (g *Grant) LeasedAt(now time.Time) bool { return g.LeasedUntil.After(now) }

// takenAt says that trying to lease the grant is of no use at now. A lease that ends later than any can is from before the clock was set
// back: a try tells.
func (g *Grant) takenAt(now time.Time) bool {
	return g.LeasedAt(now) && !g.LeasedAt(now.Add(2*LeaseTTL))
}

// NewGrantID returns a fresh grant id: the time in milliseconds, so that grants which are due together lie together in an index
// however many there are, and 130 random bits.
func NewGrantID(at time.Time) string {
	const places = 45 // bits, nine digits of base 32
	digits := strconv.FormatInt(1<<places|at.UnixMilli()&(1<<places-1), 32)
	return strings.ToUpper(digits[1:]) + rand.Text()
}

// Standing is how the latest renewal ended, and what the tries since the last success left behind. A successful
// renewal clears the failure part. Its field names, and Failure's, are a storage format: add, never rename.
type Standing struct {
	Outcome Outcome   // of the latest renewal; empty before the first
	TriedAt time.Time // when the latest renewal ended

	Failures        int       // failed tries since the last success
	InvalidRequests int       // invalid_request answers in a row for the present refresh token
	Refused         bool      // the grant cannot be renewed any more
	Open            string    // why the present refresh token may have been used up: CodeReplayed… or CodeHTTPStatus (Failure.instead); or empty
	Failure         Failure   // of the latest try; zero after a success
	NextTry         time.Time // automatic tries wait until then
	AutomaticAt     time.Time // latest automatic or background renewal
}

// lost is how an answer to the present refresh token came to be lost, CodeReplayed…; empty when none was.
func (st Standing) lost() string {
	if st.Open == CodeHTTPStatus {
		return ""
	}
	return st.Open
}

// Failure says why a renewal failed.
type Failure struct {
	Code   string // RFC 6749 section 5.2, or one of the Code… constants
	Detail string // what the provider wrote, shortened and without secrets; may be empty
	Said   string // the same of an answer without an error code, for the log alone: nobody knows what it is
	Party  Party  // whose matter it is
	Status int    // HTTP status of the answer; 0: none came
	Replay string // CodeReplayed or CodeReplayedAfterCrash when the refresh token had to be presented again
}

// Unwell says that the provider answered with a status which speaks of itself, or of the moment, and not of the request (RFC 9110 sections
// 15.5.9 and 15.6, RFC 6585 section 4).
func (f Failure) Unwell() bool { return f.Status >= 500 || f.Status == 429 || f.Status == 408 }

// unknown says that nobody knows whether the provider took the refresh token that was presented.
func (f Failure) unknown() bool {
	switch f.Code {
	case CodeTimeout, CodeCutOff, CodeUnreadable, CodeOutcomeUnknown:
		return true
	default:
		return false
	}
}

// instead says that an intermediary answered in the provider's stead (RFC 9110 sections 15.6.3 and 15.6.5; 52x are Cloudflare's): the
// provider may have done all the same what it was asked for.
func (f Failure) instead() bool {
	gateway := f.Status == 502 || f.Status == 504 || f.Status >= 520 && f.Status < 530
	return gateway && judge(f, 0) == verdict{outcome: OutcomeKept, party: PartyProvider} // with an error of its own, or of none
}

// Party is whose matter a failure is.
type Party string

// The parties to a failure.
const (
	PartyProvider Party = "provider" // it is down, slow or misbehaves: it heals by itself
	PartyOperator Party = "operator" // a setting is wrong
	PartyPerson   Party = "you"      // only a new sign-in helps
	PartyKeyturn  Party = "keyturn"  // our own storage or shutdown
)

// State is what a grant is good for at a moment.
type State string

// The states. A refused grant's access token is used until it expires.
const (
	StateFresh       State = "fresh"
	StateDue         State = "due" // valid, and a renewal is due or running
	StateExpired     State = "expired"
	StateNeedsSignIn State = "needs_sign_in" // expired, and cannot be renewed
)
