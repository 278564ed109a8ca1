package main

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// A renewal that nobody on this page asked for changes what it changes, and leaves the reader where they are.
func TestARenewalLeavesTheReaderInPlace(t *testing.T) {
	t.Parallel()
	for width, x := range map[int64]float64{1280: 400, 768: 300} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			t.Parallel()
			p := startProgram(t)
			b := openLive(t, p)
			elsewhere := p.signedInAs(t, b)
			elsewhere.do(t, "POST", "/api/renew-token", nil) // from then on the same claims change
			b.do(t, chromedp.EmulateViewport(width, 900))
			const checked = `document.querySelector("#inspector .panel").dataset.generation === "%d" && !!document.querySelector("#inspector .panel.tall .signature.good")`
			b.becomes(t, "the claims are there, all of them", fmt.Sprintf(checked, 2)+` &&
				((panel) => panel.scrollHeight <= panel.clientHeight && panel.querySelectorAll("th").length > 8)(document.querySelector("#inspector .panel"))`)
			ask(t, b, chromedp.Evaluate[chromedp.Void](`window.row = () => document.querySelector(".claims tr:nth-child(8)").getBoundingClientRect().top; scrollBy(0, row() - 300)`))
			b.do(t, chromedp.MouseEvent(chromedp.MouseMoved, x, 310))
			ask(t, b, chromedp.Evaluate[chromedp.Void](`window.was = row(); window.moved = 0;
				(function frame() { moved = Math.max(moved, Math.abs(row() - was)); requestAnimationFrame(frame); })()`))
			elsewhere.do(t, "POST", "/api/renew-token", nil)
			b.becomes(t, "the inspector has the new token, its signature is checked", fmt.Sprintf(checked, 3))
			if moved := ask(t, b, chromedp.Evaluate[float64](`window.moved`)); moved > 5 {
				t.Errorf("what is read moved by %v pixels", moved)
			}
		})
	}
}

// A refusal that nobody on this page asked for is told to who hears the page, too, and only once.
func TestAFailureFromElsewhereIsTold(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	b := openTab(t, look{})
	b.atScripted(t, p)
	b.becomes(t, "it is live", isLive)
	elsewhere := p.signedInAs(t, b)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`window.heard = [];
		new MutationObserver(() => heard.push(document.getElementById("announce").textContent)).observe(document.getElementById("announce"), { childList: true })`))
	for n, code := range []string{"temporarily_unavailable", "temporarily_unavailable", "invalid_grant"} {
		idp.Change(func() {
			idp.Token = func(w http.ResponseWriter, r *http.Request, grant func() map[string]any) bool {
				answers(http.StatusBadRequest, `{"error":"`+code+`"}`)(w, r, grant)
				return true
			}
		})
		elsewhere.do(t, "POST", "/api/renew-token", nil)
		b.becomes(t, "it shows", fmt.Sprintf(`document.querySelectorAll("#history-recent tr").length === %d`, n+1))
	}
	b.becomes(t, "each is told", `heard.length === 2 && heard[0].startsWith("Not renewed. The provider's matter: ") && heard[0].includes("a problem of its own") &&
		heard[1].startsWith("Not renewed. ") && heard[1].endsWith("Sign in again.")`)
}

// Who works by keyboard goes on where they were when the button that they pressed is gone.
func TestFocusStaysWhereAButtonWentAway(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	phone := p.person()
	phone.signIn(t, "alice")
	b := openTab(t, look{})
	b.signIn(t, p.base)
	b.do(t, click(`#session-list form[hx-post$="/signout"] button`))
	b.becomes(t, "the other session is gone", `!!document.querySelector("#session-list .empty")`)
	b.becomes(t, "the focus is at the sessions", `document.activeElement.id === "sessions-title"`)
}

// A sign-in from elsewhere is in the list when the page is looked at again.
func TestSessionsFromElsewhereShow(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	b := openLive(t, p)
	b.becomes(t, "there is nobody else", `!!document.querySelector("#session-list .empty")`)
	p.person().signIn(t, "alice")
	ask(t, b, chromedp.Evaluate[chromedp.Void](`document.dispatchEvent(new Event("visibilitychange"))`)) // as when the tab comes to the front
	b.becomes(t, "the other session is there", `!!document.getElementById("sign-out-others")`)
}

// Times are the reader's, in the page's language: within its sentences, those of another would be shuffled.
func TestTimesAreInThePagesLanguage(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	b := openTab(t, look{script: `Object.defineProperty(navigator, "language", { value: "fa-IR" })`})
	protocol(t, b.Context, emulation.SetLocaleOverride, emulation.SetLocaleOverrideParams{Locale: "fa-IR"})
	b.signIn(t, p.base)
	b.becomes(t, "the day and the time", `/^(today|\d\d? [A-Z][a-z]{2,3}) \d\d:\d\d:\d\d$/.test(document.querySelector("#grant time").textContent) &&
		/^[A-Z][a-z]+day,? \d\d? [A-Z]/.test(document.querySelector("#grant time").title)`)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`document.getElementById("generation-1").focus()`))
	b.becomes(t, "those of a bar", `/· \d\d:\d\d:\d\d to \d\d:\d\d:\d\d$/.test(document.getElementById("timeline-detail").textContent)`)
}

// A time of another day has its day wherever it is written, and all of a page's times have 24 hours.
func TestTimesReadTheSameEverywhere(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	b := openTab(t, look{script: `Object.defineProperty(navigator, "language", { value: "en-US" })`})
	b.atScripted(t, p)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`document.getElementById("generation-1").dataset.from = "2026-03-01T22:30:00Z"; document.getElementById("generation-1").focus()`))
	b.becomes(t, "a bar of another day", `/ · Mar 1(, 2026)? 23:30:00 to /.test(document.getElementById("timeline-detail").textContent)`)
	b.becomes(t, "what is said on hover", `[...document.querySelectorAll("time")].every((time) => time.title && !/[AP]M/.test(time.title))`)
}

// What is known of the network's end is not waited for.
func TestAPageWithoutANetworkIsNotLive(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	b := openLive(t, p)
	b.deafen() // requests fail
	for _, off := range []bool{true, false} {
		none := network.Conditions{Offline: off, DownloadThroughput: -1, UploadThroughput: -1}
		protocol(t, b.Context, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{MatchedNetworkConditions: []*network.Conditions{&none}})
		protocol(t, b.Context, network.OverrideNetworkState, network.OverrideNetworkStateParams{Offline: off, DownloadThroughput: -1, UploadThroughput: -1})
		b.becomes(t, fmt.Sprintf("without a network %v", off), fmt.Sprintf(`document.getElementById("live-state").dataset.state === %q`, map[bool]string{true: "off", false: "on"}[off]))
	}
}
