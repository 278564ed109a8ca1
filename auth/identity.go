package auth

import (
	"maps"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxIDLength is how long an identifier may be, in bytes: what OpenID Connect Core section 2 allows a sub. In PostgreSQL's indexes is not
// much more room.
const maxIDLength = 255

// Identity is who signed in, as the provider said it. A person is (Provider, Subject), never an e-mail address
// (OpenID Connect Core 5.7).
type Identity struct {
	Provider string         // configured name of the provider
	Issuer   string         // iss of the id token; of providers without id tokens what stands for them, which is no URL, or nothing
	Subject  string         // sub
	Name     string         // display name; may be empty
	Email    string         // may be empty
	Picture  string         // URL; may be empty
	Claims   map[string]any // raw claims of the id token, and of userinfo where there is one
}

// IsID says whether a provider's identifier of a person, or of a session, is one that every database stores and finds.
func IsID(id string) bool {
	return len(id) <= maxIDLength && utf8.ValidString(id) && !strings.ContainsFunc(id, unicode.IsControl)
}

// OpenID says whether the identity is from an id token.
func (i Identity) OpenID() bool { return strings.Contains(i.Issuer, "://") }

// NewerClaims are claims about a person with newer ones of the same person over them. What the newer ones say nothing about stays, but
// an e-mail address and a telephone number go with what the same answer says of whether they are verified (OpenID Connect Core section
// 5.1): of such a pair that has changed by half, nobody has issued the whole.
func NewerClaims(older, newer map[string]any) map[string]any {
	merged := maps.Clone(older)
	if merged == nil {
		merged = map[string]any{}
	}
	maps.Copy(merged, newer)
	for _, claim := range []string{"email", "phone_number"} {
		verified := claim + "_verified"
		_, named := newer[claim]
		_, judged := newer[verified]
		_, known := merged[claim]
		as := func(name string) bool { return reflect.DeepEqual(merged[name], older[name]) }
		if known && named != judged && (!as(claim) || !as(verified)) {
			delete(merged, verified)
		}
	}
	return merged
}

// updated is the identity with newer claims about the same person.
func (i Identity) updated(claims map[string]any) Identity {
	i.Claims = NewerClaims(i.Claims, claims)
	text := func(claim string) string { s, _ := i.Claims[claim].(string); return s }
	says := func(claim string) bool { _, ok := claims[claim]; return ok }
	if says("email") {
		i.Email = text("email")
	}
	if says("picture") {
		i.Picture = text("picture")
	}
	if says("name") || says("preferred_username") {
		if i.Name = text("name"); i.Name == "" {
			i.Name = text("preferred_username")
		}
	}
	return i
}
