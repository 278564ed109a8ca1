package auth

import (
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strings"
	"testing"
	"unicode"
)

func TestSecretsAreRedacted(t *testing.T) {
	t.Parallel()
	for said, secret := range map[string]Secret{
		"a=1&refresh_token=RT%2F%2b%3D..%3D%3D&b=2": "RT/+=..==", "p%40ss+word%25": "p@ss word%", "(%61%62%63%64)": "abcd", "%25%32x%25": "%2x%",
		`{"echo":"Bearer ab\/cd\u002bef=="}`: "ab/cd+ef==", `{"echo":"a\"b\\c\\"}`: `a"b\c\`,
		"x ab\u200ecd\u202e\u2066ef": "abcdef", "x ab\ncd\x00\xff": "abcd", "x a\u00adb\ufe0fcd": "abcd", `ab\u202ecd\u000A`: "abcd", "ab%E2%80%8Ecd": "abcd",
		"abc def/ghi": "abc+def/ghi", `a\ud83d\ude00b`: "a😀b", `a\ud83dbcd`: "abcd", "%66%C3%BCr": "für", `f\u00fcr`: "für",
		"a&#43;b&#x2F;c&#X3d;&#61;": "a+b/c==", `&quot;ab&amp;c&apos;&lt;&gt;`: `"ab&c'<>`, "&plus;a&sol;b&equals;": "+a/b=",
		"ab&#0000043;cd&#x" + strings.Repeat("0", 50) + "2B;": "ab+cd+", "ab&#8206;cd": "abcd", "f&uuml;r": "für", "ab&cd&#43;e&f;": "ab&cd+e&f;",
		"ab%252Bcd%252F": "ab+cd/", `ab\u0026#43;cd`: "ab+cd", "ab&amp;#43;cd": "ab+cd", "ab%26%2343%3Bcd": "ab+cd", `ab\\u002b\\\/cd`: "ab+/cd",
	} {
		if text := Redact(said, secret); strings.Contains(text, "%") || !strings.Contains(text, "[redacted]") {
			t.Errorf("%s: %s", said, text)
		}
	}
	if said := "a%20word+that is%2 & more&#4;&;&#;"; Redact(said, "word%", "is%2F", "is%2 & more4") != said {
		t.Errorf("what is no secret: %s", Redact(said, "word%", "is%2F", "is%2 & more4"))
	}
	if text := Redact("you sent eyJ-the-secret!", "eyJ-the-secret", ""); text != "you sent [redacted]!" {
		t.Errorf("%q", text)
	}
	if text := Redact("abc abcd+abcdefgh+xcdef", "abc", "abcd", "abcdefgh", "xcde", "cdef"); text != "abc [redacted]+[redacted]+[redacted]" {
		t.Errorf("short ones, and such as overlap: %q", text)
	}
}

func TestNoPartOfASecretIsAtTheEndOfATextThatIsCut(t *testing.T) {
	t.Parallel()
	const secret = "to/ken+and more"
	for said, want := range map[string]string{
		"x " + secret: "x [redacted]", "x to/ken+an": "x [redacted]", "x to%2Fken%2Ban": "x [redacted]", "x to%2Fken%2": "x [redacted]",
		"x to%2": "x to%2", "x to/": "x to/", "x too/ken": "x too/ken", "": "",
		`x to\/ken\`: "x [redacted]", `x to\/ken\u`: "x [redacted]", `x to\/ken\u00`: "x [redacted]", `x to\/ken\u002`: "x [redacted]",
		`x \\`: `x \\`, `x \\\`: `x \\\`,
		"x to&#x2F;ken&": "x [redacted]", "x to&#x2F;ken&#": "x [redacted]", "x to&#x2F;ken&#x2": "x [redacted]", "x to&sol;ken&plu": "x [redacted]",
		"x to%252Fken%25": "x [redacted]", "x to%252Fken%252": "x [redacted]", `x to\/ken\u0026#`: "x [redacted]", "R&D": "R&D", "at 100%": "at 100%",
	} {
		if text := RedactCut(said, secret, ""); text != want {
			t.Errorf("%q: %q, want %q", said, text, want)
		}
	}
	for _, c := range []struct {
		text, secret string
		want         int
	}{{"abcab", "abcabd", 5}, {"ababab", "abababc", 6}, {"xababa", "ababc", 0}, {"xabaab", "abaabaab", 5}, {"aaaaaaa", "aaaaa", 5}, {"b", "aaaa", 0}} {
		if got := unfinished(c.text, c.secret); got != c.want {
			t.Errorf("%q ends with %d bytes of %q, want %d", c.text, got, c.secret, c.want)
		}
	}
}

// Who writes an answer escapes what is escaped already, each in another way.
func TestASecretIsFoundInWhateverWaysItIsEscaped(t *testing.T) {
	t.Parallel()
	const secret = Secret(`Rt/a+b=="c&d'e %f<\`)
	each := func(format string) func(string) string {
		return func(text string) string {
			var escaped strings.Builder
			for _, c := range text {
				if unicode.IsLetter(c) {
					escaped.WriteRune(c)
				} else {
					fmt.Fprintf(&escaped, format, c)
				}
			}
			return escaped.String()
		}
	}
	ways := map[string]func(string) string{
		"as in a form": url.QueryEscape, "as in a path": url.PathEscape, "each byte": each("%%%02x"), "as in HTML": html.EscapeString,
		"by decimals": each("&#%d;"), "by hexadecimals": each("&#x%X;"), "by code units": each(`\u%04x`),
		"as in JSON": func(text string) string {
			quoted, err := json.Marshal(text)
			if err != nil {
				t.Error(err)
			}
			return strings.ReplaceAll(strings.Trim(string(quoted), `"`), "/", `\/`)
		},
	}
	for first, inner := range ways {
		for second, outer := range ways {
			said := "x " + outer(inner(secret.Reveal()))
			if text := Redact(said+" y", secret); text != "x [redacted] y" {
				t.Errorf("%s, and that %s: %s of %s", first, second, text, said)
			}
			for end := range said {
				var plain string
				for l := range layers(RedactCut(said[:end], secret), nil) {
					plain = l.text
				}
				if strings.Contains(plain, bare(secret)[:shortest]) {
					t.Errorf("%s, and that %s, and cut: %q is left of %s", first, second, plain, said[:end])
				}
			}
		}
	}
}

func TestATextMayEndInTheMiddleOfAnEscape(t *testing.T) {
	t.Parallel()
	const whole = `x \u0041bcd%2Fef\/gh\u0041&#43;&amp;`
	for end := range len(whole) {
		if text := Redact(whole[:end], "no such"); text != whole[:end] {
			t.Errorf("%q: %q", whole[:end], text)
		}
		if text := RedactCut(whole[:end], "no such"); !strings.HasPrefix(whole, text) {
			t.Errorf("%q, cut: %q", whole[:end], text)
		}
	}
}

// Who wrote the text may have made it for this: no occurrence may cost what the whole text costs.
func TestToRedactIsLinear(t *testing.T) {
	for _, one := range []string{"%41bcd", "Abcd", "a+b%2F", "&#65;bcd", "&&", "%2541bcd", "%25"} {
		allocs := func(n int) float64 {
			text := strings.Repeat(one, n)
			return testing.AllocsPerRun(3, func() { _ = Redact(text, "Abcd", "a b/") })
		}
		if few, many := allocs(1), allocs(2000); many > few+100 {
			t.Errorf("%s: 2000 of them are %v allocations, one is %v", one, many, few)
		}
	}
}
