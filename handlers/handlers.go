// Package handlers is Keyturn's HTTP side: it reads requests, asks package auth, and chooses what to show.
package handlers

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"go.opentelemetry.io/otel/trace"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/auth/session"
)

// Config is what the handlers are made of. Nothing in it may be nil where the field does not say so.
type Config struct {
	Session      session.Options // New itself says what its OnError is
	Providers    *provider.Set
	Rotator      *auth.Rotator
	Grants       *auth.Grants
	Events       *auth.Events
	Vault        Vault
	Callbacks    auth.Callbacks
	BaseURL      string        // an origin: scheme and host, without a slash at the end
	ExposeTokens bool          // a signed-in person may fetch their own tokens
	SessionIdle  time.Duration // a session ends this long after its last request; zero: only at its end
	DevPrefix    string        // path of the embedded provider; empty: it is off
	DevProvider  http.Handler  // nil without DevPrefix
	// Ready names what fails, exclude aside; nothing: requests may come here.
	Ready     func(ctx context.Context, exclude []string) (failing []string)
	Now       func() time.Time
	Log       *slog.Logger
	AccessLog bool // one line a request at level info, not debug
	Meter     Meter
	Tracer    trace.Tracer // nil: no spans

	TrustedProxies    []netip.Prefix // may be nil; whose X-Forwarded-For and traceparent are believed
	Limits            Limits
	SessionsPerPerson int    // the oldest ends when there is one more
	SecurityContact   string // URI; empty: there is no security.txt
}

// Vault is what handlers themselves ask of an auth.Vault.
type Vault interface {
	Person(ctx context.Context, provider, subject string) ([]*auth.Grant, error)
	Use(ctx context.Context, fingerprint string, until time.Time) (first bool, err error)
	Used(ctx context.Context, fingerprint string) (bool, error)
}

// app is the handlers over their configuration.
type app struct {
	Config
	Sessions *session.Manager
	consents consents

	dashboards, states *keptAnswers
	policies           sync.Map // by provider's name: signOutPolicy

	undeclared sync.Once // complaint about a proxy that nobody has declared
	storage    auth.Complaint
	unreadable auth.Complaint // of a keyset that is not the one
	untold     auth.Complaint // of changes that could not be read
}

// check says what is missing.
func (c Config) check() error {
	for _, part := range []struct {
		name    string
		missing bool
	}{
		{"Session.Store", c.Session.Store == nil}, {"Session.Uses", c.Session.Uses == nil}, {"Session.Sealer", c.Session.Sealer == nil},
		{"Session.Now", c.Session.Now == nil}, {"Session.Log", c.Session.Log == nil}, {"Providers", c.Providers == nil}, {"Rotator", c.Rotator == nil}, {"Grants", c.Grants == nil},
		{"Events", c.Events == nil}, {"Vault", c.Vault == nil}, {"Ready", c.Ready == nil}, {"Now", c.Now == nil}, {"Log", c.Log == nil},
		{"Meter", c.Meter == nil}, {"DevProvider", c.DevPrefix != "" && c.DevProvider == nil},
	} {
		if part.missing {
			return errors.New("handlers: no " + part.name)
		}
	}
	return nil
}

// New returns the whole site as one handler, or an error if something of it is missing, or the base URL is no origin. Sessions are loaded
// around echo, because inside it an error after a change of the session would commit twice; static files, health and the embedded
// provider need none.
func New(config Config) (http.Handler, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	a := &app{Config: config, dashboards: keep(keptPages), states: keep(keptStates)}
	a.storage.Every, a.unreadable.Every, a.untold.Every = complainEvery, complainEvery, complainEvery
	e, err := a.routes()
	if err != nil {
		return nil, err
	}
	config.Session.OnError = a.sessionFailed(e)
	a.Sessions = session.New(config.Session)
	sessions := a.Sessions.Handler(e)
	signedIn := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sessions.ServeHTTP(lastWord{w, requestOf(r.Context()), a.Sessions, r}, r)
		a.unrouted(e, r)
	})
	inTurn := a.Sessions.InTurn(signedIn)
	return a.headers(a.arrival(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		a.Sessions.ChooseSession(r)
		switch {
		case strings.HasPrefix(path, "/static/"), a.isDevProvider(path), isHealth(path), strings.HasPrefix(path, "/.well-known/"), path == "/robots.txt":
			e.ServeHTTP(w, r)
		case strings.HasPrefix(path, "/auth/") && path != signOutRoute: // who signs out waits for no sign-in
			inTurn.ServeHTTP(w, r)
		default:
			signedIn.ServeHTTP(w, r)
		}
	}))), nil
}

func (a *app) isDevProvider(path string) bool {
	return a.DevPrefix != "" && (path == a.DevPrefix || strings.HasPrefix(path, a.DevPrefix+"/"))
}

func isHealth(path string) bool { return path == "/healthz" || path == "/readyz" }

// routes is every route of the site, in one place.
func (a *app) routes() (*echo.Echo, error) {
	sameOrigin, err := a.sameOrigin()
	if err != nil {
		return nil, err
	}
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.IPExtractor = clientAddress(a.TrustedProxies)
	e.HTTPErrorHandler = a.failed
	around := a.answered(a.recovered(sameOrigin(limitBody()(routed))))
	e.Use(func(echo.HandlerFunc) echo.HandlerFunc { return around }) // echo would put it together anew with each request
	signIn, renew := a.limited(limitSignIn, a.Limits.SignIn), a.limited(limitRenew, a.Limits.Renew)
	reveal := a.limited(limitReveal, a.Limits.Reveal)
	compressed := compression() // not for /events: a compressor for each open page would take more than it saves
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		e.Add(method, "/", a.home, a.inItsSession, compressed)
		e.Add(method, "/dashboard", a.dashboard, a.inItsSession)
	}
	e.GET(elsewhereRoute, a.signInElsewhere)
	e.GET("/dashboard/timeline", a.timelineTable, compressed)
	e.GET("/dashboard/tokens/:kind", a.inspectToken)
	e.GET("/dashboard/tokens/:kind/signature", a.checkSignature)
	e.POST("/dashboard/tokens/:kind/reveal", a.revealToken, reveal)
	e.POST("/dashboard/tokens/:kind/introspect", a.introspectToken, reveal)
	e.POST("/dashboard/userinfo", a.callUserInfo, reveal)
	for _, answered := range []string{"/dashboard/tokens/:kind/reveal", "/dashboard/tokens/:kind/introspect", "/dashboard/userinfo"} {
		e.GET(answered, backToPage) // whoever has no script sees its answers there
	}
	e.GET("/dashboard/sessions", a.listSessions)
	e.POST("/dashboard/sessions/signout-others", a.signOutOthers)
	e.POST("/dashboard/sessions/:id/signout", a.signOutSession)

	e.POST(signOutRoute, a.signOut, a.inItsSession)
	e.GET(signOutRoute, onlyPost) // or it would be a sign-in with a provider of that name
	e.RouteNotFound(signOutRoute, onlyPost)
	e.GET(initiateRoute, a.initiateSignIn, a.inItsSession, signIn)
	e.POST(initiateRoute, a.initiateSignIn, signIn)
	e.GET("/auth/:provider", a.beginSignIn, a.inItsSession, signIn)
	e.GET(callbackRoute, a.finishSignIn, a.inItsSession, signIn)
	e.POST(callbackRoute, a.finishSignIn, signIn)
	e.POST(backChannelRoute, a.limitedInVain(limitSignIn, a.Limits.SignIn, a.backChannelLogout))

	e.POST(triggerRoute, a.triggerRenewToken, renew, compressed)
	e.POST(renewRoute, a.renewToken, renew)
	e.GET(EventsRoute, a.events)

	for _, method := range []string{http.MethodGet, http.MethodHead} {
		e.Add(method, "/api/session", a.session)
		e.Add(method, rotationsRoute, a.rotations)
		e.Add(method, "/healthz", a.healthz)
		e.Add(method, "/readyz", a.readyz)
		e.Add(method, "/robots.txt", robots)
		e.Add(method, "/.well-known/security.txt", a.securityText)
		e.Add(method, "/static/*", asset)
	}
	if a.DevPrefix != "" {
		e.Any(a.DevPrefix, echo.WrapHandler(a.DevProvider))
		e.Any(a.DevPrefix+"/*", echo.WrapHandler(a.DevProvider))
	}
	return e, nil
}

const (
	signOutRoute   = "/auth/signout"
	callbackRoute  = "/auth/:provider/callback"
	elsewhereRoute = "/dashboard/sign-in"
	triggerRoute   = "/api/trigger-renew-token"
	renewRoute     = "/api/renew-token"
	rotationsRoute = "/api/rotations"
)

// EventsRoute is where requests last as long as their page is open.
const EventsRoute = "/events"

// routed goes on with what the router has found.
func routed(c echo.Context) error { return c.Handler()(c) }

// onlyPost answers to other methods as the router does where there is nothing but a POST.
func onlyPost(c echo.Context) error {
	c.Response().Header().Set(echo.HeaderAllow, "OPTIONS, POST")
	if c.Request().Method == http.MethodOptions {
		return c.NoContent(http.StatusNoContent)
	}
	return echo.ErrMethodNotAllowed
}

// backToPage leads a browser that comes by GET to where only a form leads, as with a reload, to the page that has the form.
func backToPage(c echo.Context) error {
	if !acceptsHTML(c) {
		return onlyPost(c)
	}
	return c.Redirect(http.StatusSeeOther, path.Dir(c.Request().URL.EscapedPath()))
}
