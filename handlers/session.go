package handlers

import (
	"errors"
	"net/http"
	"strconv"
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
	Party     auth.Party `json:"party"` // whose matter it is
	NextTryAt *time.Time `json:"next_try_at"`
}

// session shows the session, and renews its token if that is due.
func (a *app) session(c echo.Context) error {
	view, err := a.grant(c)
	if errors.Is(err, errSignedOut) {
		return a.unauthorized(c, signedOutJSON)
	}
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
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
			apiError: apiError{failure.Code, a.failureWords(g, failure)}, Party: failure.Party, NextTryAt: wholeOrNil(a.nextTry(view)),
		}
	}
	return c.JSON(http.StatusOK, sessionAnswer{
		User: a.Callbacks.User(ctx, a.Log, g), Provider: g.Identity.Provider, Expires: whole(a.Sessions.EndsAt(ctx)), Token: token,
	})
}

// rotationAnswer is one renewal as the API shows it.
type rotationAnswer struct {
	ID           int64        `json:"id"`
	Generation   int64        `json:"generation"`
	At           time.Time    `json:"at"`
	Trigger      auth.Trigger `json:"trigger"`
	Outcome      auth.Outcome `json:"outcome"`
	Milliseconds int64        `json:"milliseconds"`
	Code         string       `json:"error_code,omitempty"`
	Detail       string       `json:"error_detail,omitempty"`
	Warning      string       `json:"warning,omitempty"`
	Shared       int          `json:"shared"`    // how many other requests waited for it
	OldToken     string       `json:"old_token"` // fingerprints
	NewToken     string       `json:"new_token"`
	OldRefresh   string       `json:"old_refresh_token"`
	NewRefresh   string       `json:"new_refresh_token"`
	OldScope     string       `json:"old_scope,omitempty"`
	NewScope     string       `json:"new_scope,omitempty"`
	OldExpiry    time.Time    `json:"old_expires_at"`
	NewExpiry    time.Time    `json:"new_expires_at"`
}

// rotations is the renewal history, newest first.
func (a *app) rotations(c echo.Context) error {
	view, err := a.grant(c)
	if errors.Is(err, errSignedOut) {
		return a.unauthorized(c, signedOutJSON)
	}
	if err != nil {
		return err
	}
	before, err := strconv.ParseInt(c.QueryParam("before"), 10, 64)
	if c.QueryParam("before") != "" && (err != nil || before <= 0) {
		return problem(http.StatusBadRequest, "bad_before", "The parameter before is not the id of a renewal.", "Take it from the answer before.")
	}
	list, err := a.Rotator.History(c.Request().Context(), view.Grant.ID, before, historyRows+1)
	if err != nil {
		return storageProblem(err)
	}
	var next *int64
	if len(list) > historyRows {
		list = list[:historyRows]
		next = &list[historyRows-1].ID
	}
	answer := make([]rotationAnswer, 0, len(list))
	for _, r := range list {
		answer = append(answer, rotationAnswer{
			ID: r.ID, Generation: r.Generation, At: whole(r.At), Trigger: r.Trigger, Outcome: r.Outcome,
			Milliseconds: r.Duration.Milliseconds(), Code: r.Code, Detail: r.Detail, Warning: r.Warning, Shared: r.Shared,
			OldToken: r.OldToken, NewToken: r.NewToken, OldRefresh: r.OldRefresh, NewRefresh: r.NewRefresh,
			OldScope: r.OldScope, NewScope: r.NewScope, OldExpiry: whole(r.OldExpiry), NewExpiry: whole(r.NewExpiry),
		})
	}
	return c.JSON(http.StatusOK, map[string]any{"rotations": answer, "before": next})
}

func wholeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = whole(t)
	return &t
}
