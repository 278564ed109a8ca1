package auth

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
)

// Trigger is why a renewal ran.
type Trigger string

// The triggers.
const (
	TriggerManual     Trigger = "manual"     // a person clicked
	TriggerAPI        Trigger = "api"        // a program asked
	TriggerAutomatic  Trigger = "automatic"  // a request met a due token
	TriggerBackground Trigger = "background" // the scheduler
	TriggerRecovery   Trigger = "recovery"   // an earlier call was struck in the middle
)

// Triggers are all of them.
var Triggers = []Trigger{TriggerManual, TriggerAPI, TriggerAutomatic, TriggerBackground, TriggerRecovery}

// Forced says that the renewal was asked for and runs whether or not the grant is due.
func (t Trigger) Forced() bool { return t == TriggerManual || t == TriggerAPI }

// Outcome is how a renewal ended.
type Outcome string

// The outcomes.
const (
	OutcomeRotated Outcome = "rotated" // new tokens, a new refresh token among them
	OutcomeRenewed Outcome = "renewed" // new tokens, the refresh token stays
	OutcomeKept    Outcome = "kept"    // it failed; the existing tokens stay in use
	OutcomeRefused Outcome = "refused" // the grant cannot be renewed any more
)

// Outcomes are all of them.
var Outcomes = []Outcome{OutcomeRotated, OutcomeRenewed, OutcomeKept, OutcomeRefused}

// Succeeded says that the renewal brought new tokens.
func (o Outcome) Succeeded() bool { return o == OutcomeRotated || o == OutcomeRenewed }

// Error codes of our own, beside those of RFC 6749 section 5.2 and the providers' (Failure.Code).
const (
	CodeUnreachable         = "provider_unreachable"     // the request was not sent: DNS, connect or TLS failed
	CodeTimeout             = "provider_timeout"         // sent, and no answer in time
	CodeCutOff              = "answer_cut_off"           // sent, and the connection broke
	CodeUnreadable          = "unreadable_answer"        // an answer that is no token answer
	CodeRedirect            = "unexpected_redirect"      // a token endpoint must not redirect
	CodeHTTPStatus          = "provider_error"           // an error status without an OAuth error code
	CodeRateLimited         = "rate_limited"             // 429
	CodeNoAccessToken       = "no_access_token"          // tokens came, the access token did not
	CodeTokenType           = "unusable_token_type"      // neither Bearer nor DPoP
	CodeIdentityChanged     = "identity_changed"         // the new id token is of another person or issuer
	CodeIDTokenRejected     = "id_token_rejected"        // warning: the new id token is invalid, the old one was kept
	CodeOutcomeUnknown      = "outcome_unknown"          // nobody knows whether the provider took the refresh token; it is kept for later
	CodeReplayed            = "replayed_after_no_answer" // warning: the first call had no readable answer
	CodeReplayedAfterCrash  = "replayed_after_crash"     // warning: an earlier call was struck in the middle
	CodeStoredLate          = "stored_late"              // warning: the database did not take the new tokens at once
	CodeNotRenewable        = "not_renewable"            // the provider gave no refresh token
	CodeNoToken             = "no_token"                 // the provider signs people in, and gives no tokens
	CodeProviderUnavailable = "provider_not_configured"  // the grant's provider is not among the settings any more
	CodeDiscovery           = "discovery_failed"         // the provider's metadata could not be asked for
	CodeKeysUnavailable     = "keys_unavailable"         // the provider's signing keys could not be read
	CodeMetadata            = "unusable_metadata"        // the provider's metadata is missing, wrong, or another issuer's
	CodeBusy                = "renewal_running"          // another process holds the grant for longer than we wait
	CodeShuttingDown        = "shutting_down"            // no new renewals
	CodeStorage             = "storage_unavailable"      // the database would not take or give something
)

// KeptRenewals is how many renewals of a grant a vault keeps.
const KeptRenewals = 200

// Renewal is the record of one renewal. Its field names are a storage format: add, never rename.
type Renewal struct {
	ID         int64 // ascending in the order of recording; set by the vault
	GrantID    string
	Generation int64 // of the token set in use after it
	Shared     int   // how many other requests waited for it and shared its answer
	At         time.Time
	Trigger    Trigger
	Outcome    Outcome
	Duration   time.Duration
	Code       string // Failure.Code; empty when it succeeded
	Detail     string // Failure.Detail
	Warning    string // something odd about a renewal that succeeded; a Code… constant
	OldToken   string // fingerprint of the access token before
	NewToken   string // and after; equal when it failed
	OldRefresh string // fingerprint of the refresh token before
	NewRefresh string // and after
	OldScope   string
	NewScope   string
	OldExpiry  time.Time
	NewExpiry  time.Time
}

// From is the generation that the renewal began with.
func (r *Renewal) From() int64 {
	if r.Outcome.Succeeded() {
		return r.Generation - 1
	}
	return r.Generation
}

// Delivery is how far a request to the token endpoint came.
type Delivery int

// The deliveries. Only for DeliveryUnknown can nobody know whether the provider took the refresh token.
const (
	DeliveryNotSent  Delivery = iota // no byte of it left
	DeliveryAnswered                 // the provider answered, readably
	DeliveryUnknown                  // sent; not answered, cut off, or answered unreadably
)

// ProviderError is the error of Provider.Renew. Its text holds no secret.
type ProviderError struct {
	Delivery   Delivery
	Failure    Failure
	RetryAfter time.Duration // what the provider asked for; 0: nothing
	Salvage    *Answer       // a refresh token that came with an answer that is otherwise unusable
}

// Error implements error.
func (e *ProviderError) Error() string {
	parts := []string{e.Failure.Code, e.Failure.Detail, e.Failure.Said}
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), ": ")
}

// unsent says that the refresh token did not leave. It may be asked of nil.
func (e *ProviderError) unsent() bool { return e != nil && e.Delivery == DeliveryNotSent }

// Errors of VerifyIDToken. Any other error means that the id token is invalid.
var (
	ErrKeysUnavailable = errors.New("the provider's keys are unavailable")
	ErrOtherIdentity   = errors.New("the id token is of another person or issuer")
	// ErrOtherNonce says that nothing else is wrong: Gitea keeps one nonce for all sign-ins of a person, and so it is the latest one's.
	ErrOtherNonce = errors.New("the id token carries another sign-in's nonce")
)

// OnUnknown is what to do when nobody knows whether the provider took the refresh token.
type OnUnknown string

// The choices.
const (
	RetryNow      OnUnknown = "retry_now"       // present it once more at once: reuse intervals are short
	RetryAtExpiry OnUnknown = "retry_at_expiry" // for providers that revoke the access token as well on reuse
)

// Provider is what the domain needs of a provider, beside the sign-in, which is goth's. Implementations are safe for
// concurrent use.
type Provider interface {
	// Renew makes one call of the token endpoint (RFC 6749 section 6, or 4.4 by the policy's grant type) and no
	// second try. withScope says whether to send the scope parameter where the provider uses one. Its error is a *ProviderError.
	Renew(ctx context.Context, tokens TokenSet, withScope bool) (Answer, error)
	// VerifyIDToken checks the id token that came with a renewal: signature, iss, aud, azp, exp, iat, at_hash, and
	// OpenID Connect Core 12.2 against the grant's identity and its former id token. It returns the claims. Only with fetch does
	// it ask for keys that it does not have; without, they are ErrKeysUnavailable, and nothing is waited for.
	VerifyIDToken(ctx context.Context, g *Grant, idToken Secret, fetch bool) (map[string]any, error)
	// Revoke revokes the grant at the provider (RFC 7009), if it can; nil when there is nothing to do.
	Revoke(ctx context.Context, tokens TokenSet) error
	// RevokesConsent says that a revocation there withdraws the person's consent to the client, and so ends all their grants.
	RevokesConsent() bool
	// Policy is when the provider's grants are due, and how they are renewed.
	Policy() Policy
	// OnUnknown is what to do after a call whose outcome nobody knows.
	OnUnknown() OnUnknown
}

// Providers finds a configured provider by name, or as an identity's.
type Providers interface {
	Lookup(name string) (Provider, bool)
	// Of finds the provider that an identity is from. One that stands elsewhere by now, under the same name, is not it: what the former
	// has issued is shown to nobody else.
	Of(whose Identity) (Provider, bool)
	Names() []string
}
