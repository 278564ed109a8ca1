package auth

import (
	"strings"
	"unicode"
)

// Foreign makes text that somebody else wrote fit for a log line and for a page: one line without control characters and
// without those that turn the direction of what follows (Unicode's Bidi_Control), of at most the given number of
// characters. It is not escaped; that is the matter of whoever prints it.
func Foreign(text string, most int) string {
	text = strings.Map(func(c rune) rune {
		switch {
		case unicode.Is(unicode.Bidi_Control, c):
			return -1
		case unicode.In(c, unicode.Cc, unicode.Zl, unicode.Zp), c == unicode.ReplacementChar:
			return ' '
		}
		return c
	}, text)
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return strings.TrimSpace(text)
}

// Storable is text that somebody else wrote without what PostgreSQL takes into no text: NUL, and what is not UTF-8.
func Storable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, ""), "\x00", "")
}
