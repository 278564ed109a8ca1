package auth_test

import (
	"strings"
	"testing"

	"keyturn/auth"
)

func TestStorableText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"openid\x00 x": "openid x", "a\xff\xfeb": "ab", "\x00": "", "a\x01\n ü": "a\x01\n ü", "": "",
	} {
		if got := auth.Storable(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestForeignText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"as it is, ü 👩‍🚀 مرحبا":    "as it is, ü 👩‍🚀 مرحبا",
		"two\r\nlines\x1b[31m\x00": "two  lines [31m",
		"\u202egnp.exe\u2066":      "gnp.exe",
		"a\u2028b\u2029c\xff":      "a b c",
		strings.Repeat("x", 11):    strings.Repeat("x", 10) + "…",
	} {
		most := 30
		if strings.HasPrefix(text, "xxx") {
			most = 10
		}
		if got := auth.Foreign(text, most); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}
