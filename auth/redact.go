package auth

import (
	"cmp"
	"encoding/hex"
	"html"
	"iter"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	redacted = "[redacted]"
	// shortest is how long a secret is, in bytes, that is looked for: a shorter one would be found everywhere.
	shortest = 4
	// telling is how long one is that no other text has in it.
	telling = 16
)

// Redact replaces every occurrence of the secrets in text that came from elsewhere, such as an error description, also where they are
// percent-encoded, as in a form, escaped, as in JSON or in HTML, in all of these ways one upon the other, or have characters in them that
// nobody sees. What is shorter than 4 bytes is left. It takes time linear in the text, which may be long, and made to be slow.
func Redact(text string, secrets ...Secret) string {
	var found []span
	for l := range layers(text, secrets) {
		for _, s := range secrets {
			part := l.form(s)
			if len(part) < shortest {
				continue
			}
			for i := range occurrences(l.text, part) {
				found = append(found, span{l.origin(i), l.origin(i + len(part))})
			}
		}
	}
	slices.SortFunc(found, func(a, b span) int { return cmp.Or(a.from-b.from, a.to-b.to) })
	var kept strings.Builder
	done := 0
	for _, f := range found {
		if f.from >= done {
			kept.WriteString(text[done:f.from])
			kept.WriteString(redacted)
		}
		done = max(done, f.to)
	}
	kept.WriteString(text[done:])
	return kept.String()
}

// Holds says whether a text that is shown otherwise as it is has one of the secrets in it, in a way that Redact finds. One of fewer than 16
// bytes, which a word may have in it by chance, has to be the whole text.
func Holds(text string, secrets ...Secret) bool {
	return text != "" && slices.ContainsFunc(secrets, func(s Secret) bool {
		return text == string(s) || len(s) >= telling && Redact(text, s) != text
	})
}

// RedactCut is Redact of a text that breaks off, perhaps within a secret: what its end has of the beginning of one goes, too.
func RedactCut(text string, secrets ...Secret) string {
	text = Redact(text, secrets...)
	end := len(text)
	for l := range layers(text, secrets) {
		for ending := range endings(l.text) {
			for _, s := range secrets {
				if n := unfinished(ending, l.form(s)); n > 0 {
					end = min(end, l.origin(len(ending)-n))
				}
			}
		}
	}
	if end == len(text) {
		return text
	}
	return text[:end] + redacted
}

// halfEncoded is a part of a character that is percent-encoded, or escaped as in JSON or in HTML, at the end of a text that breaks off there.
// A backslash may itself be what is escaped.
var halfEncoded = regexp.MustCompile(`%[0-9A-Fa-f]?$|&#?[0-9A-Za-z]*$|((?:^|[^\\])(?:\\\\)*)\\(?:u[0-9A-Fa-f]{0,3})?$`)

// longestHalf is how long such a part is looked for, in bytes.
const longestHalf = 32

// endings are a text that breaks off, and what is left of it without the part of an encoded character at its end, in which there may be
// another.
func endings(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for range mostLayers + 1 {
			if !yield(text) {
				return
			}
			end := text[max(0, len(text)-longestHalf):]
			whole := halfEncoded.ReplaceAllString(end, "$1")
			if whole == end {
				return
			}
			text = text[:len(text)-len(end)+len(whole)]
		}
	}
}

// unfinished is how much of the beginning of a secret ends a text, in bytes. It takes time linear in the secret, as Knuth, Morris and Pratt
// do: within[n] is what of a match of n+1 bytes is one itself.
func unfinished(text, secret string) int {
	if len(secret) < shortest {
		return 0
	}
	within := make([]int, len(secret))
	longer := func(n int, b byte) int {
		for n > 0 && (n == len(secret) || secret[n] != b) {
			n = within[n-1]
		}
		if secret[n] == b {
			n++
		}
		return n
	}
	for i := 1; i < len(secret); i++ {
		within[i] = longer(within[i-1], secret[i])
	}
	n := 0
	for _, b := range []byte(text[max(0, len(text)-len(secret)):]) {
		n = longer(n, b)
	}
	if n < shortest {
		return 0
	}
	return n
}

// span is a part of a text, in bytes.
type span struct{ from, to int }

// occurrences are where part begins in text.
func occurrences(text, part string) iter.Seq[int] {
	return func(yield func(int) bool) {
		for from := 0; ; from += len(part) {
			i := strings.Index(text[from:], part)
			if from += i; i < 0 || !yield(from) {
				return
			}
		}
	}
}

// hidden says that a character is not seen, or not as itself: it controls, formats or varies others, or is none.
func hidden(c rune) bool {
	if ' ' <= c && c <= '~' {
		return false
	}
	return c == utf8.RuneError || unicode.In(c, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp,
		unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

// bare is a secret as decoded has it.
func bare(s Secret) string {
	return strings.Map(func(c rune) rune {
		switch {
		case hidden(c):
			return -1
		case c == '+':
			return ' '
		}
		return c
	}, string(s))
}

// layer is a text that came from elsewhere, or what is below it when it is decoded.
type layer struct {
	text string
	at   []int // where each of its bytes, and its end, is in the text that came; nil of that itself
}

// mostLayers bounds what is decoded one after the other: a URL within a URL, in JSON, on a page, and one more.
const mostLayers = 5

// layers are a text as it is and as it is when it is decoded, again and again, until that changes nothing more.
func layers(text string, secrets []Secret) iter.Seq[layer] {
	return func(yield func(layer) bool) {
		l := layer{text: text}
		spaced := func(s Secret) bool { return strings.Contains(string(s), "+") } // it may be a space in the text
		if !yield(l) || !strings.ContainsAny(text, `%+\&`) && !strings.ContainsFunc(text, hidden) && !slices.ContainsFunc(secrets, spaced) {
			return
		}
		for n := range mostLayers {
			below := l.decoded()
			if n > 0 && len(below.text) == len(l.text) || !yield(below) {
				return
			}
			l = below
		}
	}
}

// origin is where a byte of the layer is in the text that came.
func (l layer) origin(i int) int {
	if l.at == nil {
		return i
	}
	return l.at[i]
}

// form is a secret as it stands in the layer.
func (l layer) form(s Secret) string {
	if l.at == nil {
		return string(s)
	}
	return bare(s)
}

// decoded is what is below a layer: the text without one percent-encoding, escape of JSON or character reference of HTML around each
// character, and without those that are hidden. A plus sign, which may be a space or itself, is a space.
func (l layer) decoded() layer {
	text := l.text
	bytes, at := make([]byte, 0, len(text)), make([]int, 0, len(text)+1)
	for i := 0; i < len(text); {
		size, from := 1, len(bytes)
		switch {
		case text[i] == '\\' && i+1 < len(text) && strings.IndexByte(`/"\`, text[i+1]) >= 0:
			bytes, size = append(bytes, text[i+1]), 2
		case strings.HasPrefix(text[i:], `\u`) && i+5 < len(text):
			if c, ok := escaped(text[i:]); ok {
				size = 6
				if second, ok := escaped(text[i+6:]); ok && utf16.DecodeRune(c, second) != utf8.RuneError {
					c, size = utf16.DecodeRune(c, second), 12
				}
				bytes = utf8.AppendRune(bytes, c)
			}
		case text[i] == '&':
			if c, n := referred(text[i:]); n > 0 {
				bytes, size = append(bytes, c...), n
			}
		case text[i] == '%' && i+2 < len(text):
			var one [1]byte
			if _, err := hex.Decode(one[:], []byte(text[i+1:i+3])); err == nil {
				bytes, size = append(bytes, one[0]), 3
			}
		}
		if size == 1 {
			bytes = append(bytes, text[i])
		}
		for range bytes[from:] {
			at = append(at, l.origin(i))
		}
		i += size
	}
	plain, at := seen(bytes, at)
	return layer{plain, append(at, l.origin(len(text)))}
}

// referred is the character that a text begins with in a character reference of HTML, and how long that is; 0 if it begins with none.
func referred(text string) (c string, size int) {
	n := strings.IndexAny(text[1:], "&;") + 1
	if n == 0 || text[n] != ';' {
		return "", 0
	}
	reference := text[:n+1]
	if c = html.UnescapeString(reference); c == reference || utf8.RuneCountInString(c) != 1 {
		return "", 0
	}
	return c, len(reference)
}

// escaped is the code unit that a text begins with, escaped as in JSON (RFC 8259 section 7).
func escaped(text string) (c rune, ok bool) {
	if len(text) < 6 || !strings.HasPrefix(text, `\u`) {
		return 0, false
	}
	unit, err := strconv.ParseUint(text[2:6], 16, 16)
	return rune(unit), err == nil
}

// seen leaves out what is hidden, of a text and of where its bytes are.
func seen(text []byte, at []int) (string, []int) {
	kept := 0
	for i := 0; i < len(text); {
		c, size := utf8.DecodeRune(text[i:])
		if !hidden(c) {
			copy(at[kept:], at[i:i+size])
			kept += copy(text[kept:], text[i:i+size])
		}
		i += size
	}
	text = text[:kept]
	for i, b := range text {
		if b == '+' {
			text[i] = ' '
		}
	}
	return string(text), at[:kept]
}
