package main

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/chromedp/chromedp"

	"keyturn/auth/provider/scripted"
)

const inspectedKind = `document.querySelector("#inspector-body .panel")?.dataset.kind`

// Who chooses a token while a renewal has the inspector come anew has chosen it: Copy and Reveal are of that one.
func TestTheInspectorStaysWithTheTokenThatIsChosen(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	b := openTab(t, look{script: `const near = window.fetch;
		window.fetch = async (...call) => { const answer = await near(...call); await new Promise((go) => setTimeout(go, 400)); return answer; };`})
	b.signIn(t, p.base)
	b.becomes(t, "it is live, with an inspector", isLive+` && !!document.getElementById("reveal")`)
	for n := range 3 {
		ask(t, b, chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`window.seen = []; document.getElementById("inspect-access").click();
			setTimeout(() => document.getElementById("refresh-token").click(), 1200);
			setTimeout(() => document.getElementById("inspect-id").click(), %d)`, 1350+100*n)))
		b.becomes(t, "the renewal shows", fmt.Sprintf(`%s === "%d"`, shownGeneration, n+2))
		b.becomes(t, "the chosen token, of the new generation", fmt.Sprintf(`%s === "id" && document.querySelector("#inspector-body .panel").dataset.generation === "%d"`, inspectedKind, n+2))
		b.becomes(t, "a second passes", `(window.since ??= Date.now()) && Date.now() - window.since > 1000`)
		if kind := ask(t, b, chromedp.Evaluate[string](inspectedKind+`+ String(delete window.since).slice(4)`)); kind != "id" {
			t.Errorf("the inspector shows the %s token", kind)
		}
	}
}

// Hide, which a revealed token clicks by itself in time, takes nothing from who chooses another token.
func TestHidingATokenLeavesTheOneThatIsChosen(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	b := openTab(t, look{script: `const near = window.fetch;
		window.fetch = async (...call) => {
			const answer = await near(...call);
			await new Promise((go) => setTimeout(go, String(call[0]).includes(window.late) ? 1000 : 0));
			return answer;
		};`})
	b.signIn(t, p.base)
	for first, then := range map[string]string{"reveal": "inspect-id", "inspect-id": "reveal"} {
		b.do(t, click(`#inspect-access`))
		b.becomes(t, "the access token can be revealed", inspectedKind+` === "access" && !document.getElementById("revealed") && !!document.getElementById("reveal")`)
		b.do(t, click(`#reveal`), visible(`#revealed`))
		b.becomes(t, "htmx knows it", fmt.Sprintf(takenUp, `document.getElementById("reveal")`))
		late := map[string]string{"reveal": "/access", "inspect-id": "/id"}[first]
		ask(t, b, chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`window.late = %q; document.getElementById(%q).click();
			setTimeout(() => document.getElementById(%q).click(), 150)`, late, first, then)))
		b.becomes(t, "two seconds pass", `(window.since ??= Date.now()) && Date.now() - window.since > 2000`)
		if kind := ask(t, b, chromedp.Evaluate[string](inspectedKind+`+ String(delete window.since).slice(4)`)); kind != "id" {
			t.Errorf("%s, then %s: the inspector shows the %s token", first, then, kind)
		}
		ask(t, b, chromedp.Evaluate[chromedp.Void](`window.late = "nothing"`))
	}
}

// A renewal that comes while the inspector is on its way, with nobody to hear it, is not lost.
func TestTheInspectorCatchesUp(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, func(idp *scripted.Provider) { idp.Class = scripted.Static })
	b := openTab(t, look{})
	b.atScripted(t, p)
	b.becomes(t, "it is live, with an inspector", isLive+` && !!document.getElementById("reveal")`)
	elsewhere := p.signedInAs(t, b)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`document.body.addEventListener("renewed", (event) => event.stopImmediatePropagation(), { capture: true, once: true })`))
	if a := elsewhere.do(t, "POST", "/api/renew-token", nil); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	const generation = `document.querySelector("#inspector-body .panel").dataset.generation`
	b.becomes(t, "the card shows it, and the inspector has not heard", shownGeneration+` === "2" && `+generation+` === "1"`)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`document.dispatchEvent(new CustomEvent("htmx:after:swap", {
		detail: { ctx: { target: document.getElementById("inspector-body"), request: { method: "GET" } } } }))`))
	b.becomes(t, "the inspector is up to date", generation+` === "2"`)
}

// What is selected in the inspector stays so when it shows the token that a renewal brought, and what the provider said of the one before
// says that it is of that.
func TestTheInspectorKeepsWhatIsUsedInIt(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	b := openLive(t, p)
	b.do(t, click(`#introspect`), visible(`#introspection-answer table`))
	const selected = `getSelection().toString()`
	ask(t, b, chromedp.Evaluate[chromedp.Void](`getSelection().selectAllChildren([...document.querySelectorAll("#inspector .claims .value")].findLast((value) => value.textContent === "keyturn"))`))
	b.becomes(t, "something is selected", selected+` === "keyturn"`)
	p.signedInAs(t, b).do(t, "POST", "/api/renew-token", nil)
	b.becomes(t, "the inspector has the new token, its signature is checked", `document.querySelector("#inspector .panel").dataset.generation === "2" &&
		document.querySelector("#inspector .sort").innerText.includes("generation 2") && !!document.querySelector("#inspector .signature.good")`)
	b.becomes(t, "it is selected still, and the answer is there", selected+` === "keyturn" && /asked [\d:]+, of generation 1 *$/m.test(document.getElementById("introspection-answer").innerText)`)
	b.becomes(t, "all times are the reader's", `[...document.querySelectorAll("#inspector time")].every((time) => !time.textContent.includes("UTC"))`)
}
