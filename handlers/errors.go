package handlers

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"keyturn/auth"
	"keyturn/views"
)

// httpProblem is an error made for people: what is wrong, and what they can do.
type httpProblem struct {
	status int
	code   string
	title  string
	next   string
	cause  error // for the log

	actionURL, actionLabel string
}

func problem(status int, code, title, next string) *httpProblem {
	return &httpProblem{status: status, code: code, title: title, next: next, actionURL: "/", actionLabel: "To the start page"}
}

func (p *httpProblem) because(err error) *httpProblem { p.cause = err; return p }

func (p *httpProblem) action(url, label string) *httpProblem {
	p.actionURL, p.actionLabel = url, label
	return p
}

// again is where the same can be asked for again of which the problem says that it may be; "" if it cannot. What a provider has answered
// with serves once, and stands in no link.
func (p *httpProblem) again(r *http.Request) string {
	answered := path.Base(r.URL.Path) == path.Base(callbackRoute) // whatever it is called that a provider answers with
	if p.code != auth.CodeStorage && p.code != codeTooMany || r.Method != http.MethodGet || answered {
		return ""
	}
	return localPath(r.URL.RequestURI())
}

// Error implements error.
func (p *httpProblem) Error() string {
	if p.cause != nil {
		return fmt.Sprintf("%s: %v", p.code, p.cause)
	}
	return p.code
}

// Unwrap gives errors.Is the cause.
func (p *httpProblem) Unwrap() error { return p.cause }

// redirect is an error that sends the browser elsewhere.
type redirect struct{ to string }

// Error implements error.
func (r *redirect) Error() string { return "see " + r.to }

// storageRetryAfter is when to ask again while the database does not answer: when it is back, it is at once.
const storageRetryAfter = 5 * time.Second

// keysetRetryAfter is when to ask again while the keyset does not open what is stored: as often it is looked at with nobody asking.
const keysetRetryAfter = 10 * time.Second

// codeUnreadable says that what is stored does not open with the present keyset.
const codeUnreadable = "vault_unreadable"

// storageProblem is shown when the database does not answer.
func storageProblem(err error) *httpProblem {
	if errors.Is(err, auth.ErrUnreadable) {
		return problem(http.StatusServiceUnavailable, codeUnreadable, "Your sign-in is stored, but it cannot be opened.",
			"Keyturn's operator has to bring back the keyset that sealed it. Nothing is lost.").because(err)
	}
	title := "Keyturn cannot reach its database right now."
	if errors.Is(err, auth.ErrUnwritable) {
		title = "Keyturn's database cannot be written to right now."
	}
	return problem(http.StatusServiceUnavailable, auth.CodeStorage, title, "Nothing is lost. Try again in a moment.").because(err)
}

// statusClientGone is the status, as nginx counts it, of a request whose client went away before there was an answer: it is nobody's fault
// here.
const statusClientGone = 499

// clientGone says that a request came to nothing because its client went away.
func clientGone(ctx context.Context, err error) bool {
	return errors.Is(ctx.Err(), context.Canceled) && errors.Is(err, context.Canceled)
}

// asProblem finds words for any error.
func asProblem(err error) *httpProblem {
	var p *httpProblem
	if errors.As(err, &p) {
		return p
	}
	var he *echo.HTTPError
	if errors.As(err, &he) {
		switch he.Code {
		case http.StatusNotFound:
			return problem(he.Code, "not_found", "There is nothing here.", "Check the address, or go back to the start page.")
		case http.StatusMethodNotAllowed:
			return problem(he.Code, "method_not_allowed", "This address does not work that way.",
				"It takes another kind of request. Go back to the start page.")
		case http.StatusRequestEntityTooLarge:
			return problem(he.Code, "too_large", "What came with this request is too large.", "If a provider sent you here, tell the operator.")
		case http.StatusInternalServerError:
		default:
			return problem(he.Code, "bad_request", http.StatusText(he.Code), "Check the request.")
		}
	}
	return problem(http.StatusInternalServerError, "internal_error", "Something went wrong inside Keyturn.",
		"Your tokens are safe. Try again; if it stays so, tell the operator.").because(err)
}

// failed answers an error in the form that was asked for: JSON under /api, a notice to htmx, else a page. Two routes under /api are
// what the pages ask for, too.
func (a *app) failed(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	var elsewhere *redirect
	if errors.As(err, &elsewhere) {
		_ = c.Redirect(http.StatusSeeOther, elsewhere.to)
		return
	}
	if clientGone(c.Request().Context(), err) {
		_ = c.NoContent(statusClientGone) // for the meter and the log
		return
	}
	p := asProblem(err)
	if p.status >= http.StatusInternalServerError && c.Path() != "" { // without a route, report complains
		a.complain(c.Request().Context(), c.Path(), p)
	}
	c.Response().Header().Del(echo.HeaderLocation) // of a redirect whose session could not be stored
	switch p.code {
	case auth.CodeStorage:
		retryAfter(c, storageRetryAfter)
	case codeUnreadable:
		retryAfter(c, keysetRetryAfter)
	}
	path := c.Request().URL.Path
	forPrograms := isAPI(path) && path != triggerRoute && path != rotationsRoute || path == EventsRoute && !isHTMX(c)
	var answer error
	switch words := (views.Problem{Title: p.title, Next: p.next}); {
	case isHTMX(c) && path == triggerRoute && asksToRenew(c):
		c.Response().Header().Set("HX-Retarget", "#result")
		c.Response().Header().Set("HX-Reswap", "outerHTML")
		answer = a.render(c, p.status, views.NoResult(words))
	case isHTMX(c) && !forPrograms:
		c.Response().Header().Set("HX-Retarget", "#notice")
		c.Response().Header().Set("HX-Reswap", "innerHTML")
		answer = a.render(c, p.status, views.Notice(words))
	case forPrograms || isAPI(path) && !isForm(c) || !acceptsHTML(c) && c.Request().Method != http.MethodGet:
		said := map[string]any{"error": apiError{p.code, p.title + " " + p.next}}
		if path == triggerRoute { // as in its other answers
			said["status"] = p.status
		}
		answer = c.JSON(p.status, said)
	default:
		page := views.ErrorPage{Status: p.status, Problem: words, Action: p.actionURL, ActionLabel: p.actionLabel}
		if again := p.again(c.Request()); again != "" {
			page.Action, page.ActionLabel = again, "Try again"
		}
		answer = a.render(c, p.status, views.Error(page))
	}
	if answer != nil {
		a.Log.DebugContext(c.Request().Context(), "error answer not written", "error", answer)
	}
}

// complainEvery is how often, at the most, the same is complained about.
const complainEvery = 10 * time.Second

// complain tells operators of a request that failed.
func (a *app) complain(ctx context.Context, route string, p *httpProblem) {
	say := func(more ...any) {
		a.Log.ErrorContext(ctx, "request failed", append([]any{"route", route, "status", p.status, "error", p}, more...)...)
	}
	gathered := func(requests int) { say("requests", requests) }
	switch p.code {
	case auth.CodeStorage:
		a.storage.Make(gathered)
	case codeUnreadable:
		a.unreadable.Make(gathered)
	default:
		say()
	}
}

// apiError is the error object of the API.
type apiError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// sessionFailed answers a request whose session could not be loaded or saved.
func (a *app) sessionFailed(e *echo.Echo) func(w http.ResponseWriter, r *http.Request, err error) {
	return func(w http.ResponseWriter, r *http.Request, err error) {
		p := storageProblem(err)
		if clientGone(r.Context(), err) {
			p = &httpProblem{status: statusClientGone}
			requestOf(r.Context()).failed = p
			return
		}
		for _, ofAnother := range []string{echo.HeaderContentLength, echo.HeaderContentEncoding, "HX-Redirect"} { // the handler's answer
			w.Header().Del(ofAnother)
		}
		a.failed(p, e.NewContext(r, w))
		requestOf(r.Context()).failed = p
	}
}

func isHTMX(c echo.Context) bool { return c.Request().Header.Get("HX-Request") == "true" }

// isForm tells a form of a page without JavaScript, whose answer a person sees, from a program's call.
func isForm(c echo.Context) bool { return c.Request().Method == http.MethodPost && acceptsHTML(c) }

// acceptsHTML tells a browser's navigation from a program's call: no browser asks for JSON by name when it navigates.
func acceptsHTML(c echo.Context) bool {
	var html, json bool
	for mediaRange := range strings.SplitSeq(c.Request().Header.Get(echo.HeaderAccept), ",") {
		kind, params, err := mime.ParseMediaType(mediaRange)
		if weight, malformed := strconv.ParseFloat(params["q"], 64); err != nil || malformed == nil && weight == 0 { // RFC 9110 section 12.4.2
			continue
		}
		html, json = html || kind == echo.MIMETextHTML, json || kind == echo.MIMEApplicationJSON
	}
	return html && !json
}
