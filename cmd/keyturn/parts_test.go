package main

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// parts are the dashboard's parts as pages of their own, with scripts: what is asked for there stays in its place, and is of the person whom
// the page shows.
func parts(*testing.T) func(*testing.T, *viewer) {
	return func(t *testing.T, v *viewer) {
		p := startProgram(t, "--limit-reveal=3/h")
		p.person().signIn(t, "alice")
		v.signIn(t, p.base)
		v.do(t, chromedp.Navigate(p.base+"/dashboard/tokens/access"), visible(`.signature.good`))
		v.see(t, "part-inspector")
		v.do(t, click(`#inspect-id`))
		const whole = ` && document.querySelectorAll(".tabs").length === 1 && !document.querySelector(".tabs .panel")`
		v.becomes(t, "the id token takes the other's place", inspectedKind+` === "id" && !!document.querySelector(".signature.good")`+whole)
		v.do(t, click(`#reveal`), visible(`#revealed`))
		v.see(t, "part-revealed")
		v.do(t, click(`#reveal`))
		v.becomes(t, "it is hidden again", `!document.getElementById("revealed")`+whole)

		v.do(t, chromedp.Navigate(p.base+"/dashboard"), visible(`#call-userinfo`))
		ask(t, v.tab, chromedp.Evaluate[chromedp.Void](`document.querySelector('[action="/dashboard/userinfo"]').submit()`)) // as without htmx
		v.do(t, visible(`#part pre`))
		v.see(t, "part-try-it")
		ask(t, v.tab, chromedp.Evaluate[chromedp.Void](`document.querySelector("#part pre").remove()`))
		v.do(t, click(`#call-userinfo`), visible(`#try-it-answer pre`))

		v.do(t, chromedp.Navigate(p.base+"/dashboard/sessions"), visible(`.sessions`))
		v.see(t, "part-sessions")
		v.do(t, click(`.sessions form button`))
		v.becomes(t, "one session is left, and the focus is not lost", `document.querySelectorAll(".sessions li").length === 1 &&
			document.getElementById("announce").textContent.startsWith("Signed out.") && document.activeElement.id === "part-title"`)

		v.do(t, chromedp.Navigate(p.base+"/dashboard/tokens/access"), click(`#reveal`), visible(`#notice .problem`))
		if said := v.text(t, "#notice"); !strings.Contains(said, "too often") {
			t.Errorf("it says %q", said)
		}
		v.see(t, "part-refused")
		v.deafen() // the browser notes the status, and the next one
		v.another(t).do(t, chromedp.Navigate(p.base+"/auth/dev?prompt=login"), click(`button[value="bob"]`), visible(`#token-card`))
		v.do(t, click(`#inspect-id`), visible(`#token-card`))
		if name := v.text(t, ".who .name"); !strings.HasPrefix(name, "Bob") {
			t.Errorf("the tokens are Bob's, and the page is %s's", name)
		}
	}
}
