package handlers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"keyturn/auth"
	"keyturn/static"
	"keyturn/views"
)

// dashboard is the token dashboard.
func (a *app) dashboard(c echo.Context) error {
	view, err := a.grant(c)
	if errors.Is(err, errSignedOut) {
		if isHTMX(c) {
			return a.unauthorized(c, err, nil)
		}
		return c.Redirect(http.StatusSeeOther, signInPath)
	}
	if err != nil {
		return err
	}
	a.allowSignOutTargets(c, view.Grant)
	flash, before := "", c.QueryParam("before")
	if c.Request().Method != http.MethodHead { // nobody would read it
		flash = a.Sessions.TakeFlash(c.Request().Context())
	}
	html := func() ([]byte, error) { return a.dashboardHTML(c, view, flashed(flash), before) }
	if flash != "" || before != "" {
		return sendPage(c, newAnswer(html))
	}
	return sendPage(c, a.dashboards.under(a.circumstances(c, view), view.Grant.ID, html))
}

// sendPage writes a dashboard, compressed if that is welcome. It holds no secret: with one, and a word of somebody else's beside it,
// the length would tell (BREACH).
func sendPage(c echo.Context, page *keptAnswer) error {
	zips := static.AcceptsGzip(c.Request().Header)
	html := page.body
	if zips {
		html = page.zip
	}
	body, err := html()
	if err != nil {
		return err
	}
	h := c.Response().Header()
	h.Set(echo.HeaderVary, "Cookie, "+echo.HeaderAcceptEncoding)
	h.Set(echo.HeaderContentLength, strconv.Itoa(len(body)))
	if zips {
		h.Set(echo.HeaderContentEncoding, "gzip")
	}
	return c.HTMLBlob(http.StatusOK, body)
}

// dashboardHTML renders the dashboard, also for others than this request. said is the answer to a click, before the renewal from which
// the history goes on: it shows all that come first, too.
func (a *app) dashboardHTML(c echo.Context, view auth.View, said *views.Result, before string) ([]byte, error) {
	ctx := context.WithoutCancel(c.Request().Context())
	list, err := a.Rotator.History(ctx, view.Grant.ID, 0, auth.KeptRenewals)
	if err != nil {
		return nil, storageProblem(err)
	}
	id, err := renewalBefore(before)
	if err != nil {
		return nil, err
	}
	rows := historyRows
	if id > 0 {
		rows += reaching(list, id)
	}
	history := a.historyOf(view.Grant, list, rows)
	claims := 0
	if jwt, _ := auth.ParseJWT(view.Grant.Tokens.Access); a.ExposeTokens {
		claims = len(jwt.Header) + len(jwt.Claims)
	}
	var html bytes.Buffer
	err = views.Dashboard(views.DashboardPage{
		GrantID: view.Grant.ID, Person: a.person(c, view.Grant), Token: a.tokenCard(view, said, history.Since),
		Grant: a.grantFacts(c, view, list), Timeline: a.timeline(view, list), History: history,
		Claims: claims, CanTry: a.canTry(view.Grant),
	}).Render(ctx, &html)
	return html.Bytes(), err
}

// allowSignOutTargets lets the sign-out form of a page end at the provider. The header is made for each request: of a page, only the body
// is kept.
func (a *app) allowSignOutTargets(c echo.Context, g *auth.Grant) {
	p, ok := a.Providers.Get(g.Identity.Provider)
	if !ok {
		return
	}
	origins := p.Origins(c.Request().Context())
	known, _ := a.policies.Load(p.Name())
	kept, _ := known.(signOutPolicy)
	if kept.header == nil || !slices.Equal(kept.origins, origins) {
		kept = signOutPolicy{origins, []string{contentPolicy(origins)}}
		a.policies.Store(p.Name(), kept)
	}
	c.Response().Header()["Content-Security-Policy"] = kept.header
}

// signOutPolicy is the Content-Security-Policy, as a header's value, of pages whose sign-out may end at the origins.
type signOutPolicy struct{ origins, header []string }

// mostName is how many characters of a name or an address are shown.
const mostName = 300

// person is who is signed in, as the Session callback shows them.
func (a *app) person(c echo.Context, g *auth.Grant) views.Person {
	user := a.Callbacks.User(c.Request().Context(), a.Log, g)
	text := func(name string) string { s, _ := user[name].(string); return cut(s, mostName) } // a name may hold what turns it around
	return views.Person{
		Name: text("name"), Email: text("email"), Subject: text("sub"), Provider: a.label(g),
		Mark: personMark(auth.Person{Provider: g.Identity.Provider, Subject: g.Identity.Subject}),
	}
}

func (a *app) label(g *auth.Grant) string {
	if p, ok := a.Providers.Get(g.Identity.Provider); ok {
		return p.Label()
	}
	return g.Identity.Provider
}

// tokenCard is the token card; since is the oldest renewal that the page shows.
func (a *app) tokenCard(view auth.View, said *views.Result, since string) views.TokenCard {
	g := view.Grant
	card := views.TokenCard{
		State: string(view.State), Now: a.Now(), IssuedAt: g.Tokens.IssuedAt, ExpiresAt: g.Tokens.ExpiresAt, DueAt: view.RipeAt,
		Generation: g.Generation, Renewable: view.Renewable, NextRenewalAt: view.PlanAt, Result: said, Renewing: view.Running,
		AskAt: a.askAt(view), Version: versionOf(g), Since: since,
	}
	switch {
	case g.Tokens.Guessed():
		card.ExpiryNote = "assumed: the provider does not say"
	case g.Tokens.Capped():
		card.ExpiryNote = fmt.Sprintf("%.0f h at most: its own exp is later", auth.MaxLifetime.Hours())
	}
	switch failure := view.Problem; failure.Code {
	case "":
	case auth.CodeNoToken:
		card.NoToken = a.failureWords(g, failure).String()
	default:
		if said == nil {
			stands := a.notRenewed(view, failure)
			card.Result = &stands
		}
	}
	if !view.Renewable {
		card.SignInURL = elsewhereRoute
		if _, configured := a.Providers.Get(g.Identity.Provider); configured {
			prompt := promptFor(g.Standing.Failure.Code)
			if prompt == "" && a.consents.mayThinkBetter(g.Identity.Provider, g.Identity.Subject, a.Now()) {
				prompt = promptConsent
			}
			card.SignInURL = signInURL(g.Identity.Provider, "/dashboard", prompt)
		}
	}
	return card
}

// signInElsewhere is the sign-in page for somebody who is signed in with a provider that is not configured any more: the start page
// would send them back to the dashboard.
func (a *app) signInElsewhere(c echo.Context) error {
	return a.render(c, http.StatusOK, views.SignIn(a.signInPage("/dashboard", nil)))
}

// askAt is when an open page should ask by itself whether there is anything new, beside what /events tells it: at the
// expiry, and after that with each automatic try.
func (a *app) askAt(view auth.View) time.Time {
	switch expiry := view.Grant.Tokens.ExpiresAt; {
	case expiry.After(a.Now()):
		return expiry
	case !view.Renewable:
		return time.Time{}
	default:
		return view.NextAt
	}
}

// promptFor is the prompt with which to sign in again after an error that asks for one (OpenID Connect Core 3.1.2.6).
func promptFor(code string) string {
	switch code {
	case "consent_required":
		return promptConsent
	case "login_required":
		return "login"
	case "account_selection_required":
		return "select_account"
	default:
		return ""
	}
}

func (a *app) grantFacts(c echo.Context, view auth.View, list []auth.Renewal) views.GrantFacts {
	g := view.Grant
	facts := views.GrantFacts{
		SignedInAt: g.CreatedAt, SessionEndsAt: a.Sessions.EndsAt(c.Request().Context()), SessionIdle: a.SessionIdle,
		Provider: a.label(g), Scope: strings.Fields(g.Tokens.Scope), RefreshGiven: g.Tokens.Refresh != "",
		RefreshExpiresAt: g.Tokens.RefreshExpiresAt, RefreshNeverExpires: g.Tokens.RefreshNeverExpires,
	}
	if g.Identity.OpenID() {
		facts.Issuer = g.Identity.Issuer
	}
	if len(list) > 0 && list[0].Outcome.Succeeded() && list[0].OldScope != "" && list[0].OldScope != list[0].NewScope {
		facts.FormerScope = strings.Fields(list[0].OldScope)
	}
	return facts
}
