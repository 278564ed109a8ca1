package handlers

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/mileusna/useragent"

	"keyturn/auth"
	"keyturn/views"
)

// listSessions shows the person's sessions, this one among them.
func (a *app) listSessions(c echo.Context) error {
	view, err := a.signedIn(c)
	if err != nil {
		return err
	}
	return a.showSessions(c, view)
}

// showSessions shows those that live, the latest of them.
func (a *app) showSessions(c echo.Context, view auth.View) error {
	who := view.Grant.Identity
	list, err := a.Vault.Person(c.Request().Context(), who.Provider, who.Subject)
	if err != nil {
		return storageProblem(err)
	}
	rows := make([]views.SessionRow, 0, len(list))
	this := func(g *auth.Grant) bool { return g.ID == view.Grant.ID }
	more := len(list) == auth.ListedSessions
	if more && !slices.ContainsFunc(list, this) {
		list[len(list)-1] = view.Grant
	}
	for _, g := range list {
		browser, mobile := deviceOf(g.UserAgent)
		row := views.SessionRow{
			ID: g.ID, Browser: browser, Mobile: mobile, Address: g.IP, This: this(g), SignedInAt: g.CreatedAt, SeenAt: g.SeenAt,
		}
		if row.This {
			rows = append([]views.SessionRow{row}, rows...)
		} else {
			rows = append(rows, row)
		}
	}
	return a.part(c, view, "Sessions", "session-list", views.SessionList(rows, more, a.Now()))
}

// signOutSession ends another session of the same person. Any other id is none that they could know.
func (a *app) signOutSession(c echo.Context) error {
	id := c.Param("id")
	return a.endSessions(c, func(g *auth.Grant) bool { return g.ID == id }, true)
}

// signOutOthers ends all sessions of the person but this one.
func (a *app) signOutOthers(c echo.Context) error {
	return a.endSessions(c, func(*auth.Grant) bool { return true }, false)
}

// endSessions ends those of the person's other sessions that are chosen, and shows what is left.
func (a *app) endSessions(c echo.Context, chosen func(*auth.Grant) bool, must bool) error {
	view, err := a.signedIn(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), endWait)
	defer cancel()
	found := false
	who := auth.Person{Provider: view.Grant.Identity.Provider, Subject: view.Grant.Identity.Subject}
	err = a.Grants.Each(context.WithoutCancel(ctx), who, func(list []*auth.Grant) error {
		for _, g := range list {
			if g.ID == view.Grant.ID || !chosen(g) {
				continue
			}
			found = true
			if err := a.Sessions.EndOther(context.WithoutCancel(ctx), g.SessionHash); err != nil {
				return err
			}
			if _, err := a.Grants.End(ctx, g.ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return storageProblem(err)
	}
	if must && !found {
		return echo.ErrNotFound
	}
	if !isHTMX(c) {
		return c.Redirect(http.StatusSeeOther, "/dashboard/sessions")
	}
	return a.showSessions(c, view)
}

// deviceOf says in a few words which browser a User-Agent names, on which system.
func deviceOf(userAgent string) (words string, mobile bool) {
	ua := useragent.Parse(userAgent)
	name := ua.Name
	if major, _, _ := strings.Cut(ua.Version, "."); major != "" && name != "" {
		name += " " + major
	}
	switch {
	case name == "" && userAgent == "":
		return "Unknown browser", false
	case name == "":
		return cut(userAgent, 60), ua.Mobile
	case ua.OS != "":
		return cut(name+" on "+ua.OS, 80), ua.Mobile || ua.Tablet
	default:
		return cut(name, 80), ua.Mobile || ua.Tablet
	}
}
