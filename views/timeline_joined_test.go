package views

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// long is a timeline of so many generations by triggers in turn, and so many failed tries of the last of them.
func long(bars, marks int) Timeline {
	t := generations(bars, time.Minute)
	for i := range t.Bars {
		t.Bars[i].Trigger = triggers[i%len(triggers)]
	}
	for i := range marks {
		at := t.Bars[bars-1].IssuedAt.Add(time.Duration(i) * time.Second / 10)
		t.Marks = append(t.Marks, Mark{At: at, Trigger: "background", Code: "server_error", Means: "the provider's server has a problem of its own"})
	}
	return t
}

func TestOlderGenerationsAreDrawnTogether(t *testing.T) {
	t.Parallel()
	all := generations(200, time.Minute)
	all.Bars[0].Trigger = "sign-in"
	all.Bars[49].ExpiresAt = all.Bars[49].IssuedAt.Add(20 * time.Second)
	page := render(t, timeline(all))
	for _, text := range []string{
		`aria-label="200 generations, no failed try"`, ">sign-in</li>", ">1–160</text>", `id="generation-161"`, `id="generation-200"`,
		"<title>Generations 1 to 160, drawn together, in use for 2 h 40 min, expired for 40 s of that</title>",
	} {
		if !strings.Contains(page, text) {
			t.Errorf("no %s", text)
		}
	}
	d := all.draw()
	if len(d.bars) != 41 || strings.Count(page, `class="bar`) != 41 {
		t.Fatalf("%d bars, drawn are %d", len(d.bars), strings.Count(page, `class="bar`))
	}
	block, next := d.bars[0], d.bars[1]
	if block.x != 0 || block.used != next.x {
		t.Errorf("they are drawn from %v to %v, and the next from %v", block.x, block.used, next.x)
	}
	var runs []int
	for _, p := range block.joined.paths {
		runs = append(runs, strings.Count(p.d, "M"))
	}
	if !slices.Equal(runs, []int{1, 2}) {
		t.Errorf("the sign-in, and the others with one gap, are %v runs", runs)
	}
	var x, to, from float64
	if _, err := fmt.Sscanf(block.joined.paths[1].d, "M%f 0H%fV28H%fzM%f", &x, &to, &x, &from); err != nil || from-to < block.used/160/2 {
		t.Errorf("the gap is from %v to %v, %v", to, from, err)
	}
	if n := len(generations(60, time.Minute).draw().bars); n != 60 {
		t.Errorf("60 generations are %d bars", n)
	}
}

func TestEachFailedTryIsMarked(t *testing.T) {
	t.Parallel()
	for marks, said := range map[int]string{30: "Failed try, background: the provider", 31: "11 failed tries, drawn together", 199: "179 failed tries, drawn together"} {
		page := render(t, timeline(long(1, marks)))
		if n := strings.Count(page, `<path d="M-4 0l8 8m0-8l-8 8">`); n != marks || !strings.Contains(page, "<title>"+said) {
			t.Errorf("%d tries are %d marks, with no %s", marks, n, said)
		}
	}
}

// As many renewals as are kept make no page, and no answer to a click, that is slow to load.
func TestAPageStaysLightHoweverOftenItRenews(t *testing.T) {
	t.Parallel()
	page := hostileDashboard("fresh")
	page.History.Recent = slices.Repeat(page.History.Recent, 20)
	for _, failed := range []int{0, 100, 199} {
		page.Timeline = long(200-failed, failed)
		whole, fragment := render(t, Dashboard(page)), render(t, Renewed(page.Token, page.Grant, page.Timeline, page.History, true))
		if max(len(whole), len(fragment)) > 60<<10 {
			t.Errorf("%d tries of 200 failed: the page has %d bytes, and what a renewal changes of it %d", failed, len(whole), len(fragment))
		}
	}
}
