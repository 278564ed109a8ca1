// Package handlers is Keyturn's HTTP side: it reads requests, asks package auth, and chooses what to show.
package handlers

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/auth/session"
)

// Config is what the handlers are made of.
type Config struct {
	Sessions     *session.Manager
	Providers    *provider.Set
	Rotator      *auth.Rotator
	Grants       *auth.Grants
	Events       *auth.Events
	Vault        auth.Vault
	Callbacks    auth.Callbacks
	BaseURL      string // scheme and host, without a slash at the end
	ExposeTokens bool   // a signed-in person may fetch their own tokens
	DevPrefix    string // path of the embedded provider; empty: it is off
	DevProvider  http.Handler
	Static       http.Handler
	Ready        func(context.Context) error // nil error: the database and the keyset are usable
	Now          func() time.Time
	Log          *slog.Logger
}

// app is the handlers over their configuration.
type app struct {
	Config
	insisting sync.Map // names of the providers that give a refresh token only with prompt=consent

	dashboards, states *keptAnswers
}

// New returns the whole site as one handler. Sessions are loaded around echo, because inside it an error after a change of
// the session would commit twice; static files, health and the embedded provider need none.
func New(config Config) http.Handler {
	a := &app{Config: config, dashboards: keep(keptPages), states: keep(keptStates)}
	e := a.routes()
	signedIn := a.Sessions.Handler(e)
	inTurn := a.Sessions.InTurn(signedIn)
	return a.headers(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		switch {
		case strings.HasPrefix(path, "/static/"):
			a.Static.ServeHTTP(w, r)
		case a.DevPrefix != "" && (path == a.DevPrefix || strings.HasPrefix(path, a.DevPrefix+"/")):
			a.DevProvider.ServeHTTP(w, r)
		case path == "/healthz" || path == "/readyz":
			e.ServeHTTP(w, r)
		case strings.HasPrefix(path, "/auth/"):
			inTurn.ServeHTTP(w, r)
		default:
			signedIn.ServeHTTP(w, r)
		}
	}))
}

// routes is every route of the site, in one place.
func (a *app) routes() *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.IPExtractor = echo.ExtractIPDirect()
	e.HTTPErrorHandler = a.failed
	e.Use(a.logged, a.recovered, a.sameOrigin(), limitBody())
	compressed := compression()
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		e.Add(method, "/", a.home, compressed)
		e.Add(method, "/dashboard", a.dashboard)
	}
	e.GET("/dashboard/tokens/:kind", a.inspectToken)
	e.GET("/dashboard/tokens/:kind/signature", a.checkSignature)
	e.POST("/dashboard/tokens/:kind/reveal", a.revealToken)
	e.POST("/dashboard/tokens/:kind/introspect", a.introspectToken)
	e.POST("/dashboard/userinfo", a.callUserInfo)
	e.GET("/dashboard/sessions", a.listSessions)
	e.POST("/dashboard/sessions/signout-others", a.signOutOthers)
	e.POST("/dashboard/sessions/:id/signout", a.signOutSession)

	e.POST("/auth/signout", a.signOut)
	e.GET("/auth/signout", onlyPost)
	e.GET(initiateRoute, a.initiateSignIn)
	e.POST(initiateRoute, a.initiateSignIn)
	e.GET("/auth/:provider", a.beginSignIn)
	e.GET("/auth/:provider/callback", a.finishSignIn)
	e.POST(callbackRoute, a.finishSignIn)
	e.POST(backChannelRoute, a.backChannelLogout)

	e.POST("/api/trigger-renew-token", a.triggerRenewToken)
	e.POST("/api/renew-token", a.renewToken)
	e.GET("/api/session", a.session)
	e.GET("/api/rotations", a.rotations)
	e.GET("/events", a.events)

	for _, method := range []string{http.MethodGet, http.MethodHead} {
		e.Add(method, "/healthz", a.healthz)
		e.Add(method, "/readyz", a.readyz)
	}
	return e
}

const callbackRoute = "/auth/:provider/callback"

func onlyPost(c echo.Context) error {
	c.Response().Header().Set(echo.HeaderAllow, http.MethodPost)
	return echo.ErrMethodNotAllowed
}
