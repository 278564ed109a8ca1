package views

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// generations is a timeline of so many, one each interval, each for twice that.
func generations(n int, interval time.Duration) Timeline {
	t := Timeline{Renewable: true}
	for i := range n {
		issued := begin.Add(time.Duration(i) * interval)
		t.Bars = append(t.Bars, Bar{
			Generation: int64(i + 1), Trigger: "api", Outcome: "rotated",
			IssuedAt: issued, ExpiresAt: issued.Add(2 * interval), ReplacedAt: issued.Add(interval),
		})
		t.Now = issued.Add(interval / 2)
	}
	t.Bars[n-1].ReplacedAt = time.Time{}
	return t
}

// shown are the generations whose numbers are shown in a picture of so many rem.
func shown(t Timeline, width float64) (list []int64) {
	for _, b := range t.draw().bars {
		if b.room >= 0 && width >= rooms[b.room] {
			list = append(list, b.Generation)
		}
	}
	return list
}

func TestTheTimelineNumbersWhatItHasRoomFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n     int
		width float64
		want  []int64
	}{
		{1, 5, []int64{1}},
		{5, 62, []int64{1, 2, 3, 4, 5}},
		{5, 15.6, []int64{1, 2, 3, 4, 5}},
		{50, 15.6, []int64{5, 10, 15, 20, 25, 30, 35, 40, 45, 50}},
		{50, 5, []int64{50}},
		{200, 15.6, []int64{160, 170, 200}}, // 1–160
	} {
		if got := shown(generations(c.n, time.Minute), c.width); !slices.Equal(got, c.want) {
			t.Errorf("%d generations, %v rem: %v", c.n, c.width, got)
		}
	}
	// ten clicks after a night: in steps that the clicks have room for, and the same for the hours
	night := generations(9, time.Hour)
	night.Bars[8].ReplacedAt = begin.Add(9 * time.Hour)
	for i := range 10 {
		issued := begin.Add(9*time.Hour + time.Duration(i)*time.Second)
		night.Bars = append(night.Bars, Bar{
			Generation: int64(10 + i), Trigger: "manual", IssuedAt: issued, ExpiresAt: issued.Add(time.Hour), ReplacedAt: issued.Add(time.Second),
		})
		night.Now = issued
	}
	night.Bars[18].ReplacedAt = time.Time{}
	if got := shown(night, 15.6); !slices.Equal(got, []int64{5, 10, 15, 19}) {
		t.Errorf("a night and ten clicks: %v", got)
	}
}

// The style sheet hides a number where the picture is narrower than its room.
func TestTheStyleSheetHasTheRooms(t *testing.T) {
	t.Parallel()
	css, err := os.ReadFile("../static/app.css")
	if err != nil {
		t.Fatal(err)
	}
	for room, width := range rooms[1:] {
		if rule := fmt.Sprintf("@container (width < %vrem) { .timeline .room-%d { display: none; } }\n", width, room+1); !strings.Contains(string(css), rule) {
			t.Errorf("no %s", rule)
		}
	}
	if n := strings.Count(string(css), ".room-"); n != len(rooms)-1 {
		t.Errorf("%d rules for %d rooms", n, len(rooms)-1)
	}
}

func TestTheTimelineSaysWhatIsInIt(t *testing.T) {
	t.Parallel()
	clicks := generations(4, time.Second)
	for i := range clicks.Bars {
		clicks.Bars[i].ExpiresAt = clicks.Bars[i].IssuedAt.Add(time.Hour)
	}
	clicks.Bars[0].Trigger, clicks.Bars[2].Trigger = "sign-in", "manual"
	failing := generations(3, time.Minute)
	failing.Marks = []Mark{{At: begin.Add(time.Second), Trigger: "manual", Code: "server_error"}}
	whole := generations(2, time.Minute)
	whole.Bars[0].ExpiresAt = whole.Bars[0].ReplacedAt
	for name, c := range map[string]struct {
		timeline     Timeline
		there, never []string
	}{
		"clicks": {clicks, []string{
			">sign-in</li>", ">manual</li>", ">api</li>", `class="uneven">not to scale`, "in use for 1 s of 1 h", `class="rest"`, `class="timeline crowded"`,
		}, []string{"left unused", ">failed try</li>", ">automatic</li>", ">background</li>", ">recovery</li>"}},
		"nothing unused": {whole, []string{"in use for 1 min<", "in use now"}, []string{"left unused", `class="uneven">`, `class="rest"`}},
		"a failed try":   {failing, []string{">failed try</li>", ">left unused</li>", `class="rest"`, `class="timeline"`}, nil},
		"the first":      {generations(1, time.Minute), []string{`class="valid"`}, []string{"left unused", `class="uneven">`, `class="rest"`}},
	} {
		page := render(t, timeline(c.timeline))
		for _, text := range c.there {
			if !strings.Contains(page, text) {
				t.Errorf("%s: no %s", name, text)
			}
		}
		for _, text := range c.never {
			if strings.Contains(page, text) {
				t.Errorf("%s: %s", name, text)
			}
		}
	}
}

// A replaced generation ends where the next begins, and only the one in use goes on to its expiry.
func TestTheTimelineIsOneLane(t *testing.T) {
	t.Parallel()
	d := generations(7, time.Minute).draw()
	for i, b := range d.bars[:6] {
		if end, next := b.x+b.used, d.bars[i+1].x; end < next-0.01 || end > next+0.01 || b.full() >= b.used || !b.early() {
			t.Errorf("generation %d is drawn from %v to %v, %v of it; the next from %v", b.Generation, b.x, end, b.full(), next)
		}
	}
	last := d.bars[6]
	if end := last.x + last.used + last.left; end < 99.99 || end > 100.01 || last.full() != last.used || last.early() {
		t.Errorf("the last ends at %v", end)
	}
}

func TestASingleBarIsExplained(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		renewable   bool
		gone        time.Duration
		said, never string
	}{
		{true, time.Second, "Each renewal adds a bar.", "cannot be renewed"},
		{true, time.Hour, "your first access token, which has expired. Each renewal adds a bar.", "pale"},
		{false, time.Second, "the pale part what is left. It cannot be renewed", "Each renewal"},
		{false, time.Hour, "your sign-in, which has expired. It cannot be renewed", "pale"},
	} {
		first := generations(1, time.Minute)
		first.Renewable, first.Now = c.renewable, begin.Add(c.gone)
		if page := render(t, timeline(first)); !strings.Contains(page, c.said) || strings.Contains(page, c.never) {
			t.Error(fmt.Sprint("renewable ", c.renewable, ", ", c.gone, " gone"), first.explanation())
		}
	}
}
