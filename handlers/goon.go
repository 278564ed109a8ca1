package handlers

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"keyturn/views"
)

// maxTarget bounds the URL of a redirect, in bytes. A proxy may take no more than 4 KB of headers in all (nginx does, unless it is told to):
// it answers 502 in Keyturn's place and, after a few of those, takes the replica for broken.
const maxTarget = 2 << 10

// goOn sends a browser to where it is to go by GET: by a redirect, or by a page if the way is too long for a header.
func (a *app) goOn(c echo.Context, target string) error {
	if len(target) > maxTarget {
		return a.render(c, http.StatusOK, views.GoingOn(target))
	}
	return c.Redirect(http.StatusSeeOther, target)
}
