package auth

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"log/slog"
	"regexp"
	"slices"
	"strings"
)

// Secret is a token or another value that must not be seen. Every usual way of printing it (fmt, log/slog,
// encoding/json) shows its fingerprint; only Reveal gives the value.
type Secret string

// Reveal returns the secret itself. Its callers are the places where a secret may leave the program.
func (s Secret) Reveal() string { return string(s) }

// Fingerprint is the first 24 bits of the SHA-256 of the secret in hexadecimal, enough to tell two tokens of one
// grant apart and useless for anything else. The fingerprint of an empty secret is empty.
func (s Secret) Fingerprint() string {
	if s == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:3])
}

// String implements fmt.Stringer with the fingerprint.
func (s Secret) String() string {
	if s == "" {
		return "none"
	}
	return "sha256:" + s.Fingerprint()
}

// GoString implements fmt.GoStringer with the fingerprint.
func (s Secret) GoString() string { return s.String() }

// Format implements fmt.Formatter, so that no verb (%x among them) shows the value.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue implements slog.LogValuer with the fingerprint.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements encoding.TextMarshaler, which encoding/json uses too, with the fingerprint.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

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
