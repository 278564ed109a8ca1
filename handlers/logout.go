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

// endWait is how long a sign-out waits for the provider; what is not done by then goes on by itself.
const endWait = 700 * time.Millisecond

// signOut ends the session and its grant, and takes the browser to the provider's end of session. The grant is first: where that fails,
// whoever tries again is still known, and a session without a grant is nobody's.
func (a *app) signOut(c echo.Context) error {
	ctx := c.Request().Context()
	target, label := "/", ""
	if person, ok := a.Sessions.SignedIn(ctx); ok {
		wait, cancel := context.WithTimeout(ctx, endWait)
		defer cancel()
		g, err := a.Grants.End(wait, person.GrantID)
		if err != nil {
			return storageProblem(err)
		}
		target, label = a.leave(wait, c, g)
	}
	if err := a.Sessions.End(ctx); err != nil {
		return storageProblem(err)
	}
	c.Response().Header().Set("Clear-Site-Data", `"cache", "storage"`)
	if isHTMX(c) {
		c.Response().Header().Set("HX-Redirect", target)
		return c.NoContent(http.StatusOK)
	}
	if label != "" && c.Request().Header.Get("Sec-Fetch-Mode") == "navigate" {
		// Browsers hold each redirect that follows a form against form-action, and an end of session may lead anywhere.
		c.Response().Header().Set("Refresh", "0; url="+target)
		return a.render(c, http.StatusOK, views.SigningOut(views.SigningOutPage{Label: label, URL: target}))
	}
	return c.Redirect(http.StatusSeeOther, target)
}

// leavingMaxAge is how many seconds a browser may take to come back from the provider's end of session.
const leavingMaxAge = 600

// leavingCookie remembers, until then, that this browser has signed out here; it names the state that the provider sends it
// back with. It is worth nothing else, so nothing protects it but its attributes.
func (a *app) leavingCookie(state string, maxAge int) *http.Cookie {
	cookie := &http.Cookie{
		Name: "keyturn_leaving", Value: state, Path: "/", MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
	if strings.HasPrefix(a.BaseURL, "https:") {
		cookie.Name, cookie.Secure = "__Host-"+cookie.Name, true
	}
	return cookie
}

// leave returns where the browser goes after a sign-out: to the end of session of the provider with the label (OpenID Connect
// RP-Initiated Logout section 2), which sends it back with the state, or to the start page.
func (a *app) leave(ctx context.Context, c echo.Context, g *auth.Grant) (target, label string) {
	if g == nil {
		return "/", ""
	}
	p, found := a.Providers.Get(g.Identity.Provider)
	if _, same := a.Providers.Of(g.Identity); !found || !same {
		return "/", ""
	}
	var hint auth.Secret // an id token in a URL is one that leaves: browsers and proxies write URLs down
	if a.ExposeTokens {
		hint = g.Tokens.ID
	}
	state := rand.Text()
	target = p.EndSessionURL(ctx, hint, a.BaseURL+"/", state)
	if target == "" {
		c.SetCookie(a.leavingCookie(leftHere, leavingMaxAge))
		return "/", ""
	}
	c.SetCookie(a.leavingCookie(state, leavingMaxAge))
	return target, p.Label()
}

// leftHere is what the browser remembers in the state's place where the provider has no end of session.
const leftHere = "here"

// cameBack says, once, whether the browser has just signed out here, and comes back from the provider with the state that it went away
// with.
func (a *app) cameBack(c echo.Context) (here, there bool) {
	cookie, err := c.Cookie(a.leavingCookie("", 0).Name)
	if err != nil {
		return false, false
	}
	state := c.QueryParam("state")
	here = cookie.Value == leftHere
	there = !here && state != "" && subtle.ConstantTimeCompare([]byte(cookie.Value), []byte(state)) == 1
	if here || there {
		c.SetCookie(a.leavingCookie("", -1))
	}
	return here || there, there
}
