package handlers

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"keyturn/auth"
	"keyturn/views"
)

// updateWord is what asks for a renewal now, due or not, as a query parameter or a header named query.
const updateWord = "update-token-data"

// triggerAnswer is what a program gets from POST /api/trigger-renew-token.
type triggerAnswer struct {
	Status     int           `json:"status"`
	Outcome    *auth.Outcome `json:"outcome"` // null: no renewal was needed
	Generation int64         `json:"generation"`
	ExpiresAt  time.Time     `json:"expires_at"`
	Error      *apiError     `json:"error,omitempty"`
}

// asksToRenew tells a click on Refresh Token from a look whether the token is due.
func asksToRenew(c echo.Context) bool {
	return c.QueryParam("query") == updateWord || c.Request().Header.Get("query") == updateWord
}

// triggerRenewToken is what the Refresh Token button posts to. With the word it renews now, without it only if due.
func (a *app) triggerRenewToken(c echo.Context) error {
	trigger := auth.TriggerAutomatic
	if asksToRenew(c) {
		trigger = auth.TriggerManual
	}
	result, err := a.renewed(c, trigger)
	if errors.Is(err, errSignedOut) {
		if acceptsHTML(c) && !isHTMX(c) {
			return c.Redirect(http.StatusSeeOther, endedPath)
		}
		return a.notRenewable(c, err, map[string]any{"status": http.StatusUnauthorized})
	}
	if err != nil {
		return err
	}
	said := a.resultWords(result)
	switch {
	case isHTMX(c) && trigger == auth.TriggerAutomatic:
		return a.tokenFragment(c, result.View, nil) // the page asked by itself: nobody waits for a word
	case isHTMX(c):
		return a.tokenFragment(c, result.View, &said)
	case acceptsHTML(c):
		a.Sessions.Flash(c.Request().Context(), flashOf(said))
		return c.Redirect(http.StatusSeeOther, "/dashboard")
	}
	now := a.Now()
	answer := triggerAnswer{
		Status: statusOf(result, now), Generation: result.Grant.Generation, ExpiresAt: whole(result.Grant.Tokens.ExpiresAt),
		Error: a.resultError(result, now),
	}
	if result.Outcome != "" {
		answer.Outcome = &result.Outcome
	}
	a.sayWhen(c, answer.Status, result)
	return c.JSON(answer.Status, answer)
}

// tokenAnswer is what a program gets from POST /api/renew-token.
type tokenAnswer struct {
	AccessToken *string      `json:"access_token"` // null when tokens are not exposed
	TokenType   string       `json:"token_type"`
	ExpiresIn   int64        `json:"expires_in"`
	ExpiresAt   time.Time    `json:"expires_at"`
	Scope       string       `json:"scope"`
	Generation  int64        `json:"generation"`
	Outcome     auth.Outcome `json:"outcome"`
	Error       *apiError    `json:"error,omitempty"`
}

// renewToken renews now and answers the tokens. A failed renewal answers the existing ones while they are of use; a dead
// token is never handed out.
func (a *app) renewToken(c echo.Context) error {
	result, err := a.renewed(c, auth.TriggerAPI)
	if errors.Is(err, errSignedOut) {
		return a.notRenewable(c, err, map[string]any{"message": "User is not authorized to rotate access-token"})
	}
	if err != nil {
		return err
	}
	now := a.Now()
	why := a.resultError(result, now)
	if status := statusOf(result, now); status != http.StatusOK {
		if status == http.StatusUnauthorized {
			why.Code = "sign_in_required"
		}
		a.sayWhen(c, status, result)
		return c.JSON(status, map[string]any{"outcome": result.Outcome, "error": why})
	}
	tokens := result.Grant.Tokens
	answer := tokenAnswer{
		TokenType: tokens.Type, ExpiresIn: secondsLeft(tokens.ExpiresAt, now), ExpiresAt: whole(tokens.ExpiresAt),
		Scope: tokens.Scope, Generation: result.Grant.Generation, Outcome: result.Outcome, Error: why,
	}
	if a.ExposeTokens {
		access := tokens.Access.Reveal()
		answer.AccessToken = &access
	}
	return c.JSON(http.StatusOK, answer)
}

// notRenewable is unauthorized for a wish for a renewal. One that has ended the grant has an outcome, as others have.
func (a *app) notRenewable(c echo.Context, why error, beside map[string]any) error {
	if errors.Is(why, errSomebodyElse) {
		beside["outcome"] = auth.OutcomeRefused
	}
	return a.unauthorized(c, why, beside)
}

// statusOf is the HTTP status of a renewal's answer: 200 as long as there is a usable access token, 404 where there never is one. Where the
// provider is not configured any more, nobody has refused anything, and the grant goes on when the operator has brought it back.
func statusOf(result auth.Result, now time.Time) int {
	switch {
	case result.Grant.Tokens.None():
		return http.StatusNotFound
	case result.Grant.Tokens.ValidAt(now):
		return http.StatusOK
	case result.Problem.Code == auth.CodeProviderUnavailable:
		return http.StatusBadGateway
	case result.Outcome == auth.OutcomeRefused, !result.Renewable, result.State == auth.StateNeedsSignIn:
		return http.StatusUnauthorized
	case result.Failure.Party == auth.PartyKeyturn:
		return http.StatusServiceUnavailable
	default:
		return http.StatusBadGateway
	}
}

// sayWhen tells a program whose renewal brought no usable token when Keyturn tries by itself, which is when to ask again: each wish for a
// renewal is tried at once.
func (a *app) sayWhen(c echo.Context, status int, result auth.Result) {
	if status < http.StatusInternalServerError {
		return
	}
	wait := result.NextAt.Sub(a.Now())
	switch {
	case result.Failure.Code == auth.CodeStorage:
		wait = storageRetryAfter
	case result.Failure.Party == auth.PartyKeyturn:
		wait = time.Second
	case result.NextAt.IsZero(): // never
		return
	}
	retryAfter(c, wait)
}

// tokenFragment is the token card, with what else of the dashboard a renewal changes.
func (a *app) tokenFragment(c echo.Context, view auth.View, said *views.Result) error {
	fragment, err := a.renewedFragment(c, view, said, c.FormValue("since"), false)
	if err != nil {
		return storageProblem(err)
	}
	return a.render(c, http.StatusOK, fragment)
}

// flashOf and flashed carry a result over the redirect of a browser without JavaScript.
func flashOf(said views.Result) string {
	text, err := json.Marshal(said)
	if err != nil {
		return ""
	}
	return string(text)
}

func flashed(word string) *views.Result {
	var said views.Result
	if word == "" || json.Unmarshal([]byte(word), &said) != nil {
		return nil
	}
	return &said
}

func secondsLeft(expiry, now time.Time) int64 { return max(0, int64(expiry.Sub(now)/time.Second)) }

// whole is a time as the API writes it: UTC, whole seconds.
func whole(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
