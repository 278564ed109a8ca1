package handlers

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"keyturn/auth"
	"keyturn/views"
)

// historyRows is how many renewals a page of the history shows.
const historyRows = 20

// reaching is how many renewals, newest first, there are down to one.
func reaching(list []auth.Renewal, id int64) int {
	n := 0
	for n < len(list) && (list[n].ID >= id || list[n].ID == 0) { // 0: not stored yet
		n++
	}
	return n
}

// rowsSince is how many renewals, newest first, a page shows whose oldest one is since; 0: all; empty: a new page. However far it grows,
// it goes on where the older ones begin that the page has loaded, until those are kept no more.
func rowsSince(list []auth.Renewal, since string) int {
	if oldest, err := strconv.ParseInt(since, 10, 64); err == nil {
		return reaching(list, oldest)
	}
	return historyRows
}

// historyOf is the first rows of the renewals, newest first.
func (a *app) historyOf(g *auth.Grant, list []auth.Renewal, rows int) views.History {
	n := min(len(list), rows)
	h := views.History{Recent: a.historyRowsOf(g, list[:n]), Since: "0", Reset: n == auth.KeptRenewals}
	if n > 0 {
		h.Since = strconv.FormatInt(list[n-1].ID, 10)
	}
	if n > 0 && len(list) > n {
		h.Before = h.Since
	}
	return h
}

func (a *app) historyRowsOf(g *auth.Grant, list []auth.Renewal) []views.HistoryRow {
	rows := make([]views.HistoryRow, 0, len(list))
	for _, r := range list {
		rows = append(rows, views.HistoryRow{
			ID: r.ID, At: r.At, Generation: r.Generation, Trigger: string(r.Trigger), Outcome: string(r.Outcome), Duration: r.Duration,
			ErrorCode: codeOf(r), Means: a.meaning(g, r), Warning: r.Warning, Warns: warningWords(r.Warning), Shared: r.Shared,
			OldToken: r.OldToken, NewToken: r.NewToken,
			OldExpiry: r.OldExpiry, NewExpiry: r.NewExpiry,
		})
	}
	return rows
}

// renewalBefore is the id that the parameter before holds; empty: 0.
func renewalBefore(before string) (int64, error) {
	if before == "" {
		return 0, nil
	}
	id, err := strconv.ParseInt(before, 10, 64)
	if err != nil || id <= 0 {
		return 0, problem(http.StatusBadRequest, "bad_before", "The parameter before is not the id of a renewal.",
			"Use the one that came with the renewals before, or leave it out.")
	}
	return id, nil
}

// olderHistory is the page of the history before a renewal, and before which there are more.
func (a *app) olderHistory(c echo.Context, g *auth.Grant, before string) (rows []views.HistoryRow, next string, err error) {
	list, more, err := a.historyPage(c, g.ID, before)
	if err != nil {
		return nil, "", err
	}
	if more {
		next = strconv.FormatInt(list[len(list)-1].ID, 10)
	}
	return a.historyRowsOf(g, list), next, nil
}

// historyPage is one page of renewals, newest first, and whether there are older ones.
func (a *app) historyPage(c echo.Context, grant, before string) (list []auth.Renewal, more bool, err error) {
	id, err := renewalBefore(before)
	if err != nil {
		return nil, false, err
	}
	list, err = a.Rotator.History(c.Request().Context(), grant, id, historyRows+1)
	if err != nil {
		return nil, false, storageProblem(err)
	}
	if len(list) > historyRows {
		return list[:historyRows], true, nil
	}
	return list, false, nil
}

// timeline is the picture of the grant's generations, as far back as the history goes.
func (a *app) timeline(view auth.View, list []auth.Renewal) views.Timeline {
	g := view.Grant
	t := views.Timeline{Now: a.Now(), Renewable: view.Renewable}
	for i := len(list) - 1; i >= 0; i-- {
		r := list[i]
		if len(t.Bars) == 0 && r.From() == 1 && r.Generation <= 2 {
			first := views.Bar{Generation: 1, Trigger: "sign-in", IssuedAt: g.CreatedAt, ExpiresAt: r.OldExpiry}
			if g.Generation == 1 { // as the token card has it
				first.IssuedAt = g.Tokens.IssuedAt
			}
			t.Bars = append(t.Bars, first)
		}
		if !r.Outcome.Succeeded() {
			t.Marks = append(t.Marks, views.Mark{At: r.At, Trigger: string(r.Trigger), Code: codeOf(r), Means: a.meaning(g, r)})
			continue
		}
		if n := len(t.Bars); n > 0 {
			t.Bars[n-1].ReplacedAt = r.At
		}
		t.Bars = append(t.Bars, views.Bar{
			Generation: r.Generation, Trigger: string(r.Trigger), Outcome: string(r.Outcome), Took: r.Duration, IssuedAt: r.At, ExpiresAt: r.NewExpiry,
		})
	}
	if len(t.Bars) == 0 {
		t.Bars = []views.Bar{{Generation: g.Generation, Trigger: "sign-in", IssuedAt: g.Tokens.IssuedAt, ExpiresAt: g.Tokens.ExpiresAt}}
	}
	return t
}

// timelineTable is the timeline as a table.
func (a *app) timelineTable(c echo.Context) error {
	view, err := a.signedIn(c)
	if err != nil {
		return err
	}
	list, err := a.Rotator.History(c.Request().Context(), view.Grant.ID, 0, auth.KeptRenewals)
	if err != nil {
		return storageProblem(err)
	}
	return a.part(c, view, "Timeline", "", views.TimelineTable(a.timeline(view, list)))
}

// rotationAnswer is one renewal as the API shows it.
type rotationAnswer struct {
	ID           int64        `json:"id"`
	Generation   int64        `json:"generation"`
	At           time.Time    `json:"at"`
	Trigger      auth.Trigger `json:"trigger"`
	Outcome      auth.Outcome `json:"outcome"`
	Milliseconds int64        `json:"milliseconds"`
	Code         string       `json:"error_code,omitempty"`
	Detail       string       `json:"error_detail,omitempty"`
	Warning      string       `json:"warning,omitempty"`
	Shared       int          `json:"shared"`    // how many other requests waited for it
	OldToken     string       `json:"old_token"` // fingerprints
	NewToken     string       `json:"new_token"`
	OldRefresh   string       `json:"old_refresh_token"`
	NewRefresh   string       `json:"new_refresh_token"`
	OldScope     string       `json:"old_scope,omitempty"`
	NewScope     string       `json:"new_scope,omitempty"`
	OldExpiry    time.Time    `json:"old_expires_at"`
	NewExpiry    time.Time    `json:"new_expires_at"`
}

func rotationOf(r auth.Renewal) rotationAnswer {
	return rotationAnswer{
		ID: r.ID, Generation: r.Generation, At: whole(r.At), Trigger: r.Trigger, Outcome: r.Outcome,
		Milliseconds: r.Duration.Milliseconds(), Code: r.Code, Detail: r.Detail, Warning: r.Warning, Shared: r.Shared,
		OldToken: r.OldToken, NewToken: r.NewToken, OldRefresh: r.OldRefresh, NewRefresh: r.NewRefresh,
		OldScope: r.OldScope, NewScope: r.NewScope, OldExpiry: whole(r.OldExpiry), NewExpiry: whole(r.NewExpiry),
	}
}

// rotations is the renewal history, newest first: JSON, or fragments for Keyturn's own pages.
func (a *app) rotations(c echo.Context) error {
	view, err := a.grant(c)
	if errors.Is(err, errSignedOut) {
		return a.unauthorized(c, err, nil)
	}
	if err != nil {
		return err
	}
	before := c.QueryParam("before")
	if isHTMX(c) {
		rows, next, err := a.olderHistory(c, view.Grant, before)
		if err != nil {
			return err
		}
		return a.render(c, http.StatusOK, views.OlderHistory(rows, next, a.Now()))
	}
	list, more, err := a.historyPage(c, view.Grant.ID, before)
	if err != nil {
		return err
	}
	var next *int64
	if more {
		next = &list[len(list)-1].ID
	}
	answer := make([]rotationAnswer, 0, len(list))
	for _, r := range list {
		answer = append(answer, rotationOf(r))
	}
	return c.JSON(http.StatusOK, map[string]any{"rotations": answer, "before": next})
}
