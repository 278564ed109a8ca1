package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestABaseURLThatIsNotEncryptedIsWarnedOf(t *testing.T) {
	t.Parallel()
	for base, warned := range map[string]bool{
		"http://keyturn.example.com": true, "http://192.0.2.1:8080": true, "http://localhost.example": true,
		"https://keyturn.example.com": false, "http://localhost:8080": false, "http://keyturn-2.localhost:8081": false,
		"http://127.9.9.9": false, "http://[::1]:8080": false, "": false,
	} {
		var want []string
		if warned {
			want = []string{fmt.Sprintf("--base-url (KEYTURN_BASE_URL): %q is not encrypted: whoever is on the way reads people's session "+
				"cookies and tokens; serve it over https", base)}
		}
		if s := mustParse(t, []string{"--base-url", base}, nil); !slices.Equal(s.Warnings, want) {
			t.Errorf("%s: got %q", base, s.Warnings)
		}
	}
	if s := mustParse(t, []string{"--addr", "192.0.2.1:8080"}, nil); len(s.Warnings) != 1 || !strings.HasPrefix(s.Warnings[0], "--addr (KEYTURN_ADDR): ") {
		t.Errorf("the address alone: got %q", s.Warnings)
	}
}
