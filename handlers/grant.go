package handlers

import (
	"errors"
	"maps"
	"net/http"

	"github.com/labstack/echo/v4"

	"keyturn/auth"
)

// errSignedOut says that the request belongs to nobody.
var errSignedOut = errors.New("signed out")

// grant is what every authenticated request begins with: whose it is, and a look whether their token is due. The error
// is errSignedOut, or a problem with the storage.
func (a *app) grant(c echo.Context) (auth.View, error) {
	ctx := c.Request().Context()
	person, ok := a.Sessions.SignedIn(ctx)
	if !ok {
		return auth.View{}, errSignedOut
	}
	view, err := a.Rotator.Fresh(ctx, person.GrantID)
	return view, a.grantError(c, err)
}

// renewed renews the grant of the request's session.
func (a *app) renewed(c echo.Context, trigger auth.Trigger) (auth.Result, error) {
	ctx := c.Request().Context()
	person, ok := a.Sessions.SignedIn(ctx)
	if !ok {
		return auth.Result{}, errSignedOut
	}
	result, err := a.Rotator.Renew(ctx, person.GrantID, trigger, arrived(c))
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

// unauthorized answers a request that belongs to nobody, with what the route promises beside the error; a browser is shown the
// way to sign in.
func (a *app) unauthorized(c echo.Context, beside map[string]any) error {
	if isHTMX(c) {
		c.Response().Header().Set("HX-Redirect", "/?return_to=%2Fdashboard")
	}
	body := map[string]any{"error": apiError{"signed_out", "Nobody is signed in."}}
	maps.Copy(body, beside)
	return c.JSON(http.StatusUnauthorized, body)
}
