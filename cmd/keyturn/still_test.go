package main

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"keyturn/auth/provider/scripted"
)

// The answer to a click has its room from the beginning, and a failure stands where it was said as long as it stands: nothing below moves.
func TestWhatComesOfAClickMovesNothing(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	b := openTab(t, look{})
	b.atScripted(t, p)
	const seen = `JSON.stringify([document.getElementById("timeline"), document.getElementById("result")].map((e) => e.getBoundingClientRect().top + scrollY))`
	said := func() string {
		return regexp.MustCompile(` in \d[^.]*\.$`).ReplaceAllString(b.text(t, "#result"), " soon")
	}
	for _, width := range []int64{1280, 900, 390, 320} {
		idp.Change(func() { idp.Token = nil })
		b.do(t, chromedp.EmulateViewport(width, 900), chromedp.Navigate(p.base+"/dashboard"), visible(`#token-card`))
		before := ask(t, b, chromedp.Evaluate[string](seen))
		b.do(t, click(`#refresh-token`), visible(`.result.good`))
		renewed := ask(t, b, chromedp.Evaluate[string](seen))
		idp.Change(func() {
			idp.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
				w.Header().Set("Retry-After", "106")
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			}
		})
		b.do(t, click(`#refresh-token`), visible(`.result.bad`))
		failed, why := ask(t, b, chromedp.Evaluate[string](seen)), said()
		b.do(t, chromedp.Reload(), visible(`.result.bad`))
		if stands := ask(t, b, chromedp.Evaluate[string](seen)); renewed != before || failed != before || stands != before {
			t.Errorf("at %d, idle, renewed, failed and after a reload: %s, %s, %s, %s", width, before, renewed, failed, stands)
		}
		if again := said(); again != why || !strings.HasPrefix(why, "Not renewed. The provider's matter: ") || !strings.HasSuffix(why, "Keyturn tries again soon") {
			t.Errorf("at %d it says %q, and after a reload %q", width, why, again)
		}
	}
	b.silence()
}

// What is under the pointer, or read, stays there when a renewal that was made elsewhere adds to what is above or below it.
func TestARenewalMadeElsewhereMovesNothing(t *testing.T) {
	t.Parallel()
	views := map[string]struct {
		look   look
		to     string // what is scrolled to
		what   string
		points bool
	}{
		"scrolled":             {look{width: 1280, height: 900}, "#announce", "#sign-out-others", false},
		"scrolled, low":        {look{width: 1280, height: 600}, "#announce", "#sign-out-others", false},
		"scrolled, on a phone": {look{width: 390, height: 844}, "#announce", "#sign-out-others", false},
		"under the pointer":    {look{width: 1280, height: 900}, "#announce", "#history-title", true},
		"read":                 {look{width: 390, height: 844}, "#inspector", "#inspector-title", false},
	}
	if !everything() {
		delete(views, "scrolled, low")
		delete(views, "scrolled, on a phone")
	}
	for name, c := range views {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, p := atScripted(t, func(idp *scripted.Provider) { idp.Class = scripted.Static })
			for range 3 {
				p.person().do(t, "GET", "/auth/oidc", nil)
			}
			b := openTab(t, c.look)
			b.atScripted(t, p)
			b.becomes(t, "it is live, with sessions and an inspector", isLive+` && !!document.getElementById("sign-out-others") && !!document.getElementById("reveal")`)
			elsewhere := p.signedInAs(t, b)
			ask(t, b, chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`document.querySelector(%q).scrollIntoView();
				window.where = () => document.querySelector(%q).getBoundingClientRect()`, c.to, c.what)))
			if c.points {
				at := ask(t, b, chromedp.Evaluate[[]float64](`[where().x + 5, where().y + 5]`))
				b.do(t, chromedp.MouseEvent(chromedp.MouseMoved, at[0], at[1]))
			}
			ask(t, b, chromedp.Evaluate[chromedp.Void](`window.was = where().top; window.moved = 0;
				(function frame() { moved = Math.max(moved, Math.abs(where().top - was)); requestAnimationFrame(frame); })()`))
			for n := range 22 {
				elsewhere.do(t, "POST", "/api/renew-token", nil)
				if n < 3 || n > 18 {
					b.becomes(t, "it shows", fmt.Sprintf(`%s === "%d"`, shownGeneration, n+2))
				}
			}
			if moved := ask(t, b, chromedp.Evaluate[float64](`window.moved`)); moved > 5 { // each scroll is by whole pixels
				t.Errorf("it moved by %v pixels", moved)
			}
		})
	}
}
