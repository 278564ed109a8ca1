package views

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"time"
)

// Timeline is the picture of a grant's generations.
type Timeline struct {
	Now       time.Time
	Bars      []Bar  // oldest first
	Marks     []Mark // failed tries
	Renewable bool   // more bars may come
}

// Bar is one generation, from issue to expiry.
type Bar struct {
	Generation          int64
	Trigger             string // sign-in for the first
	Outcome             string // empty for the first
	Took                time.Duration
	IssuedAt, ExpiresAt time.Time
	ReplacedAt          time.Time // zero: it is in use
	x, used, left       float64   // percent of the picture: where it begins, for how long it was used, what it had left then
	room                int       // of rooms, the first in which its number is shown; -1: none
	joined              *joined   // nil: it is one generation
}

// Mark is a renewal that failed.
type Mark struct {
	At            time.Time
	Trigger, Code string
	Means         string // the code in a sentence; may be empty
	xs            []float64
	until         time.Time // zero: it is one try
}

// axis maps time to percent of the picture's width. It is linear between two issues; but each generation gets a least share,
// so that ten clicks in a minute can be told apart beside a night of long ones.
type axis struct {
	stops  []time.Time
	at     []float64
	uneven bool // the same time is not the same width everywhere
}

const (
	leastLast     = 14.0 // percent for the generation in use
	leastShare    = 6.0  // percent for any other, while there is room
	leastTogether = 30.0 // percent for all that are drawn together
	leastUsed     = 0.1  // percent for the full part of any
	noticed       = 0.5  // percent that a reader may notice
)

// newAxis is an axis over generations that begin, and end, at the stops; the first ones, so many, are drawn together.
func newAxis(stops []time.Time, together int) axis {
	n := len(stops) - 1
	total := max(stops[n].Sub(stops[0]), time.Second)
	least := min(leastShare, 60/float64(n-together))
	widths, sum := make([]float64, n), 0.0
	for i := range widths {
		widths[i] = 100 * float64(stops[i+1].Sub(stops[i])) / float64(total)
		if i < together {
			widths[i] = max(widths[i], leastTogether/float64(together))
		} else {
			widths[i] = max(widths[i], least)
		}
		if i == n-1 {
			widths[i] = max(widths[i], leastLast)
		}
		sum += widths[i]
	}
	a := axis{stops: stops, at: make([]float64, n+1)}
	for i, width := range widths {
		a.at[i+1] = a.at[i] + 100*width/sum
		a.uneven = a.uneven || math.Abs(a.at[i+1]-100*float64(stops[i+1].Sub(stops[0]))/float64(total)) > noticed
	}
	return a
}

func (a axis) x(t time.Time) float64 {
	i := sort.Search(len(a.stops)-2, func(i int) bool { return t.Before(a.stops[i+1]) })
	whole := a.stops[i+1].Sub(a.stops[i])
	if whole <= 0 {
		return a.at[i]
	}
	share := min(1, max(0, float64(t.Sub(a.stops[i]))/float64(whole)))
	return a.at[i] + share*(a.at[i+1]-a.at[i])
}

// drawing is a laid out Timeline. Of many generations and tries, the first bar and the first mark stand for the older ones together.
type drawing struct {
	Timeline
	bars       []Bar
	marks      []Mark
	now        float64
	from, to   float64 // the last stretch, in which the present moves
	begin, end time.Time
	uneven     bool
}

// draw lays the timeline out.
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
	bars, together := join(t.Bars)
	d.bars = bars
	stops := make([]time.Time, 0, len(t.Bars)+1)
	for i, b := range t.Bars {
		if i > 0 && b.IssuedAt.Before(stops[i-1]) {
			b.IssuedAt = stops[i-1]
		}
		stops = append(stops, b.IssuedAt)
	}
	a := newAxis(append(stops, d.end), together)
	for i := range d.bars {
		b := &d.bars[i]
		used := t.Now
		if !b.ReplacedAt.IsZero() {
			used = b.ReplacedAt
		}
		until := a.x(b.ExpiresAt)
		b.x = a.x(b.IssuedAt)
		if b.joined != nil {
			b.used = a.x(used) - b.x
			b.joined.draw(a)
			continue
		}
		b.used = max(leastUsed, min(a.x(used), until)-b.x)
		b.left = max(0, until-b.x-b.used)
	}
	placeNumbers(d.bars)
	d.marks = joinMarks(t.Marks, a)
	d.now, d.from, d.to, d.uneven = a.x(t.Now), a.x(d.begin), a.x(d.end), a.uneven
	return d
}

// words are what a reader is told of a generation at now, without its times.
func (b Bar) words(now time.Time) string {
	if b.joined != nil {
		return b.joined.words(b)
	}
	said := fmt.Sprintf("Generation %d, ", b.Generation)
	switch {
	case b.Outcome == "":
		said += "from the sign-in"
	case b.Took > 0:
		said += fmt.Sprintf("%s (%s) in %s", b.Outcome, b.Trigger, Brief(b.Took))
	default:
		said += fmt.Sprintf("%s (%s)", b.Outcome, b.Trigger)
	}
	if !b.ReplacedAt.IsZero() {
		said += ", in use for " + lasting(b.ReplacedAt.Sub(b.IssuedAt))
		if b.ReplacedAt.Before(b.ExpiresAt) {
			said += " of " + lasting(b.ExpiresAt.Sub(b.IssuedAt))
		}
		return said
	}
	if !now.Before(b.ExpiresAt) {
		return said + ", expired"
	}
	return said + ", in use now"
}

func (m Mark) words() string {
	if n := len(m.xs); n > 1 {
		return strconv.Itoa(n) + " failed tries, drawn together"
	}
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
	case s < 365*86400:
		return twoUnits(s/86400, "d", s/3600%24, "h")
	default:
		return twoUnits(s/(365*86400), "y", s/86400%365, "d")
	}
}

func twoUnits(a int64, unitA string, b int64, unitB string) string {
	if b == 0 {
		return fmt.Sprintf("%d %s", a, unitA)
	}
	return fmt.Sprintf("%d %s %d %s", a, unitA, b, unitB)
}

// rooms are the least widths of the picture, in rem, from which on more numbers are shown; app.css has them too.
var rooms = [...]float64{0, 8, 12, 15.5, 20, 28, 40, 60}

// placeNumbers says from which room on a bar's number is shown: that of the generation in use always, and those that the same step divides,
// the smallest with which they all have room; but none that would run into the last.
func placeNumbers(bars []Bar) {
	for i := range bars {
		bars[i].room = -1
	}
	bars[len(bars)-1].room = 0
	for room, width := range rooms {
		for _, step := range []int64{1, 5, 10, 50, 100} {
			list, fits := numbered(bars, step, width)
			if !fits {
				continue
			}
			for _, b := range list {
				if b.room < 0 {
					b.room = room
				}
			}
			break
		}
	}
}

// numbered are the bars whose numbers a step divides, and the one of the older generations, but for those that would run into the last one's, and whether they all have room.
func numbered(bars []Bar, step int64, width float64) (list []*Bar, fits bool) {
	last := bars[len(bars)-1]
	for i := range bars[:len(bars)-1] {
		b := &bars[i]
		if b.joined == nil && b.Generation%step != 0 || !b.clear(last, width) {
			continue
		}
		if n := len(list); n > 0 && !list[n-1].clear(*b, width) {
			return nil, false
		}
		list = append(list, b)
	}
	return list, true
}

// clear says whether a bar's number ends before that of a later one begins, in a picture of so many rem.
func (b Bar) clear(later Bar, width float64) bool {
	return (later.x-b.x)*width/100 >= b.labelRoom()
}

// full is the width of a bar's full part, less what it leaves free before the next.
func (b Bar) full() float64 {
	if b.ReplacedAt.IsZero() {
		return b.used
	}
	return b.used - min(0.25, b.used/6)
}

// early says that a generation was replaced well before its expiry.
func (b Bar) early() bool { return !b.ReplacedAt.IsZero() && b.left > noticed }

// crowded says whether the lines of what generations left unused would lie over one another, in the two lanes that they have.
func (d drawing) crowded() bool {
	var ends [2]float64
	for i, b := range d.bars {
		if !b.early() {
			continue
		}
		if b.x+b.used < ends[i%2]-noticed {
			return true
		}
		ends[i%2] = b.x + b.used + b.left
	}
	return false
}

// triggers are what brought a generation, in the order in which the key names them.
var triggers = [...]string{"sign-in", "manual", "api", "automatic", "background", "recovery"}

// key are the triggers that occur, in their order, whether it shows that a generation was replaced early, and
// whether any try failed.
func (d drawing) key() (occurring []string, early, failed bool) {
	for _, trigger := range triggers {
		if slices.ContainsFunc(d.Bars, func(b Bar) bool { return b.Trigger == trigger }) {
			occurring = append(occurring, trigger)
		}
	}
	return occurring, !d.crowded() && slices.ContainsFunc(d.bars, Bar.early), len(d.Marks) > 0
}

// explanation explains the picture to whoever has one bar only.
func (t Timeline) explanation() string {
	said, over := "This bar is your first access token", !t.Now.Before(t.Bars[0].ExpiresAt)
	if !t.Renewable {
		said = "This bar is your sign-in"
	}
	if over {
		said += ", which has expired. "
	} else {
		said += ": the full part is the time gone by, the pale part what is left. "
	}
	if !t.Renewable {
		return said + "It cannot be renewed; a new sign-in begins a new picture."
	}
	return said + "Each renewal adds a bar."
}
