package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"
	"github.com/labstack/echo/v4"

	"keyturn/auth"
	"keyturn/views"
)

const (
	// heartbeat is how often an open stream shows that it lives, and looks whether its session still does.
	heartbeat = 15 * time.Second
	// leastBeat is how long a stream waits at least until it looks again, where the clocks say that its session ends now.
	leastBeat = time.Second
	// pagePace is how long a page is left with what it was told: it takes a while to show all of it, and the next has all that came since.
	pagePace = 200 * time.Millisecond
	// catchUp is after how long a stream tries again to tell of a change that could not be read, at first; each time after that in twice as
	// long, up to a heartbeat.
	catchUp = time.Second
	// streamWrite bounds the writing of one event: a reader that is stuck is let go.
	streamWrite = 10 * time.Second
)

// events is the grant's renewals as they happen (server-sent events): fragments for Keyturn's own pages, JSON for programs.
// Pages get their present state first. Programs get what came after the Last-Event-ID that they send, and what comes.
func (a *app) events(c echo.Context) error {
	view, err := a.grant(c)
	if errors.Is(err, errSignedOut) {
		return a.unauthorized(c, err, nil)
	}
	if err != nil {
		return err
	}
	watch, err := a.Events.Subscribe(view.Grant.ID)
	if err != nil {
		a.Meter.Refused(limitStreams)
		return tooMany(c, heartbeat, "Too many pages watch for events.").because(err)
	}
	defer watch.Close()
	s := &stream{app: a, c: c, control: http.NewResponseController(c.Response()), grant: view.Grant.ID}
	if isHTMX(c) {
		s.say, s.pace = s.page, pagePace
		s.alive = event("alive", "", "now") // for the script, which does not see comments
		if s.known = c.Request().Header.Get("Last-Event-ID"); s.known == "" {
			s.known = c.QueryParam("version")
		}
	} else {
		s.say, s.alive = s.program, ": still here\n\n"
		if err := s.resume(c.Request().Context()); err != nil {
			return storageProblem(err)
		}
	}
	h := c.Response().Header()
	h.Set(echo.HeaderContentType, "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	// The server's own bound is for requests that end.
	if err := s.control.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	c.Response().WriteHeader(http.StatusOK)
	s.run(watch)
	return nil
}

// stream is one open answer of /events.
type stream struct {
	app     *app
	c       echo.Context
	control *http.ResponseController
	grant   string
	say     func(ctx context.Context) error
	alive   string // what shows that it lives
	pace    time.Duration
	known   string // version that the other side knows
	last    int64  // newest renewal that a program has been told of
	warning string // that it was told of with it
	behind  bool   // there may be something to tell that could not be read
	token   string // renewedVersion of which a program was told the token's state
}

// errStreamDone says that there is nothing more to tell.
var errStreamDone = errors.New("stream is done")

func (s *stream) run(watch *auth.Watch) {
	ctx := s.c.Request().Context()
	beat := time.NewTimer(0)
	defer beat.Stop()
	changed, paced := watch.Changed, (<-chan time.Time)(nil)
	again, wait := (<-chan time.Time)(nil), catchUp
	tell := func() error {
		s.behind = false
		err := s.say(ctx)
		if again = nil; s.behind {
			again, wait = time.After(wait), min(2*wait, heartbeat)
		} else {
			wait = catchUp
		}
		return err
	}
	err := s.send(": connected\n\n")
	if err == nil {
		err = tell()
	}
	for err == nil {
		select {
		case <-ctx.Done():
			return
		case <-watch.Closed:
			return
		case <-watch.Ended:
			err = s.signedOut()
		case <-changed:
			err = tell()
			if s.pace > 0 {
				changed, paced = nil, time.After(s.pace)
			}
		case <-paced:
			changed, paced = watch.Changed, nil
		case <-again:
			err = tell()
		case <-beat.C:
			var next time.Duration
			next, err = s.beat(ctx)
			beat.Reset(next)
		}
	}
}

// beat keeps proxies from closing the stream, and ends it when its session is over. next is when to look again.
func (s *stream) beat(ctx context.Context) (next time.Duration, err error) {
	lives, idlesAt, err := s.app.Sessions.Lives(ctx)
	if err == nil && !lives {
		return 0, s.signedOut()
	}
	now := s.app.Now()
	next = min(heartbeat, s.app.Sessions.EndsAt(ctx).Sub(now))
	if err == nil && !idlesAt.IsZero() {
		next = min(next, idlesAt.Sub(now))
	}
	return max(next, leastBeat), s.send(s.alive)
}

func (s *stream) signedOut() error {
	return errors.Join(s.send("event: signedout\ndata: {}\n\n"), errStreamDone)
}

// look reads the grant. Without a version there is nothing new to tell: the other side knows it, or it cannot be read now, and is behind.
func (s *stream) look(ctx context.Context) (view auth.View, version string, err error) {
	view, err = s.app.Rotator.Look(ctx, s.grant)
	if errors.Is(err, auth.ErrNotFound) {
		return view, "", s.signedOut()
	}
	if err != nil {
		return view, "", s.unread(ctx, err)
	}
	if view.Grant.Ended() {
		return view, "", s.signedOut()
	}
	if version = versionOf(view.Grant); version == s.known {
		return view, "", nil
	}
	return view, version, nil
}

// page tells a page what it should look like now.
func (s *stream) page(ctx context.Context) error {
	view, version, err := s.look(ctx)
	if err != nil || version == "" {
		return err
	}
	fragment, err := s.app.renewedFragment(s.c, view, nil, s.c.QueryParam("since"), true)
	if err != nil {
		return s.unread(ctx, err)
	}
	var html bytes.Buffer
	if err := fragment.Render(ctx, &html); err != nil {
		return err
	}
	s.known = version
	return s.send(event("", version, html.String()))
}

// program tells a program of the renewals since those that it knows, and of the token's state after them.
func (s *stream) program(ctx context.Context) error {
	view, version, err := s.look(ctx)
	if err != nil || version == "" {
		return err
	}
	list, err := s.app.Rotator.History(ctx, s.grant, 0, auth.KeptRenewals)
	if err != nil {
		return s.unread(ctx, err)
	}
	s.known = version
	var text strings.Builder
	for i := len(list) - 1; i >= 0; i-- {
		r := list[i]
		if r.ID == 0 {
			s.known = "" // the database has not taken it yet: it is told when it has, and nothing else changes by that
			continue
		}
		// What is found out about the newest later on, about its id token for one, is told with it once more.
		if r.ID > s.last || r.ID == s.last && r.Warning != s.warning {
			s.last, s.warning = r.ID, r.Warning
			text.WriteString(eventJSON("renewal", s.eventID(), rotationOf(r)))
		}
	}
	told := s.token
	if s.token = renewedVersion(view.Grant); text.Len() == 0 && s.token == told {
		return nil // what was judged later is as it was told
	}
	text.WriteString(eventJSON("token", s.eventID(), s.app.tokenState(view))) // also where no renewal was told of yet
	return s.send(text.String())
}

// eventID names what a program was told last: a renewal, and what there was to say of it.
func (s *stream) eventID() string {
	id := strconv.FormatInt(s.last, 10)
	if s.warning != "" {
		id += "." + s.warning
	}
	return id
}

// resume begins behind what a program had last, or behind what there is. A renewal that there is not yet is of a history that was set back
// since: of a database before its backup was restored.
func (s *stream) resume(ctx context.Context) error {
	list, err := s.app.Rotator.History(ctx, s.grant, 0, 2) // the newest may not be stored yet
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(list, func(r auth.Renewal) bool { return r.ID > 0 }); i >= 0 {
		s.last, s.warning = list[i].ID, list[i].Warning
	}
	number, warning, _ := strings.Cut(s.c.Request().Header.Get("Last-Event-ID"), ".")
	if id, err := strconv.ParseInt(number, 10, 64); err == nil && id <= s.last {
		s.last, s.warning = id, warning
	}
	return nil
}

// unread leaves the stream behind.
func (s *stream) unread(ctx context.Context, err error) error {
	s.behind = true
	if ctx.Err() == nil {
		s.app.untold.Make(func(times int) {
			s.app.Log.WarnContext(ctx, "an open page could not be told of a change yet", "grant", s.grant, "times", times, "error", err)
		})
	}
	return nil
}

func (s *stream) send(text string) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
		return err
	}
	if _, err := s.c.Response().Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}

func event(name, id, data string) string {
	var b strings.Builder
	if name != "" {
		fmt.Fprintf(&b, "event: %s\n", name)
	}
	if id != "" {
		fmt.Fprintf(&b, "id: %s\n", id)
	}
	for line := range strings.Lines(data) {
		b.WriteString("data: " + strings.TrimRight(line, "\r\n") + "\n")
	}
	return b.String() + "\n"
}

func eventJSON(name, id string, data any) string {
	text, err := json.Marshal(data)
	if err != nil {
		return ""
	}
	return event(name, id, string(text))
}

// versionOf ascends with everything that a renewal changes, and once more when what came with it could be judged only later: a page uses
// it to tell newer from older.
func versionOf(g *auth.Grant) string {
	judged := 0
	if g.Pending == "" {
		judged = 1
	}
	return fmt.Sprintf("%s.%d", renewedVersion(g), judged)
}

// renewedVersion ascends with everything that a renewal changes by itself.
func renewedVersion(g *auth.Grant) string {
	return fmt.Sprintf("%d.%d", g.Generation, changedAt(g).UnixMicro())
}

// changedAt is when a renewal changed the grant last, or its sign-in made it.
func changedAt(g *auth.Grant) time.Time {
	if at := g.Standing.TriedAt; !at.IsZero() {
		return at
	}
	return g.CreatedAt
}

// renewedFragment is the token card and what else of the dashboard a renewal changes.
func (a *app) renewedFragment(c echo.Context, view auth.View, said *views.Result, since string, live bool) (templ.Component, error) {
	list, err := a.Rotator.History(c.Request().Context(), view.Grant.ID, 0, auth.KeptRenewals)
	if err != nil {
		return nil, err
	}
	history := a.historyOf(view.Grant, list, rowsSince(list, since))
	return views.Renewed(a.tokenCard(view, said, history.Since), a.grantFacts(c, view, list), a.timeline(view, list), history, live), nil
}
