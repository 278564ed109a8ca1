package auth

import (
	"cmp"
	"encoding/hex"
	"iter"
	"regexp"
	"slices"
	"strings"
)

const (
	redacted = "[redacted]"
	// shortest is how long a secret is, in bytes, that is looked for: a shorter one would be found everywhere.
	shortest = 4
)

// Redact replaces every occurrence of the secrets in text that came from elsewhere, such as an error description, also where they are
// percent-encoded, as in a form, or escaped, as in JSON. What is shorter than 4 bytes is left. It takes time linear in the text, which may be long,
// and made to be slow.
func Redact(text string, secrets ...Secret) string {
	var found []span
	var plain string
	var at []int
	if strings.ContainsAny(text, `%+\`) {
		plain, at = decoded(text)
	}
	for _, s := range secrets {
		if len(s) < shortest {
			continue
		}
		for i := range occurrences(text, string(s)) {
			found = append(found, span{i, i + len(s)})
		}
		for i := range occurrences(plain, unplussed(s)) {
			found = append(found, span{at[i], at[i+len(s)]})
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

// RedactCut is Redact of a text that breaks off, perhaps within a secret: what its end has of the beginning of one goes, too.
func RedactCut(text string, secrets ...Secret) string {
	text = Redact(text, secrets...)
	text = halfEncoded.ReplaceAllString(text, "$1")
	plain, at := decoded(text)
	end := len(text)
	for _, s := range secrets {
		end = min(end, len(text)-unfinished(text, string(s)), at[len(plain)-unfinished(plain, unplussed(s))])
	}
	if end == len(text) {
		return text
	}
	return text[:end] + redacted
}

// halfEncoded is a part of a byte that is percent-encoded, or escaped as in JSON, at the end of a text that breaks off there. A backslash
// may itself be what is escaped.
var halfEncoded = regexp.MustCompile(`%[0-9A-Fa-f]?$|((?:^|[^\\])(?:\\\\)*)\\(?:u[0-9A-Fa-f]{0,3})?$`)

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

// unplussed is a secret as decoded has it.
func unplussed(s Secret) string { return strings.ReplaceAll(string(s), "+", " ") }

// decoded is a text without percent-encoding and the escapes of JSON that a token may have, and where each of its bytes, and its end, is
// in text. A plus sign, which may be either, is a space.
func decoded(text string) (plain string, at []int) {
	bytes, at := make([]byte, 0, len(text)), make([]int, 0, len(text)+1)
	for i := 0; i < len(text); i++ {
		at = append(at, i)
		one := [1]byte{text[i]}
		switch {
		case text[i] == '\\' && i+1 < len(text) && strings.IndexByte(`/"\`, text[i+1]) >= 0:
			one[0], i = text[i+1], i+1
		case strings.HasPrefix(text[i:], `\u00`) && i+5 < len(text):
			if _, err := hex.Decode(one[:], []byte(text[i+4:i+6])); err == nil {
				i += 5
			}
		case text[i] == '%' && i+2 < len(text):
			if _, err := hex.Decode(one[:], []byte(text[i+1:i+3])); err == nil {
				i += 2
			}
		}
		if one[0] == '+' {
			one[0] = ' '
		}
		bytes = append(bytes, one[0])
	}
	return string(bytes), append(at, len(text))
}
