package main

import (
	"errors"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The longest value and the longest line that an error shows, in characters.
const (
	maxShown = 80
	maxLine  = 1200
)

// shown quotes a value for an error: on one line, shortened, and without the credentials that a URL may carry.
func shown(text string) string { return strconv.Quote(shorten(withoutCredentials(text), maxShown)) }

func shorten(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

// withoutCredentials hides the user information and the query of a URL in the text. It hides too much rather than too
// little: what it is given need not be a proper URL.
func withoutCredentials(text string) string {
	scheme := strings.Index(text, "://")
	if scheme < 0 {
		return text
	}
	start := scheme + len("://")
	if at := strings.LastIndex(text, "@"); at > start {
		text = text[:start] + "…" + text[at:]
	}
	if query := strings.Index(text, "?"); query > start {
		text = text[:query] + "?…"
	}
	return text
}

// oneLine makes sure that an error is one line of bearable length, whatever file name or key went into it.
func oneLine(err error) error {
	if err == nil {
		return nil
	}
	var b strings.Builder
	for _, r := range shorten(err.Error(), maxLine) {
		if isControl(r) {
			escaped := strconv.QuoteRune(r)
			b.WriteString(escaped[1 : len(escaped)-1])
			continue
		}
		b.WriteRune(r)
	}
	return errors.New(b.String())
}

// isControl says whether r could break a line or change how a terminal shows it.
func isControl(r rune) bool { return !unicode.IsPrint(r) }

func quoteIfNeeded(text string) string {
	if text == "" || strings.ContainsAny(text, ` "=`) || strings.ContainsFunc(text, isControl) {
		return strconv.Quote(text)
	}
	return text
}

// didYouMean is the end of an error about an unknown name: the nearest known one, if any is near.
func didYouMean(name string, known []string) string {
	best, distance := "", 2+len(name)/4
	for _, k := range known {
		if d := editDistance(name, k); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// editDistance is the Levenshtein distance in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
