package views

import (
	"fmt"
	"strconv"
	"time"
)

// Timeline is the picture of a grant's generations.
type Timeline struct {
	Now   time.Time
	Bars  []Bar  // oldest first
	Marks []Mark // failed tries
}

// Bar is one generation, from issue to expiry.
type Bar struct {
	Generation            int64
	Trigger               string // sign-in for the first
	Outcome               string // empty for the first
	Took                  time.Duration
	IssuedAt, ExpiresAt   time.Time
	ReplacedAt            time.Time // zero: it is in use
	x, used, width, until float64   // percent of the picture
	lane                  int
}

// Mark is a renewal that failed.
type Mark struct {
	At            time.Time
	Trigger, Code string
	Means         string // the code in a sentence; may be empty
	x             float64
}

// axis maps time to percent of the picture's width. It is linear between two issues; but each generation gets a least share,
// so that ten clicks in a minute can be told apart beside a night of long ones.
type axis struct {
	stops []time.Time
	at    []float64
}

const (
	leastLast  = 14.0 // percent for the generation in use
	leastShare = 1.4  // percent for any other, while there is room
)

func newAxis(stops []time.Time) axis {
	n := len(stops) - 1
	total := max(stops[n].Sub(stops[0]), time.Second)
	least := min(leastShare, 60/float64(n))
	widths, sum := make([]float64, n), 0.0
	for i := range widths {
		widths[i] = max(least, 100*float64(stops[i+1].Sub(stops[i]))/float64(total))
		if i == n-1 {
			widths[i] = max(widths[i], leastLast)
		}
		sum += widths[i]
	}
	a := axis{stops: stops, at: make([]float64, n+1)}
	for i, width := range widths {
		a.at[i+1] = a.at[i] + 100*width/sum
	}
	return a
}

func (a axis) x(t time.Time) float64 {
	last := len(a.stops) - 1
	for i := range last {
		if from, to := a.stops[i], a.stops[i+1]; t.Before(to) || i == last-1 {
			whole := to.Sub(from)
			if whole <= 0 {
				return a.at[i]
			}
			share := min(1, max(0, float64(t.Sub(from))/float64(whole)))
			return a.at[i] + share*(a.at[i+1]-a.at[i])
		}
	}
	return 0
}

// drawing is a laid out Timeline.
type drawing struct {
	Timeline
	now        float64
	from, to   float64 // the last stretch, in which the present moves
	begin, end time.Time
}

// draw lays the timeline out. Generations take turns on two lanes, because one usually begins before its predecessor's end.
func (t Timeline) draw() drawing {
	d := drawing{Timeline: t}
	if len(t.Bars) == 0 {
		return d
	}
	last := t.Bars[len(t.Bars)-1]
	d.begin, d.end = last.IssuedAt, last.ExpiresAt
	if t.Now.After(d.end) {
		d.end = t.Now
	}
	stops := make([]time.Time, 0, len(t.Bars)+1)
	for i, b := range t.Bars {
		if i > 0 && b.IssuedAt.Before(stops[i-1]) {
			b.IssuedAt = stops[i-1]
		}
		stops = append(stops, b.IssuedAt)
	}
	a := newAxis(append(stops, d.end))
	d.Bars = make([]Bar, len(t.Bars))
	for i, b := range t.Bars {
		b.lane = i % 2
		b.x = a.x(b.IssuedAt)
		b.until = a.x(b.ExpiresAt)
		used := t.Now
		if !b.ReplacedAt.IsZero() {
			used = b.ReplacedAt
		}
		b.used = max(0.25, min(a.x(used), b.until)-b.x)
		b.width = max(b.used, b.until-b.x)
		d.Bars[i] = b
	}
	d.Marks = make([]Mark, len(t.Marks))
	for i, m := range t.Marks {
		m.x = a.x(m.At)
		d.Marks[i] = m
	}
	d.now, d.from, d.to = a.x(t.Now), a.x(d.begin), a.x(d.end)
	return d
}

// words are what a reader is told of a generation at now, without its times.
func (b Bar) words(now time.Time) string {
	said := fmt.Sprintf("Generation %d, ", b.Generation)
	switch {
	case b.Outcome == "":
		said += "from the sign-in"
	case b.Took > 0:
		said += fmt.Sprintf("%s (%s) in %s", b.Outcome, b.Trigger, brief(b.Took))
	default:
		said += fmt.Sprintf("%s (%s)", b.Outcome, b.Trigger)
	}
	if !b.ReplacedAt.IsZero() {
		return said + ", in use for " + lasting(b.ReplacedAt.Sub(b.IssuedAt))
	}
	if !now.Before(b.ExpiresAt) {
		return said + ", expired"
	}
	return said + ", in use now"
}

func (m Mark) words() string {
	if m.Means != "" {
		return "Failed try, " + m.Trigger + ": " + m.Means
	}
	return "Failed try, " + m.Trigger + ": " + m.Code
}

// summary is the picture in one sentence.
func (t Timeline) summary() string {
	said := "1 generation"
	if n := len(t.Bars); n != 1 {
		said = strconv.Itoa(n) + " generations"
	}
	switch n := len(t.Marks); n {
	case 0:
		return said + ", no failed try"
	case 1:
		return said + ", 1 failed try"
	default:
		return said + ", " + strconv.Itoa(n) + " failed tries"
	}
}

// laneTop and laneText are where the bars of a lane begin, and where their figures stand, in pixels.
func laneTop(lane int) string  { return strconv.Itoa(18 + 33*lane) }
func laneText(lane int) string { return strconv.Itoa(18 + 33*lane + 17) }

func percent(x float64) string { return strconv.FormatFloat(x, 'f', 2, 64) + "%" }

// lasting writes a duration for people, in at most two units.
func lasting(d time.Duration) string {
	d = max(d, 0)
	switch s := int64(d.Round(time.Second) / time.Second); {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return twoUnits(s/60, "min", s%60, "s")
	case s < 86400:
		return twoUnits(s/3600, "h", s/60%60, "min")
	default:
		return twoUnits(s/86400, "d", s/3600%24, "h")
	}
}

func twoUnits(a int64, unitA string, b int64, unitB string) string {
	if b == 0 {
		return fmt.Sprintf("%d %s", a, unitA)
	}
	return fmt.Sprintf("%d %s %d %s", a, unitA, b, unitB)
}

// The picture's width in pixels where it is widest, and on a small phone.
const widest, narrowest = 1000, 250

// hasRoom says whether a bar's number fits onto the part that is gone by, in a picture of so many pixels.
func (b Bar) hasRoom(pixels float64) bool {
	return b.used*pixels/100 >= 8.5*float64(len(number(b.Generation)))+10
}
