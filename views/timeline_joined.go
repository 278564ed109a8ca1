package views

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// mostBars and mostMarks are how many are drawn each for itself. Where there are more, the newest are: the older ones would be too
	// narrow to be told apart. Those are drawn together, and the tables tell of each.
	mostBars, barsAlone   = 60, 40
	mostMarks, marksAlone = 30, 20
	gapSeen               = 0.3 // percent of the picture that a gap takes at least, if its bar has twice that
)

// joined is what a Bar has that stands for several generations, one after the other.
type joined struct {
	bars  []Bar // what the bar itself says is of the last, but for when it begins
	paths []path
}

// path is all that one trigger brought, in a box of 100 by 28.
type path struct{ trigger, d string }

// older are the first of a list, which are drawn together, and newest the others.
func older[T any](list []T, most, alone int) (older, newest []T) {
	if n := len(list); n > most {
		return list[:n-alone], list[n-alone:]
	}
	return nil, list
}

// join makes one bar of the older ones, so many.
func join(bars []Bar) (list []Bar, together int) {
	old, newest := older(bars, mostBars, barsAlone)
	if len(old) == 0 {
		return slices.Clone(newest), 0
	}
	whole := old[len(old)-1]
	whole.IssuedAt, whole.joined = old[0].IssuedAt, &joined{bars: old}
	return append([]Bar{whole}, newest...), len(old)
}

// joinMarks makes one mark of the older ones.
func joinMarks(marks []Mark, a axis) []Mark {
	old, newest := older(marks, mostMarks, marksAlone)
	var list []Mark
	if n := len(old); n > 0 {
		whole := Mark{At: old[0].At, until: old[n-1].At}
		for _, m := range old {
			whole.xs = append(whole.xs, a.x(m.At))
		}
		list = append(list, whole)
	}
	for _, m := range newest {
		m.xs = []float64{a.x(m.At)}
		list = append(list, m)
	}
	return list
}

// draw draws generations together: what one trigger brought goes on without an edge, but for a gap where the token had expired.
func (j *joined) draw(a axis) {
	type run struct {
		trigger  string
		from, to float64
	}
	var runs []run
	ends := true
	for i, b := range j.bars {
		from, to := a.x(b.IssuedAt), a.x(b.ReplacedAt)
		goesOn := !ends && runs[len(runs)-1].trigger == b.Trigger
		if ends = b.ExpiresAt.Before(b.ReplacedAt) || i == len(j.bars)-1; ends {
			to = max(from, min(a.x(b.ExpiresAt), to-min(gapSeen, (to-from)/2)))
		}
		if n := len(runs); goesOn {
			runs[n-1].to = to
		} else {
			runs = append(runs, run{b.Trigger, from, to})
		}
	}
	for _, trigger := range triggers {
		var d strings.Builder
		for _, r := range runs {
			if r.trigger == trigger {
				fmt.Fprintf(&d, "M%.2f 0H%.2fV28H%.2fz", r.from, r.to, r.from)
			}
		}
		if d.Len() > 0 {
			j.paths = append(j.paths, path{trigger, d.String()})
		}
	}
}

// words are what a reader is told of generations that are drawn together, the last of which is b.
func (j *joined) words(b Bar) string {
	said := fmt.Sprintf("Generations %d to %d, drawn together, in use for %s", j.bars[0].Generation, b.Generation, lasting(b.ReplacedAt.Sub(b.IssuedAt)))
	expired := time.Duration(0)
	for _, b := range j.bars {
		expired += max(0, b.ReplacedAt.Sub(b.ExpiresAt))
	}
	if expired > 0 {
		said += ", expired for " + lasting(expired) + " of that"
	}
	return said
}

// label is what stands below a bar.
func (b Bar) label() string {
	if b.joined != nil {
		return number(b.joined.bars[0].Generation) + "–" + number(b.Generation)
	}
	return number(b.Generation)
}

// labelRoom is how wide a label is, in rem, with the space after it.
func (b Bar) labelRoom() float64 { return 0.48*float64(utf8.RuneCountInString(b.label())) + 0.25 }
