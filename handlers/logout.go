package handlers

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/auth/session"
	"keyturn/views"
)

const backChannelRoute = "/auth/:provider/backchannel-logout"

// backChannelLogout ends what a provider says is over (OpenID Connect Back-Channel Logout 1.0). Section 2.8 wants 200 or 400,
// whatever went wrong. A request whose logout token does not hold good was in vain, also while nobody can say whether it does: strangers
// could ask for keys that nobody has.
func (a *app) backChannelLogout(c echo.Context) (inVain bool, err error) {
	found, ok := a.Providers.Get(c.Param("provider"))
	if !ok {
		return true, echo.ErrNotFound
	}
	p, ok := found.(provider.BackChannel)
	if !ok {
		return true, echo.ErrNotFound
	}
	ctx, log := c.Request().Context(), a.Log.With("provider", found.Name())
	token, refusal, err := readLogout(c.Request())
	switch {
	case err != nil:
		return true, err
	case refusal != "":
		return true, logoutRefused(c, "invalid_request", refusal)
	}
	logout, err := p.VerifyLogout(ctx, token)
	switch {
	case errors.Is(err, auth.ErrKeysUnavailable):
		log.WarnContext(ctx, "logout token not checked: the provider's keys are out of reach", "error", err)
		return true, logoutRefused(c, "temporarily_unavailable", "The keys that would prove the token are out of reach.")
	case err != nil:
		log.WarnContext(ctx, "security: logout token refused", "error", cut(auth.Redact(err.Error(), auth.Secret(token)), 300))
		return true, logoutRefused(c, "invalid_request", "The logout token is not valid.")
	}
	ended, err := a.Grants.EndAll(ctx, logout, a.Sessions.EndOther)
	switch {
	case errors.Is(err, auth.ErrReplayed):
		log.WarnContext(ctx, "security: logout token used twice")
		return true, logoutRefused(c, "invalid_request", "The logout token has been used.")
	case err != nil:
		log.ErrorContext(ctx, "logout could not be done", "ended", ended, "error", err)
		return false, logoutRefused(c, "temporarily_unavailable", "Not everything could be ended. Send it again.")
	}
	log.InfoContext(ctx, "security: sessions ended by their provider", "ended", ended)
	return false, c.NoContent(http.StatusOK)
}

// readLogout reads the logout token of a request (section 2.5), or says why there is none. The error is of a body that is too large.
func readLogout(r *http.Request) (token, refusal string, err error) {
	kind, _, _ := mime.ParseMediaType(r.Header.Get(echo.HeaderContentType)) // ParseForm tells of what is wrong behind the type
	if kind != echo.MIMEApplicationForm {
		return "", "A logout token comes as a form.", nil
	}
	if err := r.ParseForm(); err != nil {
		if tooLarge := new(echo.HTTPError); errors.As(err, &tooLarge) {
			return "", "", tooLarge
		}
		return "", "The form cannot be read.", nil
	}
	tokens := r.PostForm["logout_token"]
	if len(tokens) != 1 {
		return "", "There must be one logout_token.", nil
	}
	return tokens[0], "", nil
}

func logoutRefused(c echo.Context, code, description string) error {
	return c.JSON(http.StatusBadRequest, map[string]string{"error": code, "error_description": description})
}

const (
	// endWait is how long a sign-out waits for the revocation; what is not done by then goes on by itself.
	endWait = 700 * time.Millisecond
	// leaveWait is how long it waits for metadata that have not been read yet.
	leaveWait = 2 * time.Second
)

// signOut ends the session and its grant, and takes the browser to the provider's end of session. The grant is first: where that fails,
// whoever tries again is still known, and a session without a grant is nobody's.
func (a *app) signOut(c echo.Context) error {
	ctx := c.Request().Context()
	owner, in := a.Sessions.SignedIn(ctx)
	if shown := c.FormValue("person"); in && shown != "" && shown != personMark(auth.Person{Provider: owner.Provider, Subject: owner.Subject}) {
		return a.stayAsOther(c)
	}
	stay, err := a.Sessions.Leave(ctx)
	if err != nil {
		return storageProblem(err)
	}
	var way wayOut
	if in {
		wait, cancel := context.WithTimeout(ctx, endWait)
		defer cancel()
		g, err := a.Grants.End(wait, owner.GrantID)
		if err != nil {
			stay()
			return storageProblem(err)
		}
		way = a.leave(c, owner.Provider, g)
	} else {
		way = a.leftFor(c)
	}
	switch err := a.Sessions.End(ctx); {
	case errors.Is(err, session.ErrRenamed) && timesMore(c) < mostOnceMore:
		return a.sendOnceMore(c) // to end what the session has become
	case err != nil && !errors.Is(err, session.ErrRenamed):
		stay()
		return storageProblem(err)
	}
	return a.signedOut(c, way)
}

// personMark tells the few persons of one browser from each other in the forms of its pages.
func personMark(p auth.Person) string { return session.Hash(p.Provider + "\n" + p.Subject)[:8] }

// stayAsOther answers a sign-out from a page that shows somebody whom the browser has signed in somebody else after.
func (a *app) stayAsOther(c echo.Context) error {
	a.Sessions.Flash(c.Request().Context(), flashOf(views.Result{
		Text: "Nobody was signed out: by now this browser is signed in as the person whose tokens you see here.",
	}))
	if isHTMX(c) {
		c.Response().Header().Set("HX-Redirect", "/dashboard")
		return c.NoContent(http.StatusOK)
	}
	return c.Redirect(http.StatusSeeOther, "/dashboard")
}

// wayOut is where a browser goes after a sign-out: to the end of session of the provider with the label, or to the start page.
type wayOut struct{ target, label string }

// signedOut sends a browser on that has signed out.
func (a *app) signedOut(c echo.Context, way wayOut) error {
	if a.trustworthy() {
		c.Response().Header().Set("Clear-Site-Data", `"cache", "storage"`)
	}
	if isHTMX(c) {
		c.Response().Header().Set("HX-Redirect", way.target)
		return c.NoContent(http.StatusOK)
	}
	if way.label != "" && c.Request().Header.Get("Sec-Fetch-Mode") == "navigate" {
		// Browsers hold each redirect that follows a form against form-action, and an end of session may lead anywhere.
		return a.render(c, http.StatusOK, views.SigningOut(views.SigningOutPage{Label: way.label, URL: way.target}))
	}
	return a.goOn(c, way.target)
}

// leavingMaxAge is how many seconds a browser may take to come back from the provider's end of session.
const leavingMaxAge = 600

// leavingCookie remembers what a browser went away with, so that nobody else's link can say that somebody has signed out.
func (a *app) leavingCookie(state string, maxAge int) *http.Cookie {
	cookie := &http.Cookie{
		Name: "keyturn_leaving", Value: state, Path: "/", MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
	if strings.HasPrefix(a.BaseURL, "https:") {
		cookie.Name, cookie.Secure = "__Host-"+cookie.Name, true
	}
	return cookie
}

// leftHere is what the browser remembers in the state's place where the provider has no end of session.
const leftHere = "here"

// leave is the way out after a sign-out: to the provider's end of session (OpenID Connect RP-Initiated Logout section 2), which sends the
// browser back with the state. g is nil when the grant was gone already: somebody clicks once more.
func (a *app) leave(c echo.Context, name string, g *auth.Grant) wayOut {
	p, found := a.Providers.Get(name)
	var hint auth.Secret // an id token in a URL is one that leaves: browsers and proxies write URLs down
	if g != nil {
		_, same := a.Providers.Of(g.Identity)
		found = found && same
		if a.ExposeTokens {
			hint = g.Tokens.ID
		}
	}
	if !found {
		return wayOut{target: "/"}
	}
	state := rand.Text()
	way := a.endSession(c, p, hint, state)
	if isHTMX(c) && len(way.target) > maxTarget {
		way = a.endSession(c, p, "", state) // to htmx the way goes in a header
	}
	if way.label == "" {
		state = leftHere
	}
	c.SetCookie(a.leavingCookie(state+"."+name, leavingMaxAge))
	return way
}

// leftFor is the way out of a browser that has just left: a second click must not keep it from where the first one led.
func (a *app) leftFor(c echo.Context) wayOut {
	state, name := a.left(c)
	if p, found := a.Providers.Get(name); found && state != leftHere {
		return a.endSession(c, p, "", state)
	}
	return wayOut{target: "/"}
}

// endSession is the way to a provider's end of session, or to the start page if it has none.
func (a *app) endSession(c echo.Context, p provider.Provider, hint auth.Secret, state string) wayOut {
	ctx, cancel := context.WithTimeout(c.Request().Context(), leaveWait)
	defer cancel()
	if target := p.EndSessionURL(ctx, hint, a.BaseURL+"/", state); target != "" {
		return wayOut{target, p.Label()}
	}
	return wayOut{target: "/"}
}

// left is the state with which the browser went away to a provider, or leftHere; "" for one that did not.
func (a *app) left(c echo.Context) (state, name string) {
	cookie, err := c.Cookie(a.leavingCookie("", 0).Name)
	if err != nil {
		return "", ""
	}
	state, name, _ = strings.Cut(cookie.Value, ".")
	return state, name
}

// cameBack says, once, whether the browser has just signed out here, and comes back from the provider with the state that it went away
// with.
func (a *app) cameBack(c echo.Context) (here, there bool) {
	left, _ := a.left(c)
	state := c.QueryParam("state")
	here = left == leftHere
	there = !here && state != "" && subtle.ConstantTimeCompare([]byte(left), []byte(state)) == 1
	if here || there {
		a.forgetLeaving(c)
	}
	return here || there, there
}

// forgetLeaving has the browser forget that it went away.
func (a *app) forgetLeaving(c echo.Context) {
	if state, _ := a.left(c); state != "" {
		c.SetCookie(a.leavingCookie("", -1))
	}
}
