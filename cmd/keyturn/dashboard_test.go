package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"keyturn/auth/authtest"
	"keyturn/auth/provider/scripted"
)

func TestRevealHideAndCopy(t *testing.T) {
	t.Parallel()
	// The first minute is half a second on this page's clock.
	p := startProgram(t)
	b := openTab(t, look{script: `const later = setTimeout; window.setTimeout = (f, ms, ...rest) => later(f, ms === 60000 && !window.slow ? 500 : ms, ...rest)`})
	b.signIn(t, p.base)
	token := tokensOf(t, p.signedInAs(t, b))["access"]
	b.becomes(t, "the inspector is there", `document.getElementById("reveal") !== null`)
	holds := fmt.Sprintf(`document.documentElement.outerHTML.includes(%q)`, token)
	b.becomes(t, "the token is not in the page", "!"+holds)
	b.do(t, click(`#reveal`))
	b.becomes(t, "it is shown", fmt.Sprintf(`document.getElementById("revealed")?.textContent === %q`, token))
	b.becomes(t, "it hides again after a minute", `!document.getElementById("revealed") && document.getElementById("reveal").textContent === "Reveal" && !`+holds)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`window.slow = true`))
	b.do(t, click(`#reveal`), visible(`#revealed`))
	ask(t, b, chromedp.Evaluate[chromedp.Void](`window.dispatchEvent(new PageTransitionEvent("pagehide"))`))
	b.becomes(t, "and when the page is left", "!"+holds)

	for _, name := range []string{"clipboard-read", "clipboard-write"} {
		_, err := chromedp.CallBrowser(b.Context, browser.SetPermission, browser.SetPermissionParams{
			Permission: &browser.PermissionDescriptor{Name: name}, Setting: browser.PermissionSettingGranted, Origin: p.base,
			BrowserContextID: chromedp.FromContext(b.Context).BrowserContextID,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	b.do(t, chromedp.Reload(), click(`#copy`))
	b.becomes(t, "it says so", `document.getElementById("copy").textContent === "Copied" && document.getElementById("announce").textContent === "Copied"`)
	copied := ask(t, b, chromedp.Evaluate[string](`navigator.clipboard.readText()`, chromedp.EvalAwaitPromise))
	if copied != token {
		t.Errorf("copied %d characters, want the token", len(copied))
	}
	b.becomes(t, "copying shows nothing", "!"+holds)
}

// Whoever clicks Reveal just before, while or just after a renewal swaps the page about sees the token, and stays on the page.
func TestARevealIsNotLostToARenewal(t *testing.T) {
	t.Parallel()
	var slow atomic.Int64
	_, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Token = func(http.ResponseWriter, *http.Request, func() map[string]any) bool {
			time.Sleep(time.Duration(slow.Load()))
			return false
		}
	})
	b := openTab(t, look{})
	b.do(t, chromedp.Navigate(p.base), click(`a[data-provider="oidc"]`), visible(`#token-card`))
	generation := 1
	for _, c := range []struct {
		name   string
		slow   time.Duration
		script string
	}{
		{"before the renewal has ended", 300 * time.Millisecond, `setTimeout(() => document.getElementById("reveal").click(), 30)`},
		{"when the new card appears", 0, `new MutationObserver((_, o) => { o.disconnect(); document.getElementById("reveal").click(); }).observe(document.querySelector(".columns"), {childList: true})`},
		{"when the inspector appears again", 0, `new MutationObserver((_, o) => { o.disconnect(); document.getElementById("reveal").click(); }).observe(document.getElementById("inspector-body"), {characterData: true, childList: true, subtree: true})`},
	} {
		b.becomes(t, "there is something to reveal", `document.getElementById("reveal")?.textContent === "Reveal"`)
		slow.Store(int64(c.slow))
		ask(t, b, chromedp.Evaluate[chromedp.Void](`window.sameDocument = true; `+c.script+`; document.getElementById("refresh-token").click()`))
		generation++
		b.becomes(t, "renewed; "+c.name, fmt.Sprintf(`%s === "%d"`, shownGeneration, generation))
		token := tokensOf(t, p.signedInAs(t, b))["access"]
		b.becomes(t, "the new token is shown, revealed "+c.name, fmt.Sprintf(`window.sameDocument && document.getElementById("revealed")?.textContent === %q`, token))
		b.do(t, click(`#reveal`))
	}
	b.becomes(t, "hidden is hidden", `document.getElementById("reveal").textContent === "Reveal"`)
	b.do(t, click(`#refresh-token`))
	b.becomes(t, "renewed once more", fmt.Sprintf(`%s === "%d" && document.querySelector(".panel").dataset.generation === "%d"`, shownGeneration, generation+1, generation+1))
	b.becomes(t, "nothing is revealed that nobody asked for", `!document.getElementById("revealed")`)
}

func TestTheInspectorSaysWhatAJWTSays(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	b := openTab(t, look{})
	b.signIn(t, p.base)
	b.becomes(t, "the signature is verified", `document.querySelector("#inspector .signature.good")?.textContent.includes("verified with Dev provider's key")`)
	b.becomes(t, "exp is a date, and counts down", `/in 1 min \d+ s/.test([...document.querySelectorAll("#inspector tr")].find((row) => row.textContent.includes("valid until")).textContent)`)
	b.do(t, click(`#inspect-id`))
	b.becomes(t, "the id token says who", `document.querySelector("#inspector .panel").dataset.kind === "id" && document.querySelector("#inspector").textContent.includes("alice@dev.example")`)
	b.do(t, click(`#inspect-refresh`))
	b.becomes(t, "the refresh token is opaque", `document.querySelector("#inspector").textContent.includes("An opaque token")`)
	b.do(t, click(`#introspect`))
	b.becomes(t, "the provider was asked", `document.querySelector("#inspector").textContent.includes("The provider says") && document.activeElement.id === "introspect"`)
	b.becomes(t, "that is announced in a sentence, and what counts on is not", `document.getElementById("announce").textContent === "The provider says: active" &&
		!document.querySelector("[aria-live] [data-relative]")`)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`document.querySelector("#introspection-answer table").remove()`))
	b.do(t, click(`#introspect`))
	b.becomes(t, "and again", `document.querySelector("#introspection-answer").textContent.includes("The provider says")`)
	b.do(t, click(`#call-userinfo`))
	b.becomes(t, "userinfo answers", `document.querySelector("#try-it-answer pre")?.textContent.includes('"sub": "alice"') && document.querySelector("#try-it-answer .http").textContent === "200 OK"`)
}

func TestSigningOutTheOtherSession(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	third := p.person()
	third.signIn(t, "alice")
	b, other := openTab(t, look{}), openTab(t, look{})
	for _, one := range []*tab{b, other} {
		one.signIn(t, p.base)
		one.becomes(t, "live", isLive)
	}
	b.do(t, chromedp.Reload())
	b.becomes(t, "there are three sessions", `document.querySelectorAll(".sessions li").length === 3 && document.querySelector(".sessions li").textContent.includes("this session")`)
	b.becomes(t, "with browsers, addresses and times", `[...document.querySelectorAll(".sessions li")].filter((row) => /Chrome .* on Linux/.test(row.textContent)).length === 2 &&
		[...document.querySelectorAll(".sessions li")].every((row) => row.textContent.includes("127.0.0.1") && row.querySelectorAll("time").length === 2)`)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`window.sameDocument = true`))
	b.do(t, click(`.sessions li:nth-child(2) button`))
	b.becomes(t, "two are left", `document.querySelectorAll(".sessions li").length === 2`)
	other.do(t, visible(`.note`)) // the latest seen comes first
	b.do(t, click(`#sign-out-others`))
	b.becomes(t, "one is left, and is told of", `document.querySelectorAll(".sessions li").length === 1 && window.sameDocument &&
		document.getElementById("announce").textContent === "Signed out. Only this session is left."`)
	if a := third.do(t, "GET", "/api/session", nil); a.status != http.StatusUnauthorized {
		t.Errorf("the third session: %d", a.status)
	}
	if said := other.text(t, ".note"); !strings.Contains(said, "signed out, here or from another browser") {
		t.Errorf("the other browser says %q", said)
	}
	b.becomes(t, "this one goes on", `document.getElementById("token-card") !== null`)
}

func TestTheHistoryLoadsOlderOnesOnDemand(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, func(idp *scripted.Provider) { idp.Class = scripted.Static })
	b := openTab(t, look{})
	b.atScripted(t, p)
	program := p.signedInAs(t, b)
	for range 50 {
		program.do(t, "POST", "/api/renew-token", nil)
	}
	b.do(t, chromedp.Reload(), visible(`#history tbody tr`))
	rows := func(n int) string {
		return fmt.Sprintf(`document.querySelectorAll("#history tbody tr").length === %d`, n)
	}
	b.becomes(t, "a page of them", rows(20))
	b.do(t, click(`#history-more a`))
	b.becomes(t, "one more, and the way to the next has the focus", rows(40)+` && document.activeElement.id === "show-older"`)
	b.becomes(t, "who hears the page is told", `document.getElementById("announce").textContent === "20 older renewals"`)
	program.do(t, "POST", "/api/renew-token", nil)
	b.becomes(t, "a newer one appears on top", rows(41)+` && document.querySelector("#history tbody td.figure").textContent === "52"`)
	b.do(t, click(`#history-more a`))
	b.becomes(t, "all of them, each once, newest first", rows(51)+` && !document.querySelector("#history-more a") &&
		[...document.querySelectorAll("#history tbody tr")].map((row) => Number(row.id.split("-")[1])).every((id, i, ids) => i === 0 || ids[i - 1] === id + 1)`)
	b.becomes(t, "the first of the last ones has the focus", `document.activeElement === document.getElementById("history-older").rows[20]`)
}

// tabTo presses Tab until an element has the focus, which must be visible all the way.
func (b *tab) tabTo(t *testing.T, selector string) {
	t.Helper()
	for range 120 {
		b.do(t, chromedp.KeyEvent("\t"))
		here := ask(t, b, chromedp.Evaluate[string](fmt.Sprintf(`(() => {
			const e = document.activeElement, style = getComputedStyle(e);
			if (e === document.body) return "";
			const marked = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 3 || e.closest(".timeline");
			const box = e.getBoundingClientRect();
			return (e.matches(%q) ? "there" : "on the way") + (marked && box.width > 0 ? "" : ", focus not visible on " + e.outerHTML.slice(0, 120));
		})()`, selector)))
		if strings.Contains(here, "not visible") {
			t.Error(here)
		}
		if strings.HasPrefix(here, "there") {
			return
		}
	}
	t.Fatalf("the keyboard does not reach %s", selector)
}

// press presses Enter where the keyboard is, once htmx has taken up what it brought there.
func (b *tab) press(t *testing.T) {
	t.Helper()
	b.becomes(t, "htmx knows what has the focus", fmt.Sprintf(takenUp, "document.activeElement"))
	b.do(t, chromedp.KeyEvent("\r"))
}

func TestKeyboardOnly(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	b := openTab(t, look{})
	b.do(t, chromedp.Navigate(p.base), visible(`main`))
	b.tabTo(t, `a[data-provider="dev"]`)
	b.press(t)
	b.do(t, visible(`button[value="alice"]`))
	b.tabTo(t, `button[value="alice"]`)
	b.press(t)
	b.do(t, visible(`#token-card`))
	b.becomes(t, "the parts are there", `!!document.getElementById("introspect") && !document.querySelector("#sessions .skeleton")`)
	b.tabTo(t, `.skip`)
	b.press(t)
	b.tabTo(t, `#refresh-token`)
	b.press(t)
	b.becomes(t, "renewed, and the focus stayed", shownGeneration+` === "2" && document.activeElement.id === "refresh-token"`)
	b.tabTo(t, `.timeline .bar`)
	b.do(t, chromedp.KeyEvent(kb.ArrowLeft))
	b.becomes(t, "the bar before is told of", `document.activeElement.id === "generation-1" && document.getElementById("timeline-detail").textContent.startsWith("Generation 1, from the sign-in")`)
	b.tabTo(t, `#timeline summary`)
	b.becomes(t, "and no more, when the keyboard has left it", `document.getElementById("timeline-detail").textContent.trim().startsWith("Generation 2, rotated (manual)")`)
	b.press(t)
	b.becomes(t, "the timeline is a table, too", `document.activeElement.matches("#timeline summary") && document.querySelector("#timeline details").open && document.querySelectorAll("#generations-table tbody tr").length === 2`)
	b.tabTo(t, `#inspect-id`)
	b.press(t)
	b.becomes(t, "the id token", `document.querySelector("#inspector .panel").dataset.kind === "id" && document.activeElement.id === "inspect-id"`)
	b.tabTo(t, `#reveal`)
	b.press(t)
	b.becomes(t, "revealed", `!!document.getElementById("revealed") && document.activeElement.id === "reveal"`)
	b.press(t)
	b.becomes(t, "and hidden", `!document.getElementById("revealed") && document.activeElement.id === "reveal"`)
	b.tabTo(t, `#call-userinfo`)
	b.press(t)
	b.do(t, visible(`#try-it-answer pre`))
	b.do(t, chromedp.Navigate(p.base+"/dashboard"), visible(`#token-card`))
	b.tabTo(t, `form[action="/auth/signout"] button`)
	b.press(t)
	b.do(t, visible(`a[data-provider="dev"]`))
}

func TestWithoutJavaScriptEverythingIsAPage(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	b := openTab(t, look{noScript: true})
	phone := p.person()
	phone.signIn(t, "alice")
	b.signIn(t, p.base)
	if high := ask(t, b, chromedp.Evaluate[float64](`document.querySelector("#inspector .panel").offsetHeight`)); high > 100 {
		t.Errorf("nothing will come into the inspector, and it is %v high", high)
	}
	token := tokensOf(t, p.signedInAs(t, b))["access"]
	b.do(t, click(`#inspect-access`), visible(`.signature.good`), click(`#reveal`), visible(`#revealed`))
	if shown := b.text(t, "#revealed"); shown != token {
		t.Errorf("revealed: %q", shown)
	}
	b.do(t, chromedp.Navigate(p.base+"/dashboard"), click(`#call-userinfo`), visible(`pre[tabindex]`))
	if body := b.text(t, "pre[tabindex]"); !strings.Contains(body, `"sub": "alice"`) {
		t.Errorf("userinfo: %q", body)
	}
	b.do(t, click(`#call-userinfo`), visible(`pre[tabindex]`)) // once more, from there
	b.do(t, chromedp.Navigate(p.base+"/dashboard"), click(`#timeline summary`), click(`#generations-table a`), visible(`.generations tbody tr`))
	b.do(t, chromedp.Navigate(p.base+"/dashboard/sessions"), click(`#sign-out-others`), visible(`.empty`))
	if a := phone.do(t, "GET", "/api/session", nil); a.status != 401 {
		t.Errorf("the other session: %d", a.status)
	}
	for range 21 {
		p.signedInAs(t, b).do(t, "POST", "/api/renew-token", nil)
	}
	b.do(t, chromedp.Navigate(p.base+"/dashboard"), click(`#history-more a`), visible(`#history tbody tr:nth-child(21)`))
}

// observed counts layout shifts, and notes what else the page does.
const observed = `window.shifted = 0; new PerformanceObserver((list) => { for (const e of list.getEntries()) if (!e.hadRecentInput) shifted += e.value }).observe({type: "layout-shift", buffered: true})`

func TestThePageIsLightAndStill(t *testing.T) {
	looksOnly(t)
	t.Parallel()
	looks := map[string]look{"tall": {width: 1440, height: 2400}}
	if authtest.Soak(0, 1, 1) == 1 {
		looks["desktop"], looks["phone"] = look{}, look{width: 390, height: 844}
	}
	for name, l := range looks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l.script = observed
			p := startProgram(t)
			b := openTab(t, l)
			b.signIn(t, p.base)
			b.do(t, click(`#refresh-token`))
			b.becomes(t, "renewed", shownGeneration+` === "2"`)
			protocol(t, b.Context, network.SetCacheDisabled, network.SetCacheDisabledParams{CacheDisabled: true})
			protocol(t, b.Context, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{
				MatchedNetworkConditions: []*network.Conditions{{Latency: 150, DownloadThroughput: 200 << 10, UploadThroughput: 100 << 10}},
			})
			b.do(t, chromedp.Reload(), visible(`#token-card`))
			b.becomes(t, "everything came", `document.readyState === "complete" && !!document.querySelector("#inspector .signature.good") && !!document.querySelector(".sessions li")`)
			weight := ask(t, b, chromedp.Evaluate[int](`[...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].reduce((sum, e) => sum + e.transferSize, 0)`))
			if weight > 60<<10 || weight < 10<<10 {
				t.Errorf("the page is %d bytes on the wire", weight)
			}
			b.becomes(t, "nothing of another origin", `performance.getEntriesByType("resource").every((e) => e.name.startsWith(location.origin))`)
			if shifted := ask(t, b, chromedp.Evaluate[float64](`window.shifted`)); shifted > 0.01 {
				t.Errorf("the layout shifted by %.3f", shifted)
			}
			t.Logf("%d bytes on the wire", weight)
		})
	}
}

// What comes late has its room from the beginning: an opaque token's panel is the one whose height follows from its words.
func TestAnOpaqueTokensPanelHasItsRoom(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Introspect = func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, map[string]any{"active": true}) }
	})
	b := openTab(t, look{})
	b.do(t, chromedp.Navigate(p.base), click(`a[data-provider="oidc"]`), visible(`#introspect`))
	for _, width := range []int64{1280, 800, 650, 480, 390, 320} {
		b.do(t, chromedp.EmulateViewport(width, 900))
		b.becomes(t, fmt.Sprintf("it fits at %d", width), fmt.Sprintf(`innerWidth === %d && (() => {
			const panel = document.querySelector("#inspector .panel");
			return panel.getBoundingClientRect().height <= parseFloat(getComputedStyle(panel).minHeight) + 0.5;
		})()`, width))
	}
}

func TestPagesAreCompressedWhereThatIsWelcome(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	for range 4 { // a shorter table is not worth it
		alice.do(t, "POST", "/api/renew-token", nil)
	}
	for way, b := range map[string]*person{
		"GET /dashboard": alice, "GET /dashboard/timeline": alice, "POST /api/trigger-renew-token?query=update-token-data": alice, "GET /": p.person(),
	} {
		method, path, _ := strings.Cut(way, " ")
		for accepted, want := range map[string]string{
			"gzip": "gzip", "br, GZIP;q=0.5": "gzip", "gzip;q=0": "", "gzip;q=0, identity": "", "identity": "", "x-gzipped": "",
		} {
			a := b.do(t, method, path, nil, "Accept-Encoding", accepted, "HX-Request", "true")
			varies := a.header.Values("Vary")
			if got := a.header.Get("Content-Encoding"); a.status != http.StatusOK || got != want || !strings.Contains(strings.Join(varies, ", "), "Accept-Encoding") {
				t.Errorf("%s for %q: %d, in %q, varies with %q", way, accepted, a.status, got, varies)
			}
		}
	}
}

// Without JavaScript the answer to a click waits for the next page that somebody sees.
func TestAHEADLeavesTheAnswerToAClickForThePage(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	alice.staying().do(t, "POST", "/api/trigger-renew-token?query=update-token-data", nil, "Accept", "text/html")
	if a := alice.do(t, "HEAD", "/dashboard", nil); a.status != http.StatusOK || a.body != "" {
		t.Errorf("HEAD: %d %s", a.status, a.body)
	}
	for _, want := range []bool{true, false} {
		if page := alice.do(t, "GET", "/dashboard", nil); strings.Contains(page.body, `class="result good"`) != want {
			t.Errorf("the page has the answer: %v", !want)
		}
	}
}
