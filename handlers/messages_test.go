package handlers

import (
	"strings"
	"testing"

	"keyturn/auth"
	"keyturn/auth/provider"
)

// Nobody is asked to try again what only the operator can mend.
func TestWhatComesNextAfterASignInThatFailed(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"code_exchange_failed", provider.CodePushRefused} {
		for code, helps := range map[string]bool{"invalid_client": false, "invalid_scope": false, "invalid_grant": true, "invalid_request": true} {
			said := signInWords("Example Corp", &provider.SignInError{Code: step, Failure: auth.Failure{Code: code}})
			if helps != (said.Next == "You can try again.") || helps == strings.Contains(said.Detail, "The operator has to mend that") {
				t.Errorf("%s, %s: %s %s", step, code, said.Detail, said.Next)
			}
		}
	}
}
