package handlers

import (
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"keyturn/static"
)

// asset serves a static file.
func asset(c echo.Context) error {
	if !static.Serve(c.Response(), c.Request()) {
		return echo.ErrNotFound
	}
	return nil
}

// robots keeps search engines out: there is nothing to find.
func robots(c echo.Context) error { return c.String(http.StatusOK, "User-agent: *\nDisallow: /\n") }

// securityTextDays is how long what security.txt says may be believed: RFC 9116 section 2.5.5 wants less than a year.
const securityTextDays = 90

// securityText says whom to tell of a vulnerability (RFC 9116).
func (a *app) securityText(c echo.Context) error {
	if a.SecurityContact == "" {
		return echo.ErrNotFound
	}
	expires := a.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, securityTextDays)
	return c.String(http.StatusOK, fmt.Sprintf("Contact: %s\nExpires: %s\nCanonical: %s/.well-known/security.txt\nPreferred-Languages: en\n",
		a.SecurityContact, expires.Format(time.RFC3339), a.BaseURL))
}
