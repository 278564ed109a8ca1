package auth

import (
	"encoding/base64"
	"testing"
)

func TestAnIDTokenOfAnotherIssuerOrPerson(t *testing.T) {
	t.Parallel()
	alice := Identity{Issuer: "https://accounts.google.com", Subject: "alice"}
	for claims, differs := range map[string]bool{
		`{"iss":"https://accounts.google.com","sub":"alice"}`: false, `{"iss":"accounts.google.com","sub":"alice"}`: false, `{}`: false,
		`{"iss":"accounts.google.com","sub":"bob"}`: true, `{"iss":"accounts.example.com","sub":"alice"}`: true, `{"iss":"https://accounts.google.com/"}`: true,
	} {
		token := Secret("e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".AAAA")
		if got := alice.differs(token); got != differs {
			t.Errorf("%s: %v", claims, got)
		}
	}
}
