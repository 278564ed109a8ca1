package main

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"keyturn/auth/provider/scripted"
)

// A page's own requests are about the grant that it shows: when its browser has signed in again since, as somebody else perhaps, they are
// nobody's, and the page is loaded anew.
func TestAPageAsksOnlyForTheGrantThatItShows(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	alice := p.person()
	shown := regexp.MustCompile(`data-grant="([A-Z0-9]+)"`).FindStringSubmatch(alice.do(t, "GET", "/auth/oidc", nil).body)
	if shown == nil {
		t.Fatal("the page does not say which grant it shows")
	}
	idp.Change(func() { idp.Subject = "bob" })
	alice.do(t, "GET", "/auth/oidc", nil)
	for _, asked := range []string{"GET /dashboard/tokens/access", "POST /dashboard/tokens/access/reveal", "POST /api/trigger-renew-token", "POST /api/renew-token", "GET /dashboard/sessions", "GET /events"} {
		method, path, _ := strings.Cut(asked, " ")
		a := alice.staying().do(t, method, path, nil, "HX-Request", "true", "Keyturn-Grant", shown[1])
		if a.status != http.StatusUnauthorized || a.header.Get("HX-Redirect") == "" {
			t.Errorf("%s: %d, to be loaded at %q", asked, a.status, a.header.Get("HX-Redirect"))
		}
	}
	if a := alice.do(t, "POST", "/api/renew-token", nil); a.status != http.StatusOK || idp.TokenCalls() != 1 {
		t.Errorf("a program that names none: %d, %d token calls", a.status, idp.TokenCalls())
	}
	b := openTab(t, look{})
	b.deafen()
	b.do(t, chromedp.Navigate(p.base+"/auth/oidc"), visible(`#token-card`))
	b.becomes(t, "it is live", isLive)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`document.getElementById("main").dataset.grant = "ANOTHER"`))
	b.do(t, click(`#refresh-token`), visible(`#main:not([data-grant="ANOTHER"]) #token-card`))
}

// Nor does its sign-out end the session of whoever has signed in since.
func TestAPageSignsOutOnlyWhomItShows(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	alice := p.person()
	whom := func(page answer) url.Values {
		mark := regexp.MustCompile(`name="person" value="([^"]+)"`).FindStringSubmatch(page.body)
		if mark == nil {
			t.Fatal("the page does not say whom it signs out")
		}
		return url.Values{"person": {mark[1]}}
	}
	asAlice := whom(alice.do(t, "GET", "/auth/oidc", nil))
	again := whom(alice.do(t, "GET", "/auth/oidc", nil))
	if again.Get("person") != asAlice.Get("person") {
		t.Error("somebody who signs in again is somebody else")
	}
	idp.Change(func() { idp.Subject = "bob" })
	alice.do(t, "GET", "/auth/oidc", nil)
	if a := alice.do(t, "POST", "/auth/signout", asAlice); a.url.Path != "/dashboard" || !strings.Contains(a.body, "Nobody was signed out") || strings.Contains(a.body, "Not renewed") || !alice.signedIn(t) {
		t.Errorf("at %s, signed in: %v", a.url, alice.signedIn(t))
	}
	if alice.do(t, "POST", "/auth/signout", whom(alice.do(t, "GET", "/dashboard", nil))); alice.signedIn(t) {
		t.Error("the page that shows them does not sign them out")
	}
}

// What is asked for while a click's renewal runs leaves the click alone; no time is painted as the server writes it.
func TestAClickIsAnsweredWhateverElseIsAskedFor(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, slowly(2*time.Second))
	b := openTab(t, look{})
	b.deafen()
	b.do(t, chromedp.Navigate(p.base+"/auth/oidc"), visible(`#token-card`))
	b.becomes(t, "it is live, and all is there", isLive+` && !!document.querySelector("#inspector .panel[data-kind]")`)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`window.foreign = 0; (function look() {
		for (const time of document.querySelectorAll("time[data-shown]")) if (time.textContent.endsWith("UTC")) window.foreign++;
		requestAnimationFrame(look);
	})()`))
	b.do(t, click(`#refresh-token`), click(`#inspect-id`))
	b.becomes(t, "the id token, and the button busy", `document.querySelector("#inspector .panel").dataset.kind === "id" && document.getElementById("refresh-token").getAttribute("aria-busy") === "true"`)
	b.becomes(t, "the result", `document.getElementById("result").textContent.trim().startsWith("Rotated in ") && document.getElementById("announce").textContent.startsWith("Rotated in ")`)
	if n := ask(t, b, chromedp.Evaluate[int](`window.foreign`)); n != 0 || idp.TokenCalls() != 1 {
		t.Errorf("%d times were painted in UTC; %d token calls", n, idp.TokenCalls())
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	b.do(t, click(`#inspect-access`))
	b.becomes(t, "it is said that nobody answers", `document.getElementById("notice").textContent.includes("cannot be reached")`)
}

// A browser has few connections for a site: a page that nobody sees yet takes none of them for its stream.
func TestAPageThatNobodySeesYetOpensNoStream(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, func(idp *scripted.Provider) { idp.Lifetime = time.Hour })
	b := openTab(t, look{script: `window.unseen = true; Object.defineProperty(document, "hidden", { get: () => window.unseen })`})
	b.do(t, chromedp.Navigate(p.base+"/auth/oidc"), visible(`#token-card`))
	b.becomes(t, "all else is there", `!!document.querySelector("#inspector .panel[data-kind]")`)
	if live := ask(t, b, chromedp.Evaluate[bool](isLive)); live {
		t.Error("it has a stream")
	}
	ask(t, b, chromedp.Evaluate[chromedp.Void](`window.unseen = false; document.dispatchEvent(new Event("visibilitychange"))`))
	b.becomes(t, "it is live once it is seen", isLive)
}

// Who goes through many tabs leaves each while its stream is on the way: one that opens behind them would be kept.
func TestATabThatIsLeftKeepsNoStream(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, func(idp *scripted.Provider) { idp.Lifetime = time.Hour })
	b := openTab(t, look{script: `window.unseen = false; window.held = true; window.signals = [];
		const ask = window.fetch;
		Object.defineProperty(document, "hidden", { get: () => window.unseen });
		window.see = (seen) => { window.unseen = !seen; document.dispatchEvent(new Event("visibilitychange")); };
		window.fetch = async (what, how) => {
			if (!String(what).startsWith("/events")) return ask(what, how);
			window.signals.push(how.signal);
			window.cache = how.cache;
			while (window.held) await new Promise((done) => setTimeout(done, 10));
			return ask(what, how);
		};`})
	tell := func(script string) { ask(t, b, chromedp.Evaluate[chromedp.Void](script)) }
	b.do(t, chromedp.Navigate(p.base+"/auth/oidc"))
	b.becomes(t, "its stream is on the way, past the browser's cache", `window.signals.length === 1 && window.cache === "no-store"`)
	tell(`window.see(false), window.held = false`)
	b.becomes(t, "it is given up", `window.signals[0].aborted`)
	tell(`window.see(true)`)
	b.becomes(t, "it is live once it is seen", isLive+` && window.signals.length === 2 && !window.signals[1].aborted`)
	tell(`window.held = true, window.see(false), window.see(true)`)
	b.becomes(t, "the next is on the way", `window.signals.length === 3`)
	tell(`window.see(false), window.held = false`)
	b.becomes(t, "that is given up, too", `window.signals[2].aborted`)
	tell(`window.see(true)`)
	b.becomes(t, "it is live again", `window.signals.length === 4 && !window.signals[3].aborted && `+isLive)
}

// A connection may die without a word, of a network that has changed or a machine that slept: a page that hears no heartbeat opens its stream
// anew.
func TestAStreamThatFallsSilentIsOpenedAnew(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, func(idp *scripted.Provider) { idp.Lifetime = time.Hour })
	b := openTab(t, look{script: `window.streams = window.alive = window.later = 0;
		const now = Date.now, ask = window.fetch;
		Date.now = () => now() + window.later;
		document.addEventListener("htmx:sse:before:message", (event) => { if (event.detail.message.event === "alive") window.alive++; });
		window.fetch = (what, how) => {
			if (!String(what).startsWith("/events") || ++window.streams > 1) return ask(what, how);
			const dead = new ReadableStream({ start: (stream) => stream.enqueue(new TextEncoder().encode(": connected\n\n")) });
			return Promise.resolve(new Response(dead, { headers: { "Content-Type": "text/event-stream" } }));
		};`})
	b.do(t, chromedp.Navigate(p.base+"/auth/oidc"), visible(`#token-card`))
	b.becomes(t, "it seems live", isLive)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`window.later = 30000`))
	b.becomes(t, "a second has passed", `window.began ??= performance.now(), performance.now() > window.began + 1500`)
	if n := ask(t, b, chromedp.Evaluate[int](`window.streams`)); n != 1 {
		t.Fatalf("%d streams after half a minute", n)
	}
	ask(t, b, chromedp.Evaluate[chromedp.Void](`window.later = 45000`))
	b.becomes(t, "another stream, which is heard", `window.streams === 2 && window.alive > 0 && `+isLive)
}

// What a page asks for shows that it is on its way, and is not asked for twice; a click whose answer is late says so.
func TestWhatIsOnItsWayShowsIt(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	b := openTab(t, look{})
	b.do(t, chromedp.Navigate(p.base+"/auth/oidc"), visible(`#call-userinfo`))
	held := make(chan bool)
	release := sync.OnceFunc(func() { close(held) })
	t.Cleanup(release)
	before := idp.Calls("/userinfo")
	idp.Change(func() {
		idp.UserInfo = func(w http.ResponseWriter, _ *http.Request) {
			<-held
			writeJSON(w, map[string]any{"sub": "alice"})
		}
	})
	const busy = `document.getElementById("call-userinfo").getAttribute("aria-busy") === "true"`
	b.do(t, click(`#call-userinfo`))
	b.becomes(t, "it is busy, and shows it", busy+` && getComputedStyle(document.getElementById("call-userinfo"), "::after").content === '""'`)
	b.do(t, click(`#call-userinfo`))
	release()
	b.becomes(t, "the answer is there", `document.getElementById("try-it-answer").textContent.includes("200") && !(`+busy+`)`)
	if n := idp.Calls("/userinfo") - before; n != 1 {
		t.Errorf("userinfo was called %d times", n)
	}
	idp.Change(func() { slowly(7 * time.Second)(idp) })
	b.do(t, click(`#refresh-token`))
	b.becomes(t, "the answer is late, and it says so", `document.getElementById("result").textContent.startsWith("No answer yet") && document.getElementById("announce").textContent.startsWith("No answer yet")`)
	b.becomes(t, "it is there", `document.getElementById("result").textContent.trim().startsWith("Rotated in ")`)
}

// Over midnight today becomes yesterday, also on a page to which nothing comes.
func TestTimesOfAPageThatIsOpenOverMidnight(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, func(idp *scripted.Provider) { idp.Lifetime = 24 * time.Hour })
	b := openTab(t, look{script: `window.later = 0;
		window.Date = class extends Date {
			constructor(...parts) { parts.length ? super(...parts) : super(Date.now()); }
			static now() { return super.now() + window.later; }
		};`})
	b.do(t, chromedp.Navigate(p.base+"/auth/oidc"), visible(`#token-card`))
	const shown = `document.querySelector("#expiry").parentElement.querySelectorAll("dd")[1].textContent.trim()`
	b.becomes(t, "issued today", isLive+` && /^\d\d:\d\d:\d\d$/.test(`+shown+`)`)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`window.later = new Date().setHours(24, 0, 30) - Date.now()`))
	b.becomes(t, "issued on another day", `/^\d+ \S+ \d\d:\d\d:\d\d$|^\S+ \d+,? \d\d:\d\d:\d\d$/.test(`+shown+`)`)
}

// The list of sessions is loaded anew when the page is seen again, and after each sign-out: what is open in it stays so, the focus stays, and
// nothing is said of sign-outs that were none.
func TestTheListOfSessionsStaysAsItIsUsed(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	for range 7 {
		p.person().signIn(t, "alice")
	}
	b := openTab(t, look{})
	b.signIn(t, p.base)
	b.becomes(t, "all are listed", `document.querySelectorAll(".sessions li").length === 8 && !document.querySelector(".more-sessions").open`)
	tell := func(script string) { ask(t, b, chromedp.Evaluate[chromedp.Void](script)) }
	tell(`document.querySelector(".more-sessions").open = true; window.button = document.querySelector(".more-sessions button").id;
		document.getElementById(window.button).focus(); window.list = document.querySelector(".sessions"); document.dispatchEvent(new Event("visibilitychange"))`)
	b.becomes(t, "it is loaded anew, and is as it was", `document.querySelector(".sessions") !== window.list && document.querySelector(".more-sessions").open && document.activeElement.id === window.button`)
	if said := b.text(t, "#announce"); said != "" {
		t.Errorf("it says %q", said)
	}
	b.do(t, chromedp.KeyEvent("\r"))
	b.becomes(t, "one less, and it says so", `document.querySelectorAll(".sessions li").length === 7 && document.querySelector(".more-sessions").open && document.getElementById("announce").textContent === "Signed out. 7 sessions are left."`)
}
