package provider

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"keyturn/auth"
)

// Codes of a SignInError, beside those that the provider has answered with (RFC 6749 section 4.1.2.1, OpenID Connect Core section
// 3.1.2.6) and auth's for what cannot be reached or read.
const (
	CodePushRefused     = "authorization_request_refused" // the provider did not take an authorization request that was pushed
	CodeExchangeFailed  = "code_exchange_failed"          // the token endpoint gave no tokens for the code
	CodeNoCode          = "no_code"                       // the callback has neither a code nor an error
	CodeInvalidCallback = "invalid_callback"              // the callback lacks what proves that it comes from the provider
	CodeIssuerMismatch  = "issuer_mismatch"               // the callback is of another provider (RFC 9207)
	CodeNoIDToken       = "no_id_token"
	CodeInvalidIDToken  = "invalid_id_token"
	CodeInvalidUserinfo = "invalid_userinfo" // userinfo is of somebody else
	CodeNoSubject       = "no_subject"       // the provider did not say who signed in
	CodeProfileFailed   = "profile_failed"   // who signed in cannot be read, perhaps only now
)

// SignInError is a failed sign-in: the provider's own error answer, or what we found wrong with an answer. Its texts hold
// no secret.
type SignInError struct {
	Code    string       // OAuth error code, or one of ours
	Detail  string       // for the log: technical, and often a library's
	Said    string       // what the provider wrote for people; may be empty
	Failure auth.Failure // of the token endpoint, if that is where it failed

	Unused auth.Answer // tokens that the provider has given all the same: to be revoked, unless they are somebody's who stays signed in
}

// Error implements error.
func (e *SignInError) Error() string {
	if detail := cmp.Or(e.Detail, e.Said); detail != "" {
		return e.Code + ": " + detail
	}
	return e.Code
}

func signInError(code, format string, args ...any) error {
	return &SignInError{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// exchangeError says that the token endpoint gave no tokens for the code.
func exchangeError(err error) *SignInError {
	failed := &SignInError{Code: CodeExchangeFailed, Detail: err.Error()}
	var refusal *auth.ProviderError
	if errors.As(err, &refusal) {
		failed.Failure = refusal.Failure
		if refusal.Salvage != nil {
			failed.Unused = *refusal.Salvage
		}
	}
	return failed
}

// unused says which tokens a failed sign-in leaves.
func unused(answer auth.Answer, err error) error {
	var failed *SignInError
	if errors.As(err, &failed) {
		failed.Unused = answer
	}
	return err
}

// errorAnswer is the provider's error answer to an authorization request for scopes (RFC 6749 section 4.1.2.1).
func errorAnswer(callback url.Values, asked []string) error {
	failed := &SignInError{Code: callback.Get("error"), Said: callback.Get("error_description")}
	if failed.Code == "invalid_scope" {
		failed.Detail = fmt.Sprintf("it was asked for %q; KEYTURN_SCOPES, or scopes in the file, says what to ask for", strings.Join(asked, " "))
	}
	return failed
}
