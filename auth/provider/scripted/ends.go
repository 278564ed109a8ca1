package scripted

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// LogoutEvent is what makes a JWT a logout token (OpenID Connect Back-Channel Logout section 2.4).
const LogoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// isClient checks the client's Basic authentication, unless the test does.
func (p *Provider) isClient(r *http.Request) bool {
	if p.Authenticate != nil {
		return p.Authenticate(r)
	}
	id, secret, ok := r.BasicAuth()
	return ok && id == ClientID && secret == url.QueryEscape(ClientSecret)
}

// Assertion says whether a request comes with an assertion (RFC 7523 section 3) that the key made, for one of the audiences.
// Each is good once.
func Assertion(key any, alg jose.SignatureAlgorithm, audiences ...string) func(r *http.Request) bool {
	used := map[string]bool{}
	return func(r *http.Request) bool {
		form := r.PostForm
		token, err := jwt.ParseSigned(form.Get("client_assertion"), []jose.SignatureAlgorithm{alg})
		if err != nil || form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" || form.Has("client_secret") {
			return false
		}
		var c jwt.Claims
		now := time.Now()
		if token.Claims(key, &c) != nil || c.Issuer != ClientID || c.Subject != ClientID || len(c.Audience) != 1 || c.ID == "" || used[c.ID] {
			return false
		}
		used[c.ID] = true
		return slices.Contains(audiences, c.Audience[0]) && c.Expiry != nil && c.Expiry.Time().After(now) &&
			!c.Expiry.Time().After(now.Add(61*time.Second))
	}
}

// LogoutClaims are those of a logout token for sid and sub, either of which may be empty.
func (p *Provider) LogoutClaims(sid, sub string) map[string]any {
	now := time.Now()
	claims := map[string]any{
		"iss": p.URL, "aud": ClientID, "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(), "jti": rand.Text(),
		"events": map[string]any{LogoutEvent: map[string]any{}},
	}
	if sid != "" {
		claims["sid"] = sid
	}
	if sub != "" {
		claims["sub"] = sub
	}
	return claims
}

// SignPayload is SignAs for claims that are JSON already, or no JSON at all.
func (p *Provider) SignPayload(typ string, payload []byte) string {
	return SignWith(p.key, payload, typed(typ))
}

// SignAs makes a JWT of a type with the provider's key.
func (p *Provider) SignAs(typ string, claims map[string]any) string { return sign(p.key, typ, claims) }

// Forge makes a logout token with a key that is not the provider's.
func Forge(alg jose.SignatureAlgorithm, key any, claims map[string]any) string {
	return sign(jose.SigningKey{Algorithm: alg, Key: key}, "logout+jwt", claims)
}

func sign(key jose.SigningKey, typ string, claims map[string]any) string {
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return SignWith(key, payload, typed(typ))
}

func typed(typ string) map[jose.HeaderKey]any {
	if typ == "" {
		return nil
	}
	return map[jose.HeaderKey]any{jose.HeaderType: typ}
}
