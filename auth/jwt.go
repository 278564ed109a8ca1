package auth

import (
	"encoding/base64"
	"strings"
)

// JWT is a JSON Web Token taken apart and not verified: for showing it, never for trusting it. Numbers are json.Number.
type JWT struct {
	Header    map[string]any
	Claims    map[string]any
	Payload   string // the claims as they came, JSON
	Encrypted bool   // a JWE (RFC 7516 section 7.1): only the header can be read
}

// ParseJWT takes a token apart that is a JWS or a JWE in compact form (RFC 7515 section 7.1); ok is false for any other.
func ParseJWT(token Secret) (t JWT, ok bool) {
	parts := strings.Split(token.Reveal(), ".")
	if len(parts) != 3 && len(parts) != 5 {
		return JWT{}, false
	}
	if t.Header, _, ok = decodeObject(parts[0]); !ok {
		return JWT{}, false
	}
	if len(parts) == 5 {
		t.Encrypted = true
		return t, true
	}
	t.Claims, t.Payload, ok = decodeObject(parts[1])
	return t, ok
}

func decodeObject(part string) (object map[string]any, text string, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(part, "="))
	if err != nil {
		return nil, "", false
	}
	object, ok = ParseClaims(string(raw))
	return object, string(raw), ok
}

// Former is the claims of the generation before, as JSON, for those of its tokens that are JWTs. They open nothing.
type Former struct{ Access, Refresh, ID string }

func formerOf(t TokenSet) Former {
	payload := func(token Secret) string { jwt, _ := ParseJWT(token); return jwt.Payload }
	return Former{Access: payload(t.Access), Refresh: payload(t.Refresh), ID: payload(t.ID)}
}
