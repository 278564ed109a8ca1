package auth

import (
	"math/rand/v2"
	"strings"
	"time"
)

const (
	backoffBase   = time.Second
	backoffCap    = 5 * time.Minute
	maxRetryAfter = 10 * time.Minute
	retrySoon     = 2 * time.Second
)

// verdict is what follows from a failed call of the token endpoint.
type verdict struct {
	outcome Outcome
	party   Party
	again   bool          // try again at once, without scope
	wait    time.Duration // until the next automatic try; 0: by back-off
}

// RefusesClient says whether an error code is about the client and what it may do (RFC 6749 section 5.2), also as GitHub, Slack and Google
// write it.
func RefusesClient(code string) bool {
	switch code {
	case "invalid_client", "unauthorized_client", "unsupported_grant_type",
		"incorrect_client_credentials", "bad_client_secret", "invalid_client_id", "deleted_client", "disabled_client":
		return true
	}
	return false
}

// endsToken says whether a failure is the end of a refresh token, in the words of servers that have others for it than invalid_grant (RFC 6749
// section 5.2).
func (f Failure) endsToken() bool {
	switch f.Code {
	case "unauthorized_client": // Gitea, Forgejo; with other words they mean the client
		return f.Detail == "token was already used" || f.Detail == "unable to parse refresh token"
	case "invalid_token": // Cloud Foundry's UAA, Spring Security OAuth
		return f.Status/100 == 4 && !f.Unwell()
	}
	return strings.HasPrefix(f.Code, "invalid_grant:") // EVE Online goes on with why
}

// judge reads a failure by the error code, not by the status: GitHub answers errors with 200, Auth0 invalid_grant with
// 403. invalidRequests counts the invalid_request answers before this one.
func judge(f Failure, invalidRequests int) verdict {
	if f.endsToken() {
		return verdict{outcome: OutcomeRefused, party: PartyPerson}
	}
	if RefusesClient(f.Code) {
		return verdict{outcome: OutcomeKept, party: PartyOperator, wait: backoffCap}
	}
	switch f.Code {
	case "invalid_grant", "bad_refresh_token", "refresh_token_reused", "refresh_token_already_used", "refresh_token_not_found", "invalid_code",
		"interaction_required", "login_required", "consent_required":
		return verdict{outcome: OutcomeRefused, party: PartyPerson}
	case "invalid_request":
		// Dex means "refused" with it, Hydra "two at once, try again"; Dex says it of its own failures, too, with the status of those.
		if f.Unwell() {
			return verdict{outcome: OutcomeKept, party: PartyProvider}
		}
		if invalidRequests > 0 {
			return verdict{outcome: OutcomeRefused, party: PartyPerson}
		}
		return verdict{outcome: OutcomeKept, party: PartyProvider, wait: retrySoon}
	case "invalid_scope":
		return verdict{outcome: OutcomeKept, party: PartyOperator, again: true}
	case CodeRedirect, CodeMetadata:
		return verdict{outcome: OutcomeKept, party: PartyOperator}
	case CodeProviderUnavailable:
		return verdict{outcome: OutcomeKept, party: PartyOperator, wait: backoffCap}
	case CodeNotRenewable:
		return verdict{outcome: OutcomeKept, party: PartyPerson}
	case CodeBusy, CodeShuttingDown, CodeStorage:
		return verdict{outcome: OutcomeKept, party: PartyKeyturn}
	default:
		return verdict{outcome: OutcomeKept, party: PartyProvider}
	}
}

// backoff is the wait after the given number of failures in a row: full jitter under a bound that doubles from 1 s to
// 5 min, and at least what the provider asked for, up to 10 min.
func backoff(failures int, retryAfter time.Duration) time.Duration {
	bound := backoffCap
	if shift := failures - 1; shift < 9 {
		bound = min(bound, backoffBase<<max(0, shift))
	}
	jitter := rand.N(bound) + 1 //nolint:gosec // spreads load; nothing secret depends on it
	return max(jitter, min(retryAfter, maxRetryAfter))
}
