package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"keyturn/auth/authtest"
	"keyturn/auth/provider/scripted"
)

// viewer looks at pages in one look: nothing sticks out sideways, axe-core finds nothing, no message on the console. With
// KEYTURN_TEST_SCREENSHOTS it writes pictures.
type viewer struct {
	*tab
	name string
	axe  string
}

func (v *viewer) see(t *testing.T, page string) {
	t.Helper()
	v.becomes(t, page+" is at rest", `document.readyState === "complete" && !document.querySelector(".htmx-request, .htmx-swapping")`)
	v.shot(t, page+"-"+v.name)
	if wide := ask(t, v.tab, chromedp.Evaluate[int](`document.documentElement.scrollWidth - document.documentElement.clientWidth`)); wide > 0 {
		t.Errorf("%s: %s sticks out by %d pixels", v.name, page, wide)
	}
	for what, script := range drawn {
		if ask(t, v.tab, chromedp.Evaluate[bool](script)) {
			t.Errorf("%s: %s: %s", v.name, page, what)
		}
	}
	found := ask(t, v.tab, chromedp.Evaluate[string](v.axe+`; axe.run(document, {resultTypes: ["violations"]}).then((result) =>
		JSON.stringify(result.violations.map((v) => v.id + ": " + v.help + " " + v.nodes.map((n) => n.target.join(" ")).slice(0, 3).join(", "))))`,
		chromedp.EvalAwaitPromise))
	var violations []string
	if err := json.Unmarshal([]byte(found), &violations); err != nil {
		t.Fatal(err)
	}
	for _, violation := range violations {
		t.Errorf("%s: %s: axe: %s", v.name, page, violation)
	}
}

// drawn are things about how pages are drawn that axe does not look at.
var drawn = map[string]string{
	"the last row of a table is underlined":       `[...document.querySelectorAll("table")].some((table) => [...table.querySelectorAll("tbody tr > *")].slice(-1).some((cell) => getComputedStyle(cell).borderBottomWidth !== "0px"))`,
	"claims stand elsewhere than their caption":   `[...document.querySelectorAll(".claims :is(th, td)")].some((cell) => getComputedStyle(cell).paddingInlineStart !== "0px")`,
	"ways to sign in are not of one height":       `[...document.querySelectorAll(".ways > .way")].some((way) => way.lastElementChild.offsetHeight < 30 && way.offsetHeight !== 50)`,
	"facts of the grant differ in size":           `new Set([...document.querySelectorAll("#grant dd")].map((fact) => getComputedStyle(fact).fontSize)).size > 1`,
	"times of the grant are broken":               `[...document.querySelectorAll("#grant time")].some((time) => time.getClientRects().length > 1)`,
	"the token card is mostly empty":              `[...document.querySelectorAll("#token-card")].some((card) => card.getBoundingClientRect().bottom > card.querySelector(".action").getBoundingClientRect().bottom + 160)`,
	"a button of a session stands under its icon": `[...document.querySelectorAll(".sessions form")].some((form) => form.offsetWidth && form.getBoundingClientRect().left < form.closest("li").querySelector("p").getBoundingClientRect().left)`,
	"icons of sessions differ in width":           `new Set([...document.querySelectorAll(".sessions .device")].map((icon) => icon.offsetWidth).filter(Boolean)).size > 1`,
	"nothing shows that a frame goes on below":    `[...document.querySelectorAll("pre, .revealed, .frame, #generations-table")].some((frame) => !getComputedStyle(frame).backgroundImage.includes("linear-gradient(to top,"))`,
	"a target is lower than 24 pixels":            `[...document.querySelectorAll("summary")].some((target) => target.offsetHeight && target.offsetHeight < 24)`,
	"tabs touch":                                  `[...document.querySelectorAll(".tabs a + a")].some((tab) => ((a, b) => a.top === b.top && b.left < a.right + 3)(tab.previousElementSibling.getBoundingClientRect(), tab.getBoundingClientRect()))`,
	"the timeline cuts off what is at its edge":   `[...document.querySelectorAll("svg.timeline")].some((picture) => getComputedStyle(picture).overflow !== "visible")`,
}

// settled waits until the parts that come by themselves are there.
func (v *viewer) settled(t *testing.T) {
	t.Helper()
	v.becomes(t, "the inspector and the sessions are there", `!document.querySelector("#inspector .skeleton, #sessions .skeleton, .signature[hx-get]")`)
}

func (v *viewer) toGeneration(t *testing.T, n int) {
	t.Helper()
	v.do(t, click(`#refresh-token`))
	v.becomes(t, fmt.Sprintf("generation %d", n), fmt.Sprintf(`document.getElementById("generation").textContent === "%d"`, n))
}

// looksOnly leaves a test out under the race detector, for which it would only take long.
func looksOnly(t *testing.T) {
	t.Helper()
	if authtest.Race {
		t.Skip("how pages look is no matter of races")
	}
}

// everything says that all is to be tried, however long that takes.
func everything() bool {
	return authtest.Soak(0, 1, 1) == 1 || os.Getenv("KEYTURN_TEST_SCREENSHOTS") != ""
}

// seldom leaves a test out that takes long, unless everything is to be tried.
func seldom(t *testing.T) {
	t.Helper()
	if !everything() {
		t.Skip("KEYTURN_TEST_SOAK is neither short nor long")
	}
}

func TestPages(t *testing.T) {
	looksOnly(t)
	t.Parallel()
	axe, err := os.ReadFile(filepath.Join("..", "..", "static", "vendor", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	looks := map[string]look{"light": {}, "narrow-dark": {width: 320, height: 700, dark: true}}
	if os.Getenv("KEYTURN_TEST_SCREENSHOTS") != "" {
		looks["dark"] = look{dark: true}
		looks["phone"] = look{width: 390, height: 844}
		looks["phone-dark"] = look{width: 390, height: 844, dark: true}
	}
	scenes := map[string]func(*testing.T, *viewer){
		"first minute": firstMinute(t), "inspecting": inspecting(t), "ailing provider": ailing(t), "refused": refused(t),
		"many generations": manyGenerations(t), "foreign text": foreignText(t), "many providers": manyProviders(t), "withheld": withheld(t),
		"parts": parts(t),
	}
	// A browser is slow: without time for all, some scenes are played, each in one look.
	few := !everything()
	if few {
		for _, seldom := range []string{"ailing provider", "many generations", "many providers", "withheld"} {
			delete(scenes, seldom)
		}
	}
	for i, name := range slices.Sorted(maps.Keys(looks)) {
		l := looks[name]
		for j, scene := range slices.Sorted(maps.Keys(scenes)) {
			play := scenes[scene]
			if few && (i+j)%len(looks) != 0 {
				continue
			}
			t.Run(name+"/"+scene, func(t *testing.T) {
				t.Parallel()
				play(t, &viewer{tab: openTab(t, l), name: name, axe: string(axe)})
			})
		}
	}
}

func firstMinute(t *testing.T) func(*testing.T, *viewer) {
	p := startProgram(t)
	return func(t *testing.T, v *viewer) {
		v.do(t, chromedp.Navigate(p.base), visible(`main`))
		v.see(t, "sign-in")
		v.do(t, click(`a[data-provider="dev"]`), visible(`button[value="alice"]`))
		v.see(t, "dev-provider")
		v.do(t, click(`button[value="alice"]`), visible(`#token-card`))
		v.settled(t)
		v.see(t, "first-visit")
		for n := range 3 {
			v.toGeneration(t, n+2)
		}
		v.becomes(t, "the inspector follows", `document.querySelector("#inspector .panel").dataset.generation === "4"`)
		v.settled(t)
		v.see(t, "dashboard")
		v.do(t, chromedp.Navigate(p.base+"/nowhere"), visible(`.status`))
		v.see(t, "not-found")
		v.do(t, chromedp.Navigate(p.base+"/dashboard"), click(`form[action="/auth/signout"] button`), visible(`a[data-provider="dev"]`))
		v.do(t, chromedp.Navigate(p.base+"/?ended=1"), visible(`.note`))
		v.see(t, "session-ended")
		v.silence() // the browser notes the 404
	}
}

func inspecting(t *testing.T) func(*testing.T, *viewer) {
	p := startProgram(t)
	return func(t *testing.T, v *viewer) {
		v.signIn(t, p.base)
		v.settled(t)
		v.toGeneration(t, 2)
		v.do(t, click(`#reveal`), visible(`#revealed`))
		v.do(t, click(`#introspect`), visible(`.claims caption`))
		v.becomes(t, "the provider has answered", `document.querySelector("#inspector").textContent.includes("The provider says")`)
		v.do(t, click(`#call-userinfo`), visible(`#try-it-answer pre`))
		v.see(t, "revealed")
		v.do(t, click(`#inspect-refresh`))
		v.becomes(t, "the refresh token is looked into", `document.querySelector("#inspector .panel").dataset.kind === "refresh"`)
		v.see(t, "opaque")
		v.do(t, click(`#inspect-id`))
		v.becomes(t, "the id token is looked into", `document.querySelector("#inspector .panel").dataset.kind === "id"`)
		v.settled(t)
		v.do(t, click(`#timeline summary`), visible(`#generations-table table`))
		v.see(t, "id-token")
	}
}

// ailing is a provider with a problem of its own.
func ailing(t *testing.T) func(*testing.T, *viewer) {
	_, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Lifetime = 10 * time.Second
		idp.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		idp.UserInfo = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token", error_description="The access token is not what it was"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	return func(t *testing.T, v *viewer) {
		v.atScripted(t, p)
		v.settled(t)
		v.do(t, click(`#refresh-token`), visible(`.result.bad`))
		v.do(t, click(`#call-userinfo`), visible(`#try-it-answer .http`))
		v.see(t, "failed")
		v.becomes(t, "it has expired", `document.getElementById("token-card").dataset.state === "expired"`)
		v.see(t, "expired")
	}
}

func refused(t *testing.T) func(*testing.T, *viewer) {
	_, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Lifetime = 8 * time.Second
		idp.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
			w.WriteHeader(http.StatusBadRequest)
			writeJSON(w, map[string]any{"error": "invalid_grant", "error_description": "the user took their consent back"})
			return true
		}
	}, "--renew-mode=on-demand")
	return func(t *testing.T, v *viewer) {
		v.atScripted(t, p)
		v.settled(t)
		v.do(t, click(`#refresh-token`), visible(`#sign-in-again`))
		v.see(t, "refused")
		v.becomes(t, "its words are past, as while a click runs", `document.getElementById("result").classList.add("past") ?? true`)
		v.see(t, "past")
		v.becomes(t, "a sign-in is needed", `document.getElementById("token-card").dataset.state === "needs_sign_in"`)
		v.see(t, "needs-sign-in")
	}
}

func manyGenerations(t *testing.T) func(*testing.T, *viewer) {
	calls := 0
	_, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
			if calls++; calls%17 == 0 {
				w.WriteHeader(http.StatusInternalServerError)
				return true
			}
			return false
		}
	})
	return func(t *testing.T, v *viewer) {
		v.atScripted(t, p)
		program := p.signedInAs(t, v.tab)
		for range 210 {
			program.do(t, "POST", "/api/renew-token", nil)
		}
		v.do(t, chromedp.Reload(), visible(`#token-card`))
		v.settled(t)
		if bars := ask(t, v.tab, chromedp.Evaluate[int](`document.querySelectorAll("#timeline .bar").length`)); bars != 41 {
			t.Errorf("the timeline has %d bars", bars)
		}
		v.see(t, "many-generations")
		ask(t, v.tab, chromedp.Evaluate[chromedp.Void](`document.getElementById("generations-joined").focus()`))
		v.becomes(t, "it says how many are drawn together", `/^Generations \d+ to \d+, drawn together, in use for /.test(document.getElementById("timeline-detail").textContent)`)
		v.see(t, "generations-joined")
		v.do(t, click(`#timeline summary`))
		v.becomes(t, "the table has each", `document.querySelectorAll("#generations-table tbody tr").length > 150`)
		v.do(t, click(`#timeline summary`))
		v.do(t, click(`#history-more a`))
		v.becomes(t, "older ones came", `document.querySelectorAll("#history tbody tr").length === 40`)
		v.do(t, click(`#history-more a`))
		v.becomes(t, "and again", `document.querySelectorAll("#history tbody tr").length === 60`)
		v.see(t, "long-history")
	}
}

// foreign is what a provider may say of a person.
const foreign = "<script>alert(1)</script>\"'&\u202egnp.exe 😀👩\u200d👩\u200d👧 عربي"

func foreignText(t *testing.T) func(*testing.T, *viewer) {
	long := strings.Repeat("verylongwordwithoutaspace", 400)
	_, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Claims = func(claims map[string]any, _ bool) {
			claims["name"], claims["email"] = foreign+long, long+"@example.com"
			claims["picture"] = "https://pictures.example/alice.png"
			claims[foreign] = foreign + long
			claims["groups"] = []string{long, foreign}
		}
		idp.Tokens = func(tokens map[string]any, _ bool) { tokens["scope"] = "openid " + long[:2000] + " " + `<b>x</b>` }
		idp.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
			w.WriteHeader(http.StatusBadRequest)
			writeJSON(w, map[string]any{"error": "odd_" + foreign, "error_description": foreign + long})
			return true
		}
		idp.UserInfo = func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, map[string]any{"sub": "alice", "name": foreign + long, "picture": "https://pictures.example/alice.png"})
		}
	})
	return func(t *testing.T, v *viewer) {
		v.atScripted(t, p)
		v.settled(t)
		v.do(t, click(`#inspect-id`))
		v.becomes(t, "the id token is looked into", `document.querySelector("#inspector .panel").dataset.kind === "id"`)
		v.do(t, click(`#call-userinfo`), visible(`#try-it-answer pre`))
		v.do(t, click(`#refresh-token`), visible(`.result.bad`))
		v.see(t, "foreign-text")
		for what, script := range map[string]string{
			"no script was made of text":   `[...document.scripts].every((s) => s.src.startsWith(location.origin))`,
			"no element was made of text":  `!document.querySelector(".chips b, .names script")`,
			"only the first letter stands": `[...document.querySelector(".who .initial").textContent].length === 1`,
			"no picture is loaded":         `!document.querySelector("img") && performance.getEntriesByType("resource").every((e) => e.name.startsWith(location.origin))`,
		} {
			v.becomes(t, what, script)
		}
		begun := p.signedInAs(t, v.tab).staying().do(t, "GET", "/auth/oidc", nil)
		state := parsedURL(t, begun.header.Get("Location")).Query().Get("state")
		v.do(t, chromedp.Navigate(p.base+"/auth/oidc/callback?"+url.Values{
			"state": {state}, "error": {"odd"}, "error_description": {foreign + long},
		}.Encode()), visible(`.problem`))
		v.see(t, "sign-in-failed")
		v.silence() // the browser notes the status
	}
}

func manyProviders(t *testing.T) func(*testing.T, *viewer) {
	file := filepath.Join(t.TempDir(), "keyturn.yaml")
	text := "providers:\n"
	for _, name := range []string{"google", "github", "gitlab", "discord", "spotify"} {
		text += fmt.Sprintf("  - {name: %s, type: %s, client_id: x, client_secret: y}\n", name, name)
	}
	text += "  - {name: work, type: oidc, label: Example Corp with a rather long name for a button, issuer: 'https://id.example.com/', client_id: x, client_secret: y}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProgram(t, "--config="+file)
	return func(t *testing.T, v *viewer) {
		v.do(t, chromedp.Navigate(p.base), visible(`a[data-provider="work"]`))
		v.see(t, "many-providers")
	}
}

func withheld(t *testing.T) func(*testing.T, *viewer) {
	p := startProgram(t, "--expose-tokens=never")
	return func(t *testing.T, v *viewer) {
		v.signIn(t, p.base)
		v.settled(t)
		v.see(t, "withheld")
	}
}

// atScripted signs in at a scripted provider, which asks nothing.
func (b *tab) atScripted(t testing.TB, p *program) {
	t.Helper()
	b.do(t, chromedp.Navigate(p.base), click(`a[data-provider="oidc"]`), visible(`#token-card`))
}
