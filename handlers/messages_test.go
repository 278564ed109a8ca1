package handlers

import (
	"strings"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/views"
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

// An answer to a pushed request that is no error is not called a problem of the provider's own, and what an error says is shown.
func TestWordsOfARequestThatWasNotTaken(t *testing.T) {
	t.Parallel()
	for want, failure := range map[string]auth.Failure{
		"Example Corp answered with something that Keyturn cannot use.": {Code: auth.CodeHTTPStatus, Status: 200, Detail: "HTTP status 200, without a request_uri"},
		"Example Corp has a problem of its own (status 500).":           {Code: auth.CodeHTTPStatus, Status: 500},
		"Example Corp asks for fewer requests.":                         {Code: auth.CodeHTTPStatus, Status: 429},
		// The code with which an endpoint refuses a token (RFC 7009 section 2.2.1) is not ours for a type that it gave.
		"Example Corp answered with the error unsupported_token_type.": {Code: "unsupported_token_type", Status: 400},
		"Example Corp answered with the error invalid_request. It says: “redirect_uri is not registered”": {
			Code: "invalid_request", Status: 400, Detail: "redirect_uri is not registered"},
	} {
		if said := signInWords("Example Corp", &provider.SignInError{Code: provider.CodePushRefused, Failure: failure}); said.Detail != want {
			t.Errorf("%q, want %q", said.Detail, want)
		}
	}
}

// What is written from right to left stands in a sentence of Keyturn's, and does not turn it around.
func TestAProviderWhoseNameIsWrittenFromRightToLeft(t *testing.T) {
	t.Parallel()
	for label, want := range map[string]string{
		"Example Corp": "Example Corp cannot be reached.", "Ünïversität 東京": "Ünïversität 東京 cannot be reached.",
		"مزود الهوية": "\u2068مزود الهوية\u2069 cannot be reached.", "ספק": "\u2068ספק\u2069 cannot be reached.",
	} {
		if said := signInWords(label, &provider.SignInError{Code: auth.CodeUnreachable}); said.Title != want {
			t.Errorf("%q, want %q", said.Title, want)
		}
	}
	said := signInWords("P", &provider.SignInError{Code: "odd", Said: "تعذر"})
	if want := "P answered with the error odd. It says: “\u2068تعذر\u2069”"; said.Detail != want {
		t.Errorf("%q, want %q", said.Detail, want)
	}
}

// Beside the button it is said whose matter a failure is, and what to do comes last. Where nothing is beside it, it says so itself.
func TestWhatIsSaidBesideTheButton(t *testing.T) {
	t.Parallel()
	a := &app{Config: Config{Providers: &provider.Set{}, Now: time.Now}}
	for next, want := range map[string]views.Result{
		" The operator has to mend that; it is not your doing.": {
			Text: "P does not accept Keyturn's settings (invalid_client).", Whose: "operator"},
		" Sign in again.": {Text: "P has refused the refresh token (invalid_grant).", Whose: "you", SignIn: true},
	} {
		code := map[bool]string{false: "invalid_client", true: "invalid_grant"}[want.SignIn]
		failure := auth.Failure{Code: code, Party: auth.Party(want.Whose)}
		g := &auth.Grant{Identity: auth.Identity{Provider: "P"}, Standing: auth.Standing{Refused: want.SignIn, Failure: failure}}
		if said := a.notRenewed(auth.View{Grant: g}, failure); said != want {
			t.Errorf("%+v, want %+v", said, want)
		}
		if said := a.failureWords(g, failure).String(); said != want.Text+next {
			t.Errorf("%q, want %q", said, want.Text+next)
		}
	}
}

// How long a renewal took reads the same beside the button as in the history.
func TestAnswersSayHowLongARenewalTook(t *testing.T) {
	t.Parallel()
	a := &app{Config: Config{Providers: &provider.Set{}, Now: time.Now}}
	g := &auth.Grant{Generation: 2}
	for took, want := range map[time.Duration]string{1600 * time.Millisecond: "1.6 s", time.Microsecond: "<1 ms"} {
		result := auth.Result{View: auth.View{Grant: g}, Outcome: auth.OutcomeRotated, Took: took}
		if said := a.resultWords(result); said.Text != "Rotated in "+want+": generation 2," || want != views.Brief(took) {
			t.Errorf("%v: %s", took, said.Text)
		}
	}
}

// The page keeps room for an answer beside the button, which the longest ones do not outgrow.
func TestAnswersBesideTheButtonAreShort(t *testing.T) {
	t.Parallel()
	a := &app{Config: Config{Providers: &provider.Set{}, Now: time.Now}}
	for _, failure := range []auth.Failure{
		{Code: "invalid_grant", Replay: auth.CodeReplayed}, {Code: "invalid_grant", Replay: auth.CodeReplayedAfterCrash}, {Code: auth.CodeStorage},
		{Code: auth.CodeRedirect}, {Code: auth.CodeOutcomeUnknown}, {Code: auth.CodeHTTPStatus, Status: 400, Said: "x"},
	} {
		refused := failure.Replay != ""
		g := &auth.Grant{Identity: auth.Identity{Provider: "Example Corp"}, Standing: auth.Standing{Refused: refused, Failure: failure}}
		if said := a.failureWords(g, failure).what; len(said) > 165 {
			t.Errorf("%d characters: %s", len(said), said)
		}
	}
}
