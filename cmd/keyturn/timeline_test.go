package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"keyturn/auth/provider/scripted"
)

// numbers are the words in the timeline that are shown, as the rectangles that they take.
const numbers = `[...document.querySelectorAll(".timeline text")].filter((text) => getComputedStyle(text).display !== "none")
	.map((text) => text.getBoundingClientRect())`

func TestTheTimelineShowsNumbersWhereTheyHaveRoom(t *testing.T) {
	looksOnly(t)
	seldom(t)
	t.Parallel()
	_, p := atScripted(t, func(idp *scripted.Provider) { idp.Class, idp.Lifetime = scripted.Static, time.Minute })
	b := openTab(t, look{width: 360, height: 700})
	b.atScripted(t, p)
	b.becomes(t, "it is live", isLive)
	program := p.signedInAs(t, b)
	for range 12 {
		program.do(t, "POST", "/api/renew-token", nil)
	}
	b.becomes(t, "13 bars", `document.querySelectorAll(".timeline .bar").length === 13`)
	for _, size := range []string{"100%", "200%"} {
		ask(t, b, chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`document.documentElement.style.fontSize = %q`, size)))
		fewer := 0
		for _, width := range []int64{320, 390, 768, 1280} {
			b.do(t, chromedp.EmulateViewport(width, 900))
			b.becomes(t, fmt.Sprintf("%d wide", width), fmt.Sprintf(`innerWidth === %d`, width))
			b.becomes(t, fmt.Sprintf("no two run into each other, %s and %d wide", size, width), numbers+`.every((a, i, all) =>
				all.slice(0, i).every((b) => a.left >= b.right || b.left >= a.right || a.top >= b.bottom || b.top >= a.bottom))`)
			n := ask(t, b, chromedp.Evaluate[int](numbers+`.length`))
			if n < fewer || n < 2 {
				t.Errorf("%s and %d wide: %d words, and %d where it is narrower", size, width, n, fewer)
			}
			fewer = n
		}
		if size == "100%" && fewer != 14 {
			t.Errorf("%d words where all have room", fewer)
		}
	}
}

// A page may be left open when its token has expired.
func TestTheTimelineGoesOnPastItsEnd(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	b := openLive(t, p)
	b.do(t, click(`#refresh-token`))
	b.becomes(t, "two bars", `document.querySelectorAll(".timeline .bar").length === 2`)
	if drawn := ask(t, b, chromedp.Evaluate[string](`(() => {
		const picture = document.querySelector("svg.timeline"), { begin, end, from } = picture.dataset;
		const first = Date.parse(begin), lasts = Date.parse(end) - first;
		const of = (part, name) => parseFloat(picture.querySelector(part).getAttribute(name)), tenths = (x) => Math.round(10 * x) / 10;
		const look = () => [of(".now", "x"), of(".valid", "width"), of(".valid + .used", "width")].map(tenths).join();
		const left = 100 - parseFloat(from), told = [];
		for (const lives of [2, 4]) {
			document.dispatchEvent(new CustomEvent("moment", { detail: first + lives * lasts }));
			if (look() !== [100, left / lives, left / lives].map(tenths).join()) told.push(lives + " lives: " + look());
			const rest = of(".rest", "x") + of(".rest", "width");
			if (rest > parseFloat(from) + left / lives + 0.1) told.push("the rest of the first ends at " + rest);
		}
		const shown = document.querySelector("#timeline .axis .end time").dateTime;
		if (Math.abs(Date.parse(shown) - first - 4 * lasts) > 1000) told.push("the axis ends at " + shown);
		return told.join("; ");
	})()`)); drawn != "" {
		t.Error(drawn)
	}
	b.becomes(t, "its end is written in the reader's time zone", `!document.querySelector("#timeline .axis .end").textContent.includes("UTC")`)
}

// For a moment after a swap, htmx gives elements the attributes of those before them with the same id.
func TestTheTimelineMovesOnlyTheBarInUse(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	b := openLive(t, p)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`window.moved = []; new MutationObserver((changes) => {
		if (!changes.some((change) => [...change.addedNodes].some((node) => node.id === "timeline-picture"))) return;
		const widths = () => [...document.querySelectorAll(".timeline .used")].slice(0, -1).map((used) => used.getAttribute("width")).join();
		const drawn = widths();
		document.dispatchEvent(new CustomEvent("htmx:after:swap", {detail: {ctx: {request: {}}}}));
		moved.push(drawn === widths());
	}).observe(document.getElementById("timeline"), {childList: true, subtree: true})`))
	b.do(t, click(`#refresh-token`))
	b.becomes(t, "the picture came, and its first bar is as it was drawn", `moved.length > 0 && moved.every((as) => as)`)
}

// Only who opens the table loads it; it then keeps up with renewals, and stays where it was scrolled to.
func TestTheTimelineIsATableOnDemand(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, func(idp *scripted.Provider) { idp.Class = scripted.Static })
	b := openTab(t, look{})
	b.atScripted(t, p)
	b.becomes(t, "it is live", isLive)
	program := p.signedInAs(t, b)
	renew := func(to int) {
		for n := 1; n < to; n++ {
			program.do(t, "POST", "/api/renew-token", nil)
		}
		b.becomes(t, "the picture has them", fmt.Sprintf(`document.querySelectorAll(".timeline .bar").length === %d`, to))
	}
	asked := func() int {
		return ask(t, b, chromedp.Evaluate[int](`performance.getEntriesByType("resource").filter((e) => e.name.endsWith("/dashboard/timeline")).length`))
	}
	renew(20)
	if n := asked(); n != 0 {
		t.Errorf("nobody looks at the table, and it was loaded %d times", n)
	}
	b.do(t, click(`#timeline summary`))
	const rows = `document.querySelectorAll("#generations-table tbody tr").length`
	b.becomes(t, "each generation has a row", rows+` === 20`)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`document.getElementById("generations-table").focus(); document.getElementById("generations-table").scrollTop = 40`))
	program.do(t, "POST", "/api/renew-token", nil)
	b.becomes(t, "a renewal adds one", rows+` === 21 && document.activeElement.id === "generations-table" && document.activeElement.scrollTop === 40`)
	b.do(t, click(`#timeline summary`))
	before := asked()
	program.do(t, "POST", "/api/renew-token", nil)
	b.becomes(t, "the picture has one more", `document.querySelectorAll(".timeline .bar").length === 22`)
	b.do(t, click(`#timeline summary`))
	b.becomes(t, "so has the table when it is opened again", rows+` === 22`)
	if n := asked() - before; n != 1 {
		t.Errorf("closed and opened again, it was loaded %d times", n)
	}
}

// Browsers leave backgrounds out on paper unless a page says that it means them.
func TestTheTimelineKeepsItsKeyOnPaper(t *testing.T) {
	looksOnly(t)
	t.Parallel()
	_, p := atScripted(t, nil)
	b := openTab(t, look{})
	b.atScripted(t, p)
	protocol(t, b.Context, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"})
	b.becomes(t, "colours are printed", `[...document.querySelectorAll(".legend li")].every((word) => getComputedStyle(word, "::before").printColorAdjust === "exact")`)
}

// Browsers tell of a system that is set to more contrast.
func TestLinesAreStrongerWhereMoreContrastIsAskedFor(t *testing.T) {
	looksOnly(t)
	t.Parallel()
	p := startProgram(t)
	b := openTab(t, look{})
	b.do(t, chromedp.Navigate(p.base), visible(`.card`))
	const edge = `getComputedStyle(document.querySelector(".card")).borderTopColor`
	before := ask(t, b, chromedp.Evaluate[string](edge))
	protocol(t, b.Context, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "light"}, {Name: "prefers-contrast", Value: "more"}},
	})
	b.becomes(t, "the edge of a card differs", fmt.Sprintf(edge+` !== %q`, before))
}
