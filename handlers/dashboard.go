package handlers

import (
	"errors"
	"net/http"
	"strings"

	"github.com/a-h/templ"
	"github.com/labstack/echo/v4"

	"keyturn/auth"
	"keyturn/views"
)

// historyRows is how many renewals a page of the history shows.
const historyRows = 20

// dashboard is the token dashboard.
func (a *app) dashboard(c echo.Context) error {
	view, err := a.grant(c)
	if errors.Is(err, errSignedOut) {
		if isHTMX(c) {
			return a.unauthorized(c, signedOutJSON)
		}
		return c.Redirect(http.StatusSeeOther, "/?return_to=/dashboard")
	}
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	history, err := a.Rotator.History(ctx, view.Grant.ID, 0, historyRows)
	if err != nil {
		return storageProblem(err)
	}
	var targets []string
	if p, ok := a.Providers.Get(view.Grant.Identity.Provider); ok {
		targets = p.Origins()
	}
	c.Response().Header().Set("Content-Security-Policy", contentPolicy(targets))
	return a.render(c, http.StatusOK, views.Dashboard(views.DashboardPage{
		Person: a.person(c, view.Grant), Token: a.tokenCard(view, flashed(a.Sessions.TakeFlash(ctx))),
		Grant: a.grantFacts(c, view), History: historyRowsOf(history),
	}))
}

// person is who is signed in, as the Session callback shows them.
func (a *app) person(c echo.Context, g *auth.Grant) views.Person {
	user := a.Callbacks.User(c.Request().Context(), a.Log, g)
	text := func(name string) string { s, _ := user[name].(string); return s }
	return views.Person{Name: text("name"), Email: text("email"), Subject: text("sub"), Provider: a.label(g)}
}

func (a *app) label(g *auth.Grant) string {
	if p, ok := a.Providers.Get(g.Identity.Provider); ok {
		return p.Label()
	}
	return g.Identity.Provider
}

func (a *app) tokenCard(view auth.View, said *views.Result) views.TokenCard {
	g := view.Grant
	card := views.TokenCard{
		State: string(view.State), Now: a.Now(), IssuedAt: g.Tokens.IssuedAt, ExpiresAt: g.Tokens.ExpiresAt, DueAt: view.RipeAt,
		Generation: g.Generation, Renewable: view.Renewable, NextRenewalAt: view.NextAt, Result: said, Renewing: view.Running,
	}
	if failure := view.Problem; failure.Code != "" {
		card.Problem = &views.StandingProblem{
			Text: a.failureWords(g, failure), Whose: string(failure.Party), NextTryAt: a.nextTry(view),
		}
	}
	if !view.Renewable {
		card.SignInURL = signInURL(g.Identity.Provider, "/dashboard", promptFor(g.Standing.Failure.Code))
	}
	return card
}

// promptFor is the prompt with which a refused grant is signed in again.
func promptFor(code string) string {
	switch code {
	case "consent_required":
		return "consent"
	case "login_required":
		return "login"
	default:
		return ""
	}
}

func (a *app) grantFacts(c echo.Context, view auth.View) views.GrantFacts {
	g := view.Grant
	return views.GrantFacts{
		SignedInAt: g.CreatedAt, SessionEndsAt: a.Sessions.EndsAt(c.Request().Context()),
		Provider: a.label(g), Issuer: g.Identity.Issuer, Scope: strings.Fields(g.Tokens.Scope), NextRenewalAt: view.NextAt,
		RefreshExpiresAt: g.Tokens.RefreshExpiresAt, RefreshNeverExpires: g.Tokens.RefreshNeverExpires, Renewable: view.Renewable,
	}
}

func historyRowsOf(history []auth.Renewal) []views.HistoryRow {
	rows := make([]views.HistoryRow, 0, len(history))
	for _, r := range history {
		rows = append(rows, views.HistoryRow{
			At: r.At, Generation: r.Generation, Trigger: string(r.Trigger), Outcome: string(r.Outcome), Duration: r.Duration,
			ErrorCode: r.Code, Detail: r.Detail, Warning: r.Warning, Shared: r.Shared, OldToken: r.OldToken, NewToken: r.NewToken,
			OldExpiry: r.OldExpiry, NewExpiry: r.NewExpiry,
		})
	}
	return rows
}

// render writes a page or a fragment whole, so that a failing view is an error page and not half of one.
func (a *app) render(c echo.Context, status int, view templ.Component) error {
	buffer := templ.GetBuffer()
	defer templ.ReleaseBuffer(buffer)
	if err := view.Render(c.Request().Context(), buffer); err != nil {
		return err
	}
	return c.HTMLBlob(status, buffer.Bytes())
}
