package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"keyturn/auth/provider/scripted"
)

// numbers are the numbers of the timeline's bars: how many pixels each has, how many it takes, and whether it is shown.
const numbers = `[...document.querySelectorAll(".timeline .bar")].map((bar) => {
	const text = bar.querySelector("text");
	return {has: bar.querySelector(".used").getBoundingClientRect().width, takes: text ? text.getComputedTextLength() + 10 : Infinity,
		shown: text?.getAttribute("visibility") === "visible"};
})`

func TestTheTimelineShowsNumbersWhereTheyHaveRoom(t *testing.T) {
	looksOnly(t)
	seldom(t)
	t.Parallel()
	_, p := atScripted(t, func(idp *scripted.Provider) { idp.Class, idp.Lifetime = scripted.Static, time.Minute })
	b := openTab(t, look{width: 360, height: 700})
	b.atScripted(t, p)
	b.becomes(t, "it is live", isLive)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`window.odd = []; window.inARow = 0; (function look() { // a frame may be late
		const here = `+numbers+`.filter((n) => n.shown !== (n.has >= n.takes));
		inARow = here.length && inARow + 1;
		if (inARow >= 3) odd.push(innerWidth, ...here);
		setTimeout(look, 200);
	})()`))
	program := p.signedInAs(t, b)
	for range 12 {
		program.do(t, "POST", "/api/renew-token", nil)
	}
	b.becomes(t, "13 bars", `document.querySelectorAll(".timeline .bar").length === 13`)
	b.becomes(t, "the last has its number when it has grown", numbers+`.at(-1).shown`)
	for _, width := range []int64{1280, 320} {
		b.do(t, chromedp.EmulateViewport(width, 900))
		b.becomes(t, fmt.Sprintf("%d wide", width), fmt.Sprintf(`innerWidth === %d`, width))
		b.becomes(t, "looked at for long enough", `(window.looked = window.looked ?? Date.now()) < Date.now() - 1000 && delete window.looked`)
	}
	if odd := ask(t, b, chromedp.Evaluate[string](`JSON.stringify(odd)`)); odd != "[]" {
		t.Errorf("numbers are shown, or not, against their room: %s", odd)
	}
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
