package handlers

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"keyturn/auth/session"
)

// Meter counts what operators want to know. Implementations are safe for concurrent use, and quick.
type Meter interface {
	// Request is told of each request that was answered. The route is a pattern, or empty where nothing is.
	Request(method, route string, status int, took time.Duration)
	// SignIn is told how a sign-in ended: one of the SignIn… constants.
	SignIn(provider, outcome string)
	// Refused is told of each request that a limit refused.
	Refused(limit string)
}

// How sign-ins end.
const (
	SignInDone      = "done"
	SignInCancelled = "cancelled" // by the person
	SignInFailed    = "failed"
)

// SignInOutcomes are all of them.
var SignInOutcomes = []string{SignInDone, SignInCancelled, SignInFailed}

// request is what is known of a request from its arrival on, in the context that everything it causes runs under.
type request struct {
	context.Context

	id      string
	arrived time.Time // with a monotonic reading

	routed bool         // a handler has it, and tells what becomes of it
	failed *httpProblem // was answered in the handler's place, because the session could not be read or stored
}

type requestKey struct{}

// Value implements context.Context.
func (r *request) Value(key any) any {
	if key == (requestKey{}) {
		return r
	}
	return r.Context.Value(key)
}

func requestOf(ctx context.Context) *request {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		return r
	}
	return new(request)
}

// RequestID is the id of the request that ctx belongs to, also of what goes on after its answer; empty if there is none.
func RequestID(ctx context.Context) string { return requestOf(ctx).id }

// arrived is when the request arrived, with a monotonic reading.
func arrived(c echo.Context) time.Time {
	if at := requestOf(c.Request().Context()).arrived; !at.IsZero() {
		return at
	}
	return time.Now()
}

// requestIDHeader is X-Request-ID as net/http spells it.
var requestIDHeader = http.CanonicalHeaderKey(echo.HeaderXRequestID)

// unattendedHeader marks what an open page asks for by itself: like a stream of events, it does not keep a session from idling away.
const unattendedHeader = "Keyturn-Unattended"

// arrival notes when a request arrived, and gives it an id, a span, and a record for its session. The id is the sender's if it looks
// like one: it goes into the log.
func (a *app) arrival(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		known := &request{Context: r.Context(), arrived: time.Now()}
		if given := r.Header[requestIDHeader]; len(given) > 0 {
			known.id = given[0]
		}
		if !isRequestID(known.id) {
			known.id = newRequestID()
		}
		w.Header()[requestIDHeader] = []string{known.id}
		ctx := session.NewContext(known)
		if r.URL.Path == EventsRoute || len(r.Header[unattendedHeader]) > 0 {
			session.FromContext(ctx).Passive = true
		}
		if a.Tracer == nil || strings.HasPrefix(r.URL.Path, "/static/") || isHealth(r.URL.Path) {
			next.ServeHTTP(w, r.WithContext(ctx))
			return
		}
		if a.trusts(r) {
			ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(r.Header))
		}
		// The route names it when it is known. Nothing else of the URL goes into a span: it may hold a code.
		ctx, span := a.Tracer.Start(ctx, methodOf(r), trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// newRequestID is an id that no other request has. It is no secret.
func newRequestID() string {
	digits := strconv.AppendUint(make([]byte, 0, 32), rand.Uint64(), 36) //nolint:gosec // no secret
	return string(strconv.AppendUint(digits, rand.Uint64(), 36))         //nolint:gosec // no secret
}

// isRequestID says whether text can be the id of a request: 1 to 64 letters, digits, dots, dashes and underscores.
func isRequestID(text string) bool {
	odd := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._-", c)
	}
	return text != "" && len(text) <= 64 && !strings.ContainsFunc(text, odd)
}

// methodOf is the request's method, or OTHER: anybody can make one up.
func methodOf(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	default:
		return "OTHER"
	}
}

// clientAddress finds where a request comes from: the nearest address that is not a trusted proxy's, read from the right of
// X-Forwarded-For. Without trusted proxies that header is worth nothing.
func clientAddress(trusted []netip.Prefix) echo.IPExtractor {
	if len(trusted) == 0 {
		return echo.ExtractIPDirect()
	}
	options := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, prefix := range trusted {
		options = append(options, echo.TrustIPRange(&net.IPNet{
			IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
		}))
	}
	extract := echo.ExtractIPFromXFFHeader(options...)
	return func(r *http.Request) string {
		forwarded := strings.Join(r.Header.Values(echo.HeaderXForwardedFor), ",")
		if !strings.ContainsAny(forwarded, "[:") {
			return extract(r)
		}
		bare := *r
		bare.Header = http.Header{echo.HeaderXForwardedFor: {withoutPorts(forwarded)}}
		return extract(&bare)
	}
}

// withoutPorts is a list of addresses without the ports that some proxies add.
func withoutPorts(list string) string {
	addresses := strings.Split(list, ",")
	for i, one := range addresses {
		if with, err := netip.ParseAddrPort(strings.TrimSpace(one)); err == nil {
			addresses[i] = with.Addr().String()
		}
	}
	return strings.Join(addresses, ",")
}

// trusts says whether the request comes from a trusted proxy.
func (a *app) trusts(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	for _, proxies := range a.TrustedProxies {
		if proxies.Contains(peer.Addr().Unmap()) {
			return true
		}
	}
	return false
}

// answered answers errors, and tells the meter, the span and the log what became of the request. They get the route, never the
// URL, which may hold a code.
func (a *app) answered(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		requestOf(c.Request().Context()).routed = true
		if err := next(c); err != nil {
			c.Error(err)
		}
		a.report(c.Request(), c.Path(), c.Response().Status, c.Response().Size)
		return nil
	}
}

// unrouted reports a request that no handler has seen, because its session could not be read.
func (a *app) unrouted(e *echo.Echo, r *http.Request) {
	if known := requestOf(r.Context()); known.failed != nil && !known.routed {
		c := e.AcquireContext()
		defer e.ReleaseContext(c)
		c.Reset(r, nil)
		e.Router().Find(r.Method, echo.GetPath(r), c)
		a.report(r, c.Path(), known.failed.status, 0)
	}
}

// lastWord is an answer that is over once it has been said that the session could not be read or stored: scs goes on with what the handler
// would have answered. It also has the last word on what scs adds to an answer.
type lastWord struct {
	http.ResponseWriter
	known    *request
	sessions *session.Manager
	of       *http.Request
}

// WriteHeader implements http.ResponseWriter.
func (l lastWord) WriteHeader(status int) {
	if l.known.failed != nil {
		return
	}
	// scs forbids caches to keep its cookie, too, where nothing may be kept at all.
	if control := l.Header()[echo.HeaderCacheControl]; len(control) > 1 && control[0] == "no-store" {
		l.Header()[echo.HeaderCacheControl] = control[:1]
	}
	l.sessions.Withhold(l.of.Context(), l.Header())
	l.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (l lastWord) Write(b []byte) (int, error) {
	if l.known.failed == nil {
		return l.ResponseWriter.Write(b)
	}
	return len(b), nil
}

// Unwrap implements what http.ResponseController looks for.
func (l lastWord) Unwrap() http.ResponseWriter { return l.ResponseWriter }

// report tells of an answer.
func (a *app) report(r *http.Request, route string, status int, size int64) {
	ctx, method := r.Context(), methodOf(r)
	known := requestOf(ctx)
	if known.failed != nil {
		if status = known.failed.status; status != statusClientGone {
			a.complain(ctx, route, known.failed)
		}
	}
	took := time.Since(known.arrived)
	a.Meter.Request(method, route, status, took)
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetName(strings.TrimSpace(method + " " + route))
		span.SetAttributes(attribute.String("http.request.method", method), attribute.String("http.route", route),
			attribute.Int("http.response.status_code", status))
		if status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, http.StatusText(status))
		}
	}
	level := slog.LevelDebug
	if a.AccessLog {
		level = slog.LevelInfo
	}
	if a.Log.Enabled(ctx, level) {
		a.Log.LogAttrs(ctx, level, "request", slog.String("method", method), slog.String("route", route),
			slog.Int("status", status), slog.Int64("bytes", size), slog.Duration("took", took))
	}
}
