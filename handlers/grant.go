package handlers

import (
	"errors"
	"fmt"
	"maps"
	"net/http"

	"github.com/labstack/echo/v4"

	"keyturn/auth"
	"keyturn/auth/session"
)

var (
	// errSignedOut says that the request belongs to nobody.
	errSignedOut = errors.New("signed out")
	// errSomebodyElse is an errSignedOut: a renewal of the session's grant brought the tokens of somebody else.
	errSomebodyElse = fmt.Errorf("%w: the identity has changed", errSignedOut)
)

// grantHeader names the grant that a page shows, in what the page asks for itself. When its browser has signed in again since, that is
// nobody's any more, and the page is to be loaded anew: it would show one person's tokens under another's name.
const grantHeader = "Keyturn-Grant"

const (
	// signInPath leads to the sign-in page, and from there to the dashboard.
	signInPath = "/?return_to=/dashboard"
	// endedPath also says that the session of the page that one comes from has ended.
	endedPath = signInPath + "&ended=1"
)

// leaveEnded has a page leave that asks for a part of itself after its session has ended.
func leaveEnded(c echo.Context) {
	if isHTMX(c) {
		c.Response().Header().Set("HX-Redirect", endedPath)
	}
}

// whose is who the request belongs to; ok is false when it belongs to nobody.
func (a *app) whose(c echo.Context) (owner session.Owner, ok bool) {
	owner, ok = a.Sessions.SignedIn(c.Request().Context())
	shown := c.Request().Header.Get(grantHeader)
	return owner, ok && (shown == "" || shown == owner.GrantID)
}

// grant is what every authenticated request begins with: whose it is, and a look whether their token is due. The error
// is errSignedOut, or a problem with the storage.
func (a *app) grant(c echo.Context) (auth.View, error) {
	ctx := c.Request().Context()
	owner, ok := a.whose(c)
	if !ok {
		return auth.View{}, errSignedOut
	}
	view, err := a.Rotator.Fresh(ctx, owner.GrantID)
	if err == nil && view.Grant.Ended() {
		return auth.View{}, errSomebodyElse
	}
	return view, a.grantError(c, err)
}

// renewed renews the grant of the request's session.
func (a *app) renewed(c echo.Context, trigger auth.Trigger) (auth.Result, error) {
	ctx := c.Request().Context()
	person, ok := a.whose(c)
	if !ok {
		return auth.Result{}, errSignedOut
	}
	result, err := a.Rotator.Renew(ctx, person.GrantID, trigger, arrived(c))
	if err == nil && result.Grant.Ended() {
		return auth.Result{}, errSomebodyElse
	}
	return result, a.grantError(c, err)
}

// grantError reads an error of the vault: a session whose grant is gone is nobody's any more.
func (a *app) grantError(c echo.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, auth.ErrNotFound):
		return storageProblem(err)
	}
	if err := a.Sessions.EndOrphan(c.Request().Context()); err != nil {
		return storageProblem(err)
	}
	return errSignedOut
}

// endChanged ends the session of a grant that has Ended, once its person is told.
func (a *app) endChanged(c echo.Context) error {
	ctx := c.Request().Context()
	person, _ := a.Sessions.SignedIn(ctx)
	if err := a.Sessions.End(ctx); err != nil && !errors.Is(err, session.ErrRenamed) {
		return storageProblem(err)
	}
	if _, err := a.Grants.End(ctx, person.GrantID); err != nil {
		return storageProblem(err)
	}
	return nil
}

// unauthorized answers a request that belongs to nobody for the given reason, with what the route promises beside the error; a
// browser is shown the way to sign in.
func (a *app) unauthorized(c echo.Context, why error, beside map[string]any) error {
	leaveEnded(c)
	said := apiError{"signed_out", "Nobody is signed in."}
	if errors.Is(why, errSomebodyElse) {
		words := changedWords()
		said = apiError{auth.CodeIdentityChanged, words.Title + " " + words.Detail}
	}
	body := map[string]any{"error": said}
	maps.Copy(body, beside)
	return c.JSON(http.StatusUnauthorized, body)
}

// signedIn is the grant of a request for a part of the dashboard. Its error is an answer: the way to the sign-in page.
func (a *app) signedIn(c echo.Context) (auth.View, error) {
	view, err := a.grant(c)
	if !errors.Is(err, errSignedOut) {
		return view, err
	}
	if acceptsHTML(c) && !isHTMX(c) {
		return view, &redirect{signInPath}
	}
	leaveEnded(c)
	return view, problem(http.StatusUnauthorized, "signed_out", "Nobody is signed in.", "Sign in first.")
}
