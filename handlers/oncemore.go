package handlers

import (
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	// onceMore marks, as often as it is there, that a browser was sent to the same place again.
	onceMore = "once_more"
	// mostOnceMore bounds that: each tab that signs in renames the session again.
	mostOnceMore = 5
	// onceMoreWait is how long the first time is put off, and each further one by as much more.
	onceMoreWait = 200 * time.Millisecond
)

// inItsSession sends a browser to the same place once more when it names its session as it was called before another of its tabs signed
// in: the answer with the new name is on its way. To go on would begin another session, in place of the one that the other tab has.
func (a *app) inItsSession(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if timesMore(c) >= mostOnceMore || !a.Sessions.Renamed(c.Request()) {
			return next(c)
		}
		return a.sendOnceMore(c)
	}
}

func timesMore(c echo.Context) int { return strings.Count(c.Request().URL.RawQuery, onceMore+"=") }

// sendOnceMore sends the browser to the same place once more, in a moment.
func (a *app) sendOnceMore(c echo.Context) error {
	r, times := c.Request(), timesMore(c)
	select {
	case <-time.After(time.Duration(times+1) * onceMoreWait):
	case <-r.Context().Done():
	}
	target := r.URL.Path + "?" + onceMore + "=1"
	if r.URL.RawQuery != "" {
		target += "&" + r.URL.RawQuery
	}
	switch {
	case r.Method != http.MethodPost:
		return a.goOn(c, target)
	case len(target) > maxTarget:
		return echo.ErrRequestURITooLong
	default:
		return c.Redirect(http.StatusTemporaryRedirect, target) // it stays a POST
	}
}
