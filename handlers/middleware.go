package handlers

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"keyturn/auth/provider"
	"keyturn/static"
)

// headers sets on every answer what a browser needs to know to be safe with it. Handlers may loosen nothing but
// form-action, and static files set their own caching. Answers under /api are data: nothing in them is to be loaded or run at all,
// but in a page that says there what went wrong (see render).
func (a *app) headers(next http.Handler) http.Handler {
	always := http.Header{
		"X-Content-Type-Options":       {"nosniff"},
		"X-Frame-Options":              {"DENY"},
		"Referrer-Policy":              {"same-origin"}, // with none, a form's Origin is null, and sameOrigin needs it
		"Cross-Origin-Resource-Policy": {"same-origin"},
		"Cache-Control":                {"no-store"},
	}
	if strings.HasPrefix(a.BaseURL, "https:") {
		always.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	}
	if a.trustworthy() {
		always.Set("Cross-Origin-Opener-Policy", "same-origin")
	}
	data, pages := maps.Clone(always), maps.Clone(always)
	maps.Copy(data, dataHeaders)
	maps.Copy(pages, pageHeaders)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		set := pages
		if isAPI(r.URL.Path) {
			set = data
		}
		maps.Copy(w.Header(), set) // an Add to one of them makes a new slice: these are full
		next.ServeHTTP(w, r)
	})
}

// dataHeaders and pageHeaders are the headers for what is no document, and for what may be one.
var (
	dataHeaders = http.Header{"Content-Security-Policy": {"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}}
	pageHeaders = http.Header{"Content-Security-Policy": {contentPolicy(nil)}, "Permissions-Policy": {permissionsPolicy}}
)

// trustworthy says that browsers know the site as a potentially trustworthy origin (W3C Secure Contexts section 3.1). From others they
// ignore some headers, and complain of them.
func (a *app) trustworthy() bool {
	u, err := url.Parse(a.BaseURL)
	return err == nil && (u.Scheme == "https" || provider.Loopback(u.Hostname()))
}

func isAPI(path string) bool { return strings.HasPrefix(path, "/api/") }

// permissionsPolicy switches off what no page of Keyturn needs.
const permissionsPolicy = "camera=(), display-capture=(), geolocation=(), microphone=(), midi=(), payment=(), " +
	"publickey-credentials-get=(), usb=(), xr-spatial-tracking=()"

// contentPolicy is the Content-Security-Policy. formTargets are origins that a form may end up at by a redirect:
// browsers hold the whole chain against form-action, and sign-out ends at the provider.
func contentPolicy(formTargets []string) string {
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
		"form-action " + strings.Join(append([]string{"'self'"}, formTargets...), " ") +
		"; frame-ancestors 'none'; base-uri 'none'"
}

// sameOrigin refuses requests that another site makes a browser send. Three are meant to come from elsewhere: the callback
// (response_mode=form_post), which its state protects, a logout token, which its signature does, and the wish for a sign-in, which
// changes nothing here.
func (a *app) sameOrigin() (echo.MiddlewareFunc, error) {
	protection := http.NewCrossOriginProtection()
	// A proxy may rewrite Host, with which Origin is compared.
	if err := protection.AddTrustedOrigin(a.BaseURL); err != nil {
		return nil, fmt.Errorf("base URL: %w", err)
	}
	check := func(r *http.Request) error {
		// The library compares hosts alone: who can answer for http://HOST, anybody on the way to it, would be let in at https://HOST.
		if origin := r.Header.Get(echo.HeaderOrigin); r.Header.Get("Sec-Fetch-Site") == "" && strings.HasPrefix(origin, "http:") &&
			strings.HasPrefix(a.BaseURL, "https:") && !slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions}, r.Method) {
			return errors.New("the origin is not https")
		}
		return protection.Check(r)
	}
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if !slices.Contains([]string{callbackRoute, backChannelRoute, initiateRoute}, c.Path()) {
				if err := check(c.Request()); err != nil {
					return problem(http.StatusForbidden, "cross_origin", "This request came from another site.",
						"Keyturn does only what its own pages ask for: open the dashboard, and do it there.").because(err)
				}
			}
			return next(c)
		}
	}, nil
}

// limitBody bounds request bodies: the largest is a form_post callback.
func limitBody() echo.MiddlewareFunc { return middleware.BodyLimit("128K") }

// compression is for pages that hold no secret (sendPage says why). It is made once: echo puts a route's middleware together anew
// with each request, and this one pools its compressors. It only looks for the word gzip, which may be there to refuse it.
func compression() echo.MiddlewareFunc {
	zips := middleware.GzipWithConfig(middleware.GzipConfig{Level: 5, MinLength: 1024})
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		zipped := zips(next)
		return func(c echo.Context) error {
			if h := c.Request().Header; static.AcceptsGzip(h) {
				h.Set(echo.HeaderAcceptEncoding, "gzip")
			} else {
				h.Del(echo.HeaderAcceptEncoding)
			}
			return zipped(c)
		}
	}
}

// recovered turns a panic into an error page.
func (a *app) recovered(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			if p := recover(); p != nil {
				if aborted, ok := p.(error); ok && errors.Is(aborted, http.ErrAbortHandler) {
					panic(p)
				}
				a.Log.ErrorContext(c.Request().Context(), "panic", "route", c.Path(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				err = echo.ErrInternalServerError
			}
		}()
		return next(c)
	}
}
