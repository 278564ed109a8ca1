package main

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
)

// withRenewals is a tab at the dashboard after many renewals, whose provider's tokens live long, and a program with its cookies.
func withRenewals(t *testing.T, l look, times int) (*tab, *person) {
	t.Helper()
	_, p := atScripted(t, func(idp *scripted.Provider) { idp.Class, idp.Lifetime = scripted.Static, 24*time.Hour })
	b := openTab(t, l)
	b.atScripted(t, p)
	program := p.signedInAs(t, b)
	for range times {
		program.do(t, "POST", "/api/renew-token", nil)
	}
	b.do(t, chromedp.Reload(), visible(`#history tbody tr`))
	return b, program
}

// The columns go on through all rows, whatever stands in them, and nothing runs into what is beside it.
func TestTheHistoryIsOneTable(t *testing.T) {
	looksOnly(t)
	t.Parallel()
	for name, l := range map[string]look{"with JavaScript": {}, "without": {noScript: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := withRenewals(t, l, 41)
			for _, rows := range []int{40, 41} {
				b.do(t, click(`#show-older`))
				eventually(t, fmt.Sprintf("%d rows", rows), func() bool {
					return ask(t, b, chromedp.Evaluate[int](`document.querySelectorAll("#history tbody tr").length`)) == rows
				})
			}
			if n := ask(t, b, chromedp.Evaluate[int](`document.querySelectorAll("#history :is(table, [role=region])").length`)); n != 2 {
				t.Errorf("%d tables and regions", n)
			}
			for _, width := range []int64{1280, 700, 660} {
				b.do(t, chromedp.EmulateViewport(width, 900))
				if over := ask(t, b, chromedp.Evaluate[[]string](`[...document.querySelectorAll("#history :is(th, td)")].filter((cell) => {
					const inside = document.createRange();
					inside.selectNodeContents(cell);
					return inside.getBoundingClientRect().right > cell.getBoundingClientRect().right - 4;
				}).map((cell) => cell.textContent)`)); len(over) > 0 {
					t.Errorf("at %d wide these stick out: %q", width, over)
				}
			}
			b.do(t, chromedp.EmulateViewport(1280, 900))
			if wide := ask(t, b, chromedp.Evaluate[int](`document.getElementById("renewals").scrollWidth - document.getElementById("renewals").clientWidth`)); wide > 0 {
				t.Errorf("on a desktop the table is %d pixels wider than its place", wide)
			}
		})
	}
}

// Who reads the history, scrolled aside, reads on when a renewal made elsewhere adds a row.
func TestARenewalElsewhereLeavesTheHistoryWhereItIs(t *testing.T) {
	t.Parallel()
	b, program := withRenewals(t, look{width: 660, height: 900}, 1)
	b.becomes(t, "it is live", isLive)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`document.getElementById("renewals").focus(); document.getElementById("renewals").scrollLeft = 30`))
	for n := range 3 {
		program.do(t, "POST", "/api/renew-token", nil)
		b.becomes(t, "a row more", fmt.Sprintf(`document.querySelectorAll("#history tbody tr").length === %d`, n+2))
		b.becomes(t, "the focus and the place are kept", `document.activeElement.id === "renewals" && document.activeElement.scrollLeft === 30`)
	}
}

// What is kept no more goes from an open page, too.
func TestOlderRenewalsGoWhenTheyAreKeptNoMore(t *testing.T) {
	t.Parallel()
	b, program := withRenewals(t, look{}, 30)
	b.do(t, click(`#show-older`))
	b.becomes(t, "all are there", shownGenerations+`.at(-1) === 2`)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`document.getElementById("live").remove()`)) // each renewal on its own would take long
	for range auth.KeptRenewals {
		program.do(t, "POST", "/api/renew-token", nil)
	}
	b.do(t, click(`#refresh-token`))
	b.becomes(t, "those that are kept, each once", fmt.Sprintf(`((shown) => shown.length === %d && shown.every((generation, i) => generation === %d - i))(%s)`,
		auth.KeptRenewals, 32+auth.KeptRenewals, shownGenerations))
}

// What was odd about a renewal that succeeded is said in a sentence, beside the button and of its row.
func TestAWarningIsSaidInWords(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	b := openTab(t, look{})
	b.atScripted(t, p)
	idp.Change(func() { idp.IDToken = func(signed string) string { return signed + "x" } })
	b.do(t, click(`#refresh-token`), visible(`.result.good`))
	const words = "its id token did not stand up to the checks, so the old one stays"
	if said := b.text(t, "#result"); !regexp.MustCompile(`^Rotated in \S+ m?s: generation 2, expires [^;]+; ` + words + `\.$`).MatchString(said) {
		t.Errorf("beside the button it says %q", said)
	}
	b.becomes(t, "it does not look like a success", `((said) => getComputedStyle(said).color !== getComputedStyle(said.parentElement).color)(document.querySelector("#result .but"))`)
	b.becomes(t, "so does the history, where the code begins a line of its own", fmt.Sprintf(`(([code, outcome]) => code.title === %[1]q && code.nextElementSibling.innerText === %[1]q && code.textContent === "id_token_rejected" &&
		code.getBoundingClientRect().top > outcome.getBoundingClientRect().top + 9 && code.getBoundingClientRect().left === outcome.getBoundingClientRect().left
	)([".code", ".outcome"].map((part) => document.querySelector("#history-recent " + part)))`, words))
}

const shownGenerations = `[...document.querySelectorAll("#history tbody td:nth-child(4)")].map((cell) => Number(cell.textContent))`

func TestWithoutJavaScriptTheHistoryLeavesNothingOut(t *testing.T) {
	t.Parallel()
	b, _ := withRenewals(t, look{noScript: true}, 50)
	for _, oldest := range []int{32, 12, 2} {
		shown := ask(t, b, chromedp.Evaluate[[]int](shownGenerations))
		for i, generation := range shown {
			if generation != 51-i {
				t.Fatalf("row %d is generation %d of %v", i, generation, shown)
			}
		}
		if last := shown[len(shown)-1]; last != oldest {
			t.Fatalf("it ends with generation %d, want %d", last, oldest)
		}
		if oldest > 2 {
			b.do(t, click(`#show-older`), visible(fmt.Sprintf(`#history tbody tr:nth-child(%d)`, min(51-oldest+1+20, 50))))
			if y := ask(t, b, chromedp.Evaluate[float64](fmt.Sprintf(`document.querySelector("#history tbody tr:nth-child(%d)").getBoundingClientRect().top`, 51-oldest+1))); y < -1 || y > 900 {
				t.Errorf("what one has read last is at %v", y)
			}
		}
	}
	if ask(t, b, chromedp.Evaluate[bool](`!!document.getElementById("show-older")`)) {
		t.Error("there seem to be more")
	}
}

var (
	sinceField  = regexp.MustCompile(`name="since" value="(\d*)"`)
	sinceStream = regexp.MustCompile(`/events\?since=(\d*)&`)
	renewalRow  = regexp.MustCompile(`<tr id="renewal-(\d+)"`)
)

// An open page gets its rows anew with each renewal. None that it has shown is missing then, nor what it has loaded of older ones.
func TestAnOpenPageKeepsItsHistory(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, func(idp *scripted.Provider) { idp.Class = scripted.Static })
	alice := p.person()
	renew := func(times int) {
		for range times {
			if a := alice.do(t, "POST", "/api/renew-token", nil); a.status != http.StatusOK {
				t.Fatalf("%d %s", a.status, a.body)
			}
		}
	}
	// whoClicks is what a page whose oldest row is since gets for a click, and the since that it has from then on.
	whoClicks := func(since string) (fragment, next string) {
		a := alice.do(t, "POST", "/api/trigger-renew-token?query=update-token-data", url.Values{"since": {since}}, "HX-Request", "true")
		found := sinceField.FindStringSubmatch(a.body)
		if found == nil {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return a.body, found[1]
	}
	watched := func(page string) string {
		return sinceStream.FindStringSubmatch(strings.ReplaceAll(page, "&amp;", "&"))[1]
	}
	expect := func(fragment string, rows int, anew bool) {
		t.Helper()
		if n := len(renewalRow.FindAllString(fragment, -1)); n != rows || strings.Contains(fragment, `id="history-older"`) != anew {
			t.Errorf("%d rows, want %d; the older ones are taken away: %v", n, rows, !anew)
		}
	}
	first := watched(alice.do(t, "GET", "/auth/oidc", nil).body)
	clicked := first
	for n := range 2 {
		renew(12)
		var fragment string
		fragment, clicked = whoClicks(clicked)
		expect(fragment, 13*(n+1), false)
	}
	later := watched(alice.do(t, "GET", "/dashboard", nil).body) // 20 of 26
	renew(70)
	for _, page := range []struct {
		since string
		rows  int
	}{{first, 97}, {clicked, 98}, {later, 20 + 73}} {
		fragment, _ := whoClicks(page.since)
		expect(fragment, page.rows, false)
	}
	renew(auth.KeptRenewals - 80)
	fragment, _ := whoClicks(later)
	expect(fragment, auth.KeptRenewals, true)
}
