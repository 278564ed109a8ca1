package handlers

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"
)

const (
	initiateRoute = "/auth/initiate"
	maxLoginHint  = 320 // an e-mail address's bound, RFC 5321
)

// initiateSignIn begins a sign-in that somebody else asks for (OpenID Connect Core section 4): for issuers that are configured, and
// with a way back into this site only. It leads to our own sign-in link, so that a cross-site POST, which comes
// without the session, touches none.
func (a *app) initiateSignIn(c echo.Context) error {
	params := c.QueryParams()
	if c.Request().Method == http.MethodPost {
		if err := c.Request().ParseForm(); err != nil {
			return problem(http.StatusBadRequest, "bad_form", "The request could not be read.", "Begin at the start page.").because(err)
		}
		params = c.Request().PostForm
	}
	p, ok := a.Providers.ByIssuer(params.Get("iss"))
	if !ok || len(params["iss"]) != 1 {
		return problem(http.StatusBadRequest, "unknown_issuer", "This sign-in was asked for with a provider that is not known here.",
			"Choose one at the start page.")
	}
	link := signInURL(p.Name(), a.localTarget(params.Get("target_link_uri")), "")
	if hint := loginHint(params.Get("login_hint")); hint != "" {
		joint := "?"
		if strings.Contains(link, "?") {
			joint = "&"
		}
		link += joint + url.Values{"login_hint": {hint}}.Encode()
	}
	return a.goOn(c, link)
}

// localTarget is the path that a target_link_uri means on this site; "" for any other.
func (a *app) localTarget(target string) string {
	rest, ok := strings.CutPrefix(target, a.BaseURL)
	if !ok {
		return a.returnPath(target)
	}
	return a.returnPath(rest)
}

// loginHint is a login_hint (OpenID Connect Core 3.1.2.1) as it is passed on: one that is no address for its length is left out.
func loginHint(hint string) string {
	if len(hint) > maxLoginHint {
		return ""
	}
	return hint
}
