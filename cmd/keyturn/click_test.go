package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"keyturn/auth/provider/scripted"
)

// isLive is that the page hears of renewals.
const isLive = `document.getElementById("live-state").dataset.state === "on"`

// openLive opens the dashboard, signed in, and waits until it is live.
func openLive(t *testing.T, p *program) *tab {
	t.Helper()
	b := openTab(t, look{})
	b.signIn(t, p.base)
	b.becomes(t, "it is live", isLive)
	return b
}

func TestClickingRefreshTokenSwapsTheNewExpiryIn(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	b := openTab(t, look{})
	b.signIn(t, p.base)
	first := b.text(t, "#countdown")
	b.becomes(t, "the countdown goes on", fmt.Sprintf(`document.getElementById("countdown").textContent.trim() !== %q`, first))
	if left := b.text(t, "#countdown"); !regexp.MustCompile(`^1:[0-5]\d$`).MatchString(left) || left >= first && first != "2:00" {
		t.Errorf("the countdown went from %q to %q", first, left)
	}
	ask(t, b, chromedp.Evaluate[chromedp.Void](`window.sameDocument = true; document.getElementById("refresh-token").focus()`))
	expiry := ask(t, b, chromedp.Evaluate[string](`document.getElementById("token-card").dataset.expiresAt`))
	b.do(t, chromedp.KeyEvent("\r"))
	b.becomes(t, "generation 2", `document.getElementById("generation").textContent === "2"`)
	if said := b.text(t, "#result"); !strings.HasPrefix(said, "Rotated in ") || !strings.Contains(said, ": generation 2, expires ") {
		t.Errorf("beside the button it says %q", said)
	}
	for what, script := range map[string]string{
		"the page was not loaded again":             `window.sameDocument === true`,
		"the button kept the focus":                 `document.activeElement.id === "refresh-token"`,
		"the result is announced":                   `document.getElementById("announce").textContent.startsWith("Rotated in")`,
		"the expiry is a later one":                 fmt.Sprintf(`document.getElementById("token-card").dataset.expiresAt > %q`, expiry),
		"the history has the renewal":               `document.querySelectorAll("#history tbody tr").length === 1`,
		"there is one card, one grant, one history": `["token-card", "grant", "history"].every((id) => document.querySelectorAll("#" + id).length === 1)`,
		"the button is usable again":                `document.getElementById("refresh-token").getAttribute("aria-busy") !== "true"`,
		"times are in the reader's zone":            `document.querySelector("#expiry time").textContent === new Intl.DateTimeFormat(undefined, {hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZone: "Europe/Paris"}).format(new Date(document.querySelector("#expiry time").dateTime))`,
	} {
		// The swap is seen before the script has dressed what it brought.
		if _, err := chromedp.Run(b.Context, chromedp.Poll[bool](script, often, chromedp.WithPollingTimeout(5*time.Second))); err != nil {
			t.Errorf("not so: %s: %v", what, err)
		}
	}
	ask(t, b, chromedp.Evaluate[chromedp.Void](`document.querySelector("#renews-next time").dateTime = new Date().toISOString()`))
	b.becomes(t, "the next renewal is not in the past", `document.getElementById("renews-next").textContent === "now"`)
}

func TestWithoutJavaScriptTheButtonIsAForm(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	b := openTab(t, look{noScript: true})
	b.signIn(t, p.base)
	b.do(t, click(`#refresh-token`), visible(`.result.good`))
	if said := b.text(t, "#result"); !strings.Contains(said, ": generation 2, expires ") {
		t.Errorf("beside the button it says %q", said)
	}
	if shown := b.text(t, "#expiry"); !strings.HasSuffix(shown, "UTC") {
		t.Errorf("the expiry is shown as %q, without its zone", shown)
	}
	b.do(t, click(`form[action="/auth/signout"] button`), visible(`a[data-provider="dev"]`))
}

// To a host that is neither this machine nor spoken to by TLS a browser does not say which site a request is from, and its Origin is all
// that there is to know.
func TestOverPlainHTTPTheButtonsWork(t *testing.T) {
	t.Parallel()
	p, _ := behindProxy(t, "http://keyturn.test:PORT")
	for _, l := range []look{{}, {noScript: true}} {
		b := openTab(t, l)
		b.do(t, chromedp.Navigate(p.base), click(`a[data-provider="oidc"]`), visible(`#token-card`), click(`#refresh-token`), visible(`.result.good`))
		b.do(t, click(`form[action="/auth/signout"] button`), visible(`a[data-provider="oidc"]`))
	}
}

// The page hears of its own sign-out, too, while it is on its way to the provider.
func TestSigningOutByClickEndsTheSessionAtTheProvider(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	b := openTab(t, look{})
	b.deafen() // its stream may come back, and be refused, before it is gone
	for range 3 {
		b.signIn(t, p.base)
		b.becomes(t, "it is live", isLive)
		b.do(t, click(`form[action="/auth/signout"] button`), visible(`a[data-provider="dev"]`))
		b.becomes(t, "it says so", `document.querySelector(".note").textContent.includes("and at your provider")`)
	}
}

// An end of session may lead through hosts that nobody has told of: a browser holds them against the form of a page, and not against a way
// that it goes by itself.
func TestSigningOutByClickLeadsThroughAnyHost(t *testing.T) {
	t.Parallel()
	through := func(next func(query url.Values) string) string {
		host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, next(r.URL.Query()), http.StatusFound)
		}))
		t.Cleanup(host.Close)
		return host.URL
	}
	last := through(func(query url.Values) string {
		return query.Get("post_logout_redirect_uri") + "?state=" + query.Get("state")
	})
	first := through(func(query url.Values) string { return last + "/?" + query.Encode() })
	_, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Document = func(document map[string]any) { document["end_session_endpoint"] = first + "/end" }
	})
	for name, noScript := range map[string]bool{"with JavaScript": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := openTab(t, look{noScript: noScript})
			b.deafen()
			b.do(t, chromedp.Navigate(p.base), click(`a[data-provider="oidc"]`), visible(`#token-card`))
			b.do(t, click(`form[action="/auth/signout"] button`), visible(`a[data-provider="oidc"]`))
			if said := b.text(t, ".note"); !strings.Contains(said, "and at your provider") {
				t.Errorf("it says %q", said)
			}
		})
	}
}

func TestSigningInAgainByClickEndsAtTheDashboard(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	b := openTab(t, look{})
	b.do(t, chromedp.Navigate(p.base), click(`a[data-provider="oidc"]`), visible(`#token-card`))
	for range 4 {
		idp.Change(func() {
			idp.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
				w.WriteHeader(http.StatusBadRequest)
				writeJSON(w, map[string]any{"error": "invalid_grant"})
				return true
			}
		})
		b.becomes(t, "it is live", isLive)
		b.do(t, click(`#refresh-token`), visible(`#sign-in-again`), click(`#sign-in-again`), visible(`#refresh-token`))
		b.becomes(t, "it is the dashboard", `location.pathname === "/dashboard"`)
	}
}

func TestAnUnreachableKeyturnIsSaidBesideTheButton(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	b := openTab(t, look{})
	b.signIn(t, p.base)
	p.kill(t)
	b.do(t, click(`#refresh-token`))
	b.becomes(t, "it says so, whose matter it is and what comes next", `document.getElementById("result").textContent.startsWith(
		"Keyturn cannot be reached. Your network's matter, or the operator's. The page goes on by itself when it can")`)
	p.again(t)
	b.becomes(t, "it is over", isLive+` && document.getElementById("result").textContent === ""`)
	b.do(t, click(`#refresh-token`))
	b.becomes(t, "generation 2", `document.getElementById("generation").textContent === "2"`)

	// The network alone is gone, and a stream that is open says nothing of it.
	b.becomes(t, "it is live", isLive)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`window.near = window.fetch; window.fetch = () => Promise.reject(new TypeError("Failed to fetch"))`))
	b.do(t, click(`#refresh-token`))
	b.becomes(t, "it says so, and that it does not hear", `document.getElementById("result").textContent.startsWith("Keyturn cannot be reached.") &&
		document.getElementById("live-state").dataset.state === "off"`)
	b.do(t, chromedp.EmulateViewport(1280, 3000), click(`#call-userinfo`))
	b.becomes(t, "it is not shown twice", `document.getElementById("call-userinfo").getAttribute("aria-busy") === "false" && !document.querySelector("#notice .problem")`)
	b.do(t, chromedp.EmulateViewport(1280, 600), click(`#call-userinfo`))
	b.becomes(t, "unless one would not see it", `document.querySelector("#notice .problem")?.textContent.startsWith("Keyturn cannot be reached.")`)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`window.fetch = window.near`))
	b.becomes(t, "it is over", isLive+` && document.getElementById("result").textContent === "" && document.getElementById("notice").textContent === ""`)
	b.silence()
}

// answered has the page wait for the answer to a click, and then do something else.
func answered(then string) chromedp.Action[chromedp.Void] {
	return chromedp.Evaluate[chromedp.Void](`{
		const before = window.fetch;
		window.fetch = async (...request) => {
			const answer = await before(...request);
			if (String(request[0]).includes("trigger-renew-token")) ` + then + `
			return answer;
		};
	}`)
}

// What the stream told while the button was busy is told again, if the answer does not show it.
func TestAPageIsToldAgainWhatItLeftToAClick(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	t.Run("whose answer is lost", func(t *testing.T) {
		t.Parallel()
		b := openLive(t, p)
		b.deafen() // htmx notes it
		ask(t, b, answered(`{ await new Promise((then) => setTimeout(then, 500)); throw new TypeError("Failed to fetch"); }`))
		ask(t, b, chromedp.Evaluate[chromedp.Void](`window.sameDocument = true; window.said = [];
			new MutationObserver(() => said.push(document.getElementById("announce").textContent)).observe(document.getElementById("announce"), {childList: true})`))
		b.do(t, click(`#refresh-token`))
		b.becomes(t, "the renewal shows, and where it was asked for", shownGeneration+` === "2" && window.sameDocument && `+isLive)
		b.becomes(t, "nothing was said that nobody knew", `said.some((text) => text.startsWith("Keyturn cannot be reached.")) && !said.some((text) => text.includes("as it was"))`)
	})
	t.Run("whose answer is late", func(t *testing.T) {
		t.Parallel()
		b := openLive(t, p)
		ask(t, b, answered(`await new Promise((then) => { window.answer = then; });`))
		b.do(t, click(`#refresh-token`))
		b.becomes(t, "it is answered", `!!window.answer`)
		if renewed := p.signedInAs(t, b).do(t, "POST", "/api/renew-token", nil); renewed.status != http.StatusOK {
			t.Fatalf("%d %s", renewed.status, renewed.body)
		}
		ask(t, b, chromedp.Evaluate[chromedp.Void](`setTimeout(answer, 500)`))
		b.becomes(t, "both renewals show", shownGeneration+` === "3"`)
	})
}

func TestTheCountdownReachesItsEnd(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, func(idp *scripted.Provider) { idp.NoRefreshToken, idp.Lifetime = true, 4*time.Second })
	b := openTab(t, look{})
	b.do(t, chromedp.Navigate(p.base), click(`a[data-provider="oidc"]`), visible(`#token-card`))
	b.becomes(t, "the card needs a sign-in", `document.getElementById("token-card").dataset.state === "needs_sign_in"`)
	b.becomes(t, "nothing is left, and it says so", `document.getElementById("countdown").textContent === "0:00" &&
		document.querySelector("#state-badge .word").textContent === "Needs sign-in" && !!document.getElementById("sign-in-again") &&
		document.querySelector("#token-card .facts dt").textContent === "Expired" && document.title === "⚑ Needs sign-in · Keyturn"`)
	b.becomes(t, "it says how long ago that was", `/^\d+ s ago$/.test(document.querySelector(".countdown small").innerText)`)
	b.becomes(t, "so it does beside the button", `document.getElementById("result").textContent.trim().startsWith("The token has expired")`)
}

// Where the scripts come seconds after the page, the countdown is not late by as much.
func TestTheCountdownIsRightWhereTheScriptsAreSlow(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	b := openTab(t, look{script: `new MutationObserver((_, observer) => {
		if (!document.body) return;
		observer.disconnect();
		for (const until = performance.now() + 3000; performance.now() < until;);
	}).observe(document, { childList: true, subtree: true })`})
	b.signIn(t, p.base)
	b.becomes(t, "it counts", `document.querySelector("#expiry time").title.includes("(") && (([minutes, seconds]) =>
		Math.abs(60 * minutes + 1 * seconds - (Date.parse(document.getElementById("token-card").dataset.expiresAt) - Date.now()) / 1000) < 2)(
		document.getElementById("countdown").textContent.split(":"))`)
}

func TestOpenedScopesStayOpen(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Tokens = func(tokens map[string]any, refreshed bool) {
			scope := "openid"
			for n := range 40 {
				scope += fmt.Sprintf(" scope.%d", n)
			}
			if refreshed {
				scope += " another"
			}
			tokens["scope"] = scope
		}
	})
	b := openTab(t, look{})
	b.atScripted(t, p)
	b.becomes(t, "it is live", isLive)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`document.querySelector(".more-chips summary").focus()`))
	b.do(t, chromedp.KeyEvent("\r"), visible(`.more-chips li`))
	p.signedInAs(t, b).do(t, "POST", "/api/renew-token", nil)
	b.becomes(t, "renewed, with one more scope", shownGeneration+` === "2" && document.querySelector(".more-chips li:last-child").textContent.replace(/\s+/g, " ").trim() === "another new" &&
		document.getElementById("scopes-more").textContent === "26 more"`)
	b.becomes(t, "they are open, and have the focus", `document.querySelector(".more-chips").open && document.activeElement === document.querySelector(".more-chips summary")`)
}

const ringShare = `document.getElementById("countdown").getBoundingClientRect().width / document.querySelector(".ring").getBoundingClientRect().width`

func TestTheCountdownFitsIntoItsRing(t *testing.T) {
	looksOnly(t)
	t.Parallel()
	idp, p := atScripted(t, nil)
	b := openTab(t, look{width: 320, height: 700})
	for _, lifetime := range []time.Duration{2 * time.Minute, time.Hour, 24 * time.Hour, 365 * 24 * time.Hour} {
		idp.Change(func() { idp.Lifetime = lifetime })
		b.do(t, chromedp.Navigate(p.base+"/auth/oidc"), visible(`#token-card`))
		b.becomes(t, fmt.Sprintf("the time left of %v has air around it, and is as large as can be", lifetime), ringShare+` > 0.45 && `+ringShare+` < 0.75`)
	}
}

func TestLargeTextFitsOnAPhone(t *testing.T) {
	looksOnly(t)
	t.Parallel()
	p := startProgram(t)
	for _, width := range []int64{390, 320} {
		b := openTab(t, look{width: width, height: 800})
		b.signIn(t, p.base)
		b.do(t, visible(`#reveal`), click(`#refresh-token`), visible(`.result.good`))
		ask(t, b, chromedp.Evaluate[chromedp.Void](`document.documentElement.style.fontSize = "200%"`))
		if wide := ask(t, b, chromedp.Evaluate[int](`document.documentElement.scrollWidth - innerWidth`)); wide > 0 {
			t.Errorf("at %d the page sticks out by %d pixels", width, wide)
		}
		if wide := ask(t, b, chromedp.Evaluate[float64](`document.getElementById("refresh-token").getBoundingClientRect().right - document.querySelector("#token-card .action").getBoundingClientRect().right`)); wide > 0 {
			t.Errorf("at %d the button sticks out by %v pixels", width, wide)
		}
		if broken := ask(t, b, chromedp.Evaluate[string](`[...document.querySelectorAll("#token-card time")].filter((e) => e.getClientRects().length > 1).map((e) => e.textContent).join()`)); broken != "" {
			t.Errorf("at %d these times are broken: %s", width, broken)
		}
		if share := ask(t, b, chromedp.Evaluate[float64](ringShare)); share < 0.45 || share > 0.75 {
			t.Errorf("at %d the time left takes %.2f of its ring", width, share)
		}
		b.shot(t, fmt.Sprintf("large-text-%d", width))
	}
}

// Some browsers show a page from memory to whoever goes back, also one that is not to be stored.
func TestAPageFromMemoryIsLoadedAnew(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	b := openLive(t, p)
	b.deafen() // its stream is refused
	left, back := `new Event("beforeunload", {cancelable: true})`, `new PageTransitionEvent("pageshow", {persisted: true})`
	ask(t, b, chromedp.Evaluate[chromedp.Void](`dispatchEvent(`+left+`)`))
	p.signedInAs(t, b).do(t, "POST", "/auth/signout", nil)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`dispatchEvent(`+back+`)`))
	eventually(t, "nobody is shown", func() bool {
		shown, err := chromedp.Run(b.Context, chromedp.Evaluate[bool](`!!document.querySelector('a[data-provider="dev"]')`))
		return err == nil && shown // while it is loaded there is none to ask
	})
}
