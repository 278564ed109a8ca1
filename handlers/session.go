package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"keyturn/auth"
)

// sessionAnswer is what GET /api/session says.
type sessionAnswer struct {
	User     map[string]any `json:"user"`
	Provider string         `json:"provider"`
	Expires  time.Time      `json:"expires"`
	Token    tokenState     `json:"token"`
}

// tokenState describes a token set without showing it.
type tokenState struct {
	State         auth.State    `json:"state"`
	TokenType     string        `json:"token_type"`
	Scope         string        `json:"scope"`
	IssuedAt      time.Time     `json:"issued_at"`
	ExpiresAt     time.Time     `json:"expires_at"`
	ExpiresIn     int64         `json:"expires_in"`
	Generation    int64         `json:"generation"`
	Renewable     bool          `json:"renewable"`
	NextRenewalAt *time.Time    `json:"next_renewal_at"`
	LastOutcome   *auth.Outcome `json:"last_outcome"`
	Error         *tokenError   `json:"error"`
}

// tokenError is why the latest renewal failed.
type tokenError struct {
	apiError
	Party     auth.Party `json:"party"`       // whose matter it is
	NextTryAt *time.Time `json:"next_try_at"` // on demand: from when on a request has it tried
}

// session shows the session, and renews its token if that is due.
func (a *app) session(c echo.Context) error {
	view, err := a.grant(c)
	if errors.Is(err, errSignedOut) {
		return a.unauthorized(c, err, nil)
	}
	if err != nil {
		return err
	}
	answer := a.states.under(a.circumstances(c, view), view.Grant.ID, func() ([]byte, error) {
		ctx := context.WithoutCancel(c.Request().Context())
		return json.Marshal(sessionAnswer{
			User: a.Callbacks.User(ctx, a.Log, view.Grant), Provider: view.Grant.Identity.Provider, Expires: whole(a.Sessions.EndsAt(ctx)),
			Token: a.tokenState(view),
		})
	})
	body, err := answer.body()
	if err != nil {
		return err
	}
	return c.JSONBlob(http.StatusOK, body)
}

// tokenState is the token set as the API describes it.
func (a *app) tokenState(view auth.View) tokenState {
	g, now := view.Grant, a.Now()
	token := tokenState{
		State: view.State, TokenType: g.Tokens.Type, Scope: g.Tokens.Scope, IssuedAt: whole(g.Tokens.IssuedAt),
		ExpiresAt: whole(g.Tokens.ExpiresAt), ExpiresIn: secondsLeft(g.Tokens.ExpiresAt, now), Generation: g.Generation,
		Renewable: view.Renewable, NextRenewalAt: wholeOrNil(view.NextAt),
	}
	if g.Standing.Outcome != "" {
		token.LastOutcome = &g.Standing.Outcome
	}
	if failure := view.Problem; failure.Code != "" {
		token.Error = &tokenError{
			apiError: apiError{failure.Code, a.failureWords(g, failure).String()}, Party: failure.Party, NextTryAt: wholeOrNil(a.nextTry(view)),
		}
	}
	return token
}

func wholeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = whole(t)
	return &t
}
