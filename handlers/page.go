package handlers

import (
	"maps"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/a-h/templ"
	"github.com/labstack/echo/v4"

	"keyturn/auth"
	"keyturn/views"
)

// render writes a page or a fragment whole, so that a failing view is an error page and not half of one.
func (a *app) render(c echo.Context, status int, view templ.Component) error {
	buffer := templ.GetBuffer()
	defer templ.ReleaseBuffer(buffer)
	if err := view.Render(c.Request().Context(), buffer); err != nil {
		return err
	}
	if isAPI(c.Request().URL.Path) {
		maps.Copy(c.Response().Header(), pageHeaders)
	}
	return c.HTMLBlob(status, buffer.Bytes())
}

// part is a part of the dashboard, for an element of it: alone for htmx, else as a page of its own.
func (a *app) part(c echo.Context, view auth.View, title, place string, content templ.Component) error {
	if isHTMX(c) {
		return a.render(c, http.StatusOK, content)
	}
	a.allowSignOutTargets(c, view.Grant)
	page := views.PartPage{GrantID: view.Grant.ID, Person: a.person(c, view.Grant), Title: title, Place: place}
	return a.render(c, http.StatusOK, views.Part(page, content))
}

// retryAfter tells when to ask again (RFC 9110 section 10.2.3), in whole seconds.
func retryAfter(c echo.Context, wait time.Duration) (seconds int) {
	seconds = max(1, int(math.Ceil(wait.Seconds())))
	c.Response().Header().Set(echo.HeaderRetryAfter, strconv.Itoa(seconds))
	return seconds
}

func cut(text string, most int) string { return auth.Foreign(text, most) }
