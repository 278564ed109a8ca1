package auth

import "testing"

// One word of a provider's decides whether somebody is signed out.
func TestWhatErrorCodesMean(t *testing.T) {
	t.Parallel()
	for want, codes := range map[verdict][]string{
		{outcome: OutcomeRefused, party: PartyPerson}: {
			"invalid_grant", "bad_refresh_token", "refresh_token_reused", "refresh_token_already_used", "refresh_token_not_found", "invalid_code",
			"interaction_required", "login_required", "consent_required",
		},
		{outcome: OutcomeKept, party: PartyOperator, wait: backoffCap}: {
			"invalid_client", "unauthorized_client", "unsupported_grant_type",
			"incorrect_client_credentials", "bad_client_secret", "invalid_client_id", "deleted_client", "disabled_client",
		},
		{outcome: OutcomeKept, party: PartyProvider, wait: retrySoon}: {"invalid_request"},
		{outcome: OutcomeKept, party: PartyOperator, again: true}:     {"invalid_scope"},
		{outcome: OutcomeKept, party: PartyProvider}:                  {"server_error", "temporarily_unavailable", "slow_down", "no_such_code", ""},
	} {
		for _, code := range codes {
			if got := judge(Failure{Code: code, Status: 400}, 0); got != want {
				t.Errorf("%s: %+v, want %+v", code, got, want)
			}
		}
	}
}
