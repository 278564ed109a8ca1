package handlers

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/views"
)

// told is what people are told of a failure.
type told struct {
	what string // happened; empty: nothing is known of it
	next string // is to be done, signInAgain or toTheOperator: not for where something beside it says so. Empty: nothing, or it is in what
}

const (
	signInAgain   = "Sign in again."
	toTheOperator = "The operator has to mend that; it is not your doing."
)

// String is for where nothing beside it says what to do.
func (t told) String() string {
	if t.next == "" {
		return t.what
	}
	return t.what + " " + t.next
}

// failureWords says why a renewal failed and whose matter that is. All of what people read about failed renewals is here.
func (a *app) failureWords(g *auth.Grant, f auth.Failure) told {
	name := a.named(g)
	struck := ""
	switch f.Replay {
	case auth.CodeReplayedAfterCrash:
		struck = " Keyturn was stopped in the middle of a renewal, so the refresh token had to be presented once more."
	case auth.CodeReplayed:
		struck = " An answer was lost on the way, so the refresh token had to be presented once more."
	}
	refused := g.Standing.Refused && f.Code == g.Standing.Failure.Code // whatever else the code may mean
	if words := callWords(name, f); words.what != "" && !refused {
		if f.Code == auth.CodeHTTPStatus && f.Status == http.StatusBadRequest { // some refuse so, and nothing tells
			words.what += " If it goes on so, sign out and sign in again."
		}
		return words
	}
	switch f.Code {
	case auth.CodeOutcomeUnknown:
		return told{what: "It is not known whether " + name + " took the refresh token; Keyturn asks again when the access token has expired."}
	case auth.CodeNotRenewable:
		return told{what: name + " gave no refresh token, so this token cannot be renewed."}
	case auth.CodeNoToken:
		return told{what: name + " signs people in and gives no access token: there is none here, and nothing to renew."}
	case auth.CodeProviderUnavailable:
		return told{what: "This provider, or where it was, is not among Keyturn's settings any more; the operator has to bring it back."}
	case auth.CodeBusy:
		return told{what: "Another renewal comes first, and takes long."}
	case auth.CodeShuttingDown:
		return told{what: "Keyturn is about to restart."}
	case auth.CodeStorage:
		return told{what: "Keyturn's database cannot be written to at the moment. Nothing is lost."}
	case "interaction_required", "login_required", "consent_required":
		return told{name + " wants to see you again before it gives new tokens.", signInAgain}
	case "invalid_request":
		switch {
		case g.Standing.Refused:
		case f.Detail != "":
			return told{what: name + " did not accept the request: “" + isolated(strings.TrimSuffix(f.Detail, ".")) + "”."}
		default:
			return told{what: name + " did not understand the request, or had two at once."}
		}
	}
	if g.Standing.Refused {
		return told{name + " has refused the refresh token (" + refusedWith(f.Code, f.Detail) + ")." + struck, signInAgain}
	}
	return told{what: errorWords(name, f.Code)}
}

// refusedWith is what the provider refused a refresh token with: its words, where the code elsewhere means another thing, else the code.
func refusedWith(code, detail string) string {
	if auth.RefusesClient(code) || code == "invalid_request" {
		return cmp.Or(isolated(strings.TrimSuffix(detail, ".")), code)
	}
	return code
}

// errorWords says an error code that nothing more is known of.
func errorWords(name, code string) string {
	return fmt.Sprintf("%s answered with the error %s.", name, isolated(strings.TrimSuffix(code, ".")))
}

// unusableWords says that an answer is none, and does not say why.
func unusableWords(name string) string {
	return name + " answered with something that Keyturn cannot use."
}

// callWords says what went wrong with a call of the provider, whatever it was for; nothing for errors that mean different things at
// different times.
func callWords(name string, f auth.Failure) told {
	switch {
	case settingsRefused(f.Code):
		return told{fmt.Sprintf("%s does not accept Keyturn's settings (%s).", name, f.Code), toTheOperator}
	case f.Code == auth.CodeMetadata:
		return told{name + " says things about itself that Keyturn cannot use.", toTheOperator}
	default:
		return told{what: answerWords(name, f)}
	}
}

// answerWords is what callWords says where that leaves nothing to do; "" for nothing.
func answerWords(name string, f auth.Failure) string {
	if f.Code == auth.CodeRateLimited || f.Code == auth.CodeHTTPStatus && f.Status == http.StatusTooManyRequests {
		return name + " asks for fewer requests."
	}
	switch f.Code {
	case auth.CodeUnreachable, auth.CodeDiscovery:
		return name + " cannot be reached."
	case auth.CodeTimeout:
		return name + " does not answer in time."
	case auth.CodeCutOff:
		return name + " closed the connection before its answer was whole."
	case auth.CodeUnreadable:
		return name + " answered with something that is no token answer."
	case auth.CodeRedirect:
		return name + " answered with a redirect, which a token endpoint must not do; nothing was sent there. The operator should check the issuer."
	case auth.CodeHTTPStatus, "server_error", "temporarily_unavailable":
		if f.Status == 0 {
			return name + " has a problem of its own."
		}
		if f.Code == auth.CodeHTTPStatus && f.Status/100 == 2 {
			return unusableWords(name)
		}
		if f.Code == auth.CodeHTTPStatus && f.Status/100 == 4 && f.Status != http.StatusRequestTimeout {
			if f.Said != "" {
				return fmt.Sprintf("%s answered with status %d and without an error code; Keyturn's log has what it said.", name, f.Status)
			}
			return fmt.Sprintf("%s answered with status %d and did not say why.", name, f.Status)
		}
		return fmt.Sprintf("%s has a problem of its own (status %d).", name, f.Status)
	case auth.CodeNoAccessToken:
		return name + " answered without an access token."
	case auth.CodeTokenType:
		return name + " answered with a kind of token that Keyturn cannot use."
	case auth.CodeIdentityChanged:
		return name + " answered with the tokens of somebody else."
	}
	return ""
}

// codeOf is the code of a renewal that failed, as people see it.
func codeOf(r auth.Renewal) string {
	if r.Outcome == auth.OutcomeRefused {
		return refusedWith(r.Code, r.Detail)
	}
	return r.Code
}

// meaning is what the code of a renewal that failed stands for; "" where the outcome says it.
func (a *app) meaning(g *auth.Grant, r auth.Renewal) string {
	if r.Outcome == auth.OutcomeRefused {
		return ""
	}
	return callWords(a.named(g), auth.Failure{Code: r.Code}).String()
}

// warningWords says what was odd about a renewal, as the end of a sentence; "" when nothing was.
func warningWords(code string) string {
	switch code {
	case auth.CodeIDTokenRejected:
		return "its id token did not stand up to the checks, so the old one stays"
	case auth.CodeReplayed:
		return "an answer was lost on the way, so the refresh token was presented once more"
	case auth.CodeReplayedAfterCrash:
		return "Keyturn had been stopped in the middle of a renewal, so the refresh token was presented once more"
	case auth.CodeStoredLate:
		return "Keyturn's database did not take the new tokens at once"
	}
	return ""
}

// settingsRefused says whether a provider does not accept how Keyturn is set (RFC 6749 sections 4.1.2.1 and 5.2).
func settingsRefused(code string) bool {
	return auth.RefusesClient(code) || code == "unsupported_response_type" || code == "invalid_scope"
}

// resultWords is the sentence beside the button: what came of the click, with figures.
func (a *app) resultWords(result auth.Result) views.Result {
	g := result.Grant
	switch result.Outcome {
	case auth.OutcomeRotated:
		return views.Result{
			OK: true, Text: fmt.Sprintf("Rotated in %s: generation %d,", views.Brief(result.Took), g.Generation), Until: g.Tokens.ExpiresAt,
			But: warningWords(result.Warning),
		}
	case auth.OutcomeRenewed:
		with := "with the same refresh token "
		if p, ok := a.Providers.Get(g.Identity.Provider); ok && p.Policy().GrantType == auth.GrantClientCredentials {
			with = ""
		}
		return views.Result{
			OK: true, Text: fmt.Sprintf("Renewed %sin %s: generation %d,", with, views.Brief(result.Took), g.Generation), Until: g.Tokens.ExpiresAt,
			But: warningWords(result.Warning),
		}
	case "":
		if result.Problem.Code != "" && result.Problem.Code != auth.CodeNoToken { // nothing was tried, so soon after a failure that stands
			return a.notRenewed(result.View, result.Problem)
		}
		return views.Result{OK: true, Text: "No renewal was needed."}
	case auth.OutcomeKept, auth.OutcomeRefused:
	}
	return a.notRenewed(result.View, result.Failure)
}

// notRenewed is what there is to say of a failure, beside the button as long as it stands.
func (a *app) notRenewed(view auth.View, f auth.Failure) views.Result {
	words := a.failureWords(view.Grant, f)
	return views.Result{
		Text: words.what, SignIn: words.next == signInAgain, Whose: string(f.Party), NextTryAt: a.nextTry(view),
		Kept: view.Grant.Tokens.ValidAt(a.Now()) && !view.Grant.Tokens.None(), OnRequest: view.OnRequest,
	}
}

// resultError is the error object of a renewal that failed or left no token usable at now, else nil.
func (a *app) resultError(result auth.Result, now time.Time) *apiError {
	why := result.Failure
	switch {
	case result.Grant.Tokens.None():
		why = auth.Failure{Code: auth.CodeNoToken}
	case why.Code != "":
	case result.Grant.Tokens.ValidAt(now):
		return nil
	case result.Problem.Code != "": // nothing was tried, so soon after an earlier failure
		why = result.Problem
	default:
		return &apiError{"expired", "The access token has expired."}
	}
	return &apiError{why.Code, a.failureWords(result.Grant, why).String()}
}

// nextTry is when Keyturn next tries by itself after a failure, or, with view.OnRequest, from when on a request has it try; zero when it
// does not.
func (a *app) nextTry(view auth.View) time.Time {
	if view.Problem.Code == "" || !view.NextAt.After(a.Now()) {
		return time.Time{}
	}
	return view.NextAt
}

// changedWords says why a session has ended whose grant has.
func changedWords() views.Problem {
	return views.Problem{
		Title: "Your sign-in has ended.", Detail: "The provider answered a renewal with the tokens of somebody else. Keyturn has them revoked where the provider can.",
		Next: "Sign in again to go on.",
	}
}

const (
	codeInternal = "sign_in_failed" // for a reason of Keyturn's own
	codeOver     = "session_over"   // it has ended at the provider by now
)

// signInWords says why a sign-in did not succeed, in sentences of our own and at most the provider's; what a library says is
// in the log. The failure's texts are short and of one line.
func signInWords(label string, failure *provider.SignInError) views.Problem {
	label = isolated(label)
	p := views.Problem{Title: "The sign-in did not succeed.", Next: "You can try again."}
	untrusted := func(detail string) {
		p.Title, p.Detail = "The answer of "+label+" could not be trusted.", detail
		p.Next = "Nothing was signed in. Try again; if it stays so, tell the operator."
	}
	unlessMended := func(code string) {
		if settingsRefused(code) {
			p.Next = "Trying again will not help until then."
		}
	}
	switch failure.Code {
	case "access_denied":
		p.Title, p.Detail = "The sign-in was cancelled.", label+" says that access was not granted."
	case auth.CodeDiscovery, auth.CodeUnreachable:
		p.Title, p.Detail = label+" cannot be reached.", "Keyturn could not begin the sign-in there."
		p.Next = "Try again in a moment; if it stays so, tell the operator."
	case auth.CodeKeysUnavailable:
		p.Title, p.Detail = label+" cannot be reached.", "Keyturn could not read the keys that prove who signed in there."
		p.Next = "Nothing was signed in. Try again in a moment; if it stays so, tell the operator."
	case auth.CodeMetadata:
		p.Title, p.Detail = "What "+label+" says about itself cannot be used.", "Its metadata is missing, unreadable, or that of another issuer."
		p.Next = "This is for Keyturn's operator to mend, whose log says what is wrong. Until then trying again will not help."
	case provider.CodeExchangeFailed:
		p.Title, p.Detail = label+" gave no tokens.", exchangeWords(label, failure.Failure)
		unlessMended(failure.Failure.Code)
	case provider.CodePushRefused:
		p.Title, p.Detail = label+" did not take the request for a sign-in.", exchangeWords(label, failure.Failure)
		unlessMended(failure.Failure.Code)
	case provider.CodeIssuerMismatch:
		untrusted("It names another provider than the one that was asked, or none.")
	case provider.CodeInvalidIDToken:
		untrusted("The id token, which says who signed in, does not stand up to the checks.")
	case provider.CodeInvalidUserinfo:
		untrusted("Its userinfo does not say that it is about the person who signed in.")
	case provider.CodeNoIDToken:
		untrusted("There is no id token in it, which says who signed in.")
	case provider.CodeInvalidCallback:
		untrusted("It lacks what proves that it comes from there.")
	case provider.CodeNoCode:
		p.Detail = "The answer of " + label + " has neither a code nor an error."
	case provider.CodeNoSubject, provider.CodeProfileFailed:
		p.Detail = label + " did not say who signed in."
	case codeOver:
		p.Title, p.Detail = label+" has ended this sign-in.", "It says that your session there is over: perhaps you have signed out there meanwhile."
		p.Next = "You can sign in again."
	case codeInternal:
		p.Detail = "Something went wrong inside Keyturn; its log says what."
	case "login_required", "interaction_required", "consent_required", "account_selection_required":
		p.Title, p.Detail = label+" could not sign you in without asking you something.", isolated(failure.Said)
		p.Next = "Sign in again, and answer what it asks."
	case "server_error", "temporarily_unavailable":
		p.Title, p.Detail, p.Next = label+" has a problem of its own.", isolated(failure.Said), "Try again in a moment."
	default:
		words := callWords(label, auth.Failure{Code: failure.Code})
		p.Detail = cmp.Or(words.what, errorWords(label, failure.Code)) + itSays(failure.Said)
		if unlessMended(failure.Code); words.next != "" {
			p.Next = words.next + " " + p.Next
		}
	}
	return p
}

// exchangeWords says why the token endpoint gave no tokens for a code.
func exchangeWords(label string, f auth.Failure) string {
	switch words := callWords(label, f); {
	case words.what != "":
		return words.String()
	case f.Code == "invalid_grant":
		return label + " does not know the code that the browser brought: it is too old, or has been used."
	case f.Code != "":
		return errorWords(label, f.Code) + itSays(f.Detail)
	default:
		return unusableWords(label)
	}
}

// itSays is a further sentence with a provider's own words, if it has any.
func itSays(words string) string {
	if words == "" {
		return ""
	}
	return " It says: “" + isolated(words) + "”"
}

// named is a grant's provider as a sentence names it.
func (a *app) named(g *auth.Grant) string { return isolated(a.label(g)) }

// isolated keeps what somebody else wrote, from right to left, from turning the sentence around that it is in (Unicode's UAX 9).
func isolated(words string) string {
	if strings.ContainsFunc(words, func(c rune) bool {
		return unicode.In(c, unicode.Hebrew, unicode.Arabic, unicode.Syriac, unicode.Thaana, unicode.Nko, unicode.Adlam)
	}) {
		return "\u2068" + words + "\u2069"
	}
	return words
}
