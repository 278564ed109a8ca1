package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"keyturn/auth"
)

const (
	// clockSkew is how far a provider's clock may be ahead of ours.
	clockSkew = 5 * time.Minute
	// lastSecond is the end of the year 9999: no expiry is later.
	lastSecond = 253402300799
)

// verified is an id token whose signature, audience, expiry and issue time are right, with its claims.
type verified struct {
	token  *oidc.IDToken
	claims auth.Claims
}

// verify checks the id token of an answer as far as that needs no knowledge of a particular sign-in (OpenID Connect Core 3.1.3.7).
// The issuer is left to the caller, to whom a wrong one means different things.
func (m *metadata) verify(
	ctx context.Context, config Config, answer auth.Answer, now time.Time, use *keyUse,
) (_ verified, err error) {
	defer calm(&err)
	idToken := answer.ID
	token, err := m.verifier.Verify(use.in(ctx), idToken.Reveal())
	if use.unavailable != nil {
		return verified{}, fmt.Errorf("%w: %w", auth.ErrKeysUnavailable, use.unavailable)
	}
	if err != nil {
		use.unfit = use.unfit || m.lacks(idToken)
		switch alg := algOf(idToken); {
		case strings.Count(idToken.Reveal(), ".") == 4: // RFC 7516 section 3.1
			err = errors.New("id token is encrypted: register the client there without id_token_encrypted_response_alg")
		case alg != "" && len(accepted([]string{alg})) == 0:
			err = fmt.Errorf("id token is signed with %s, which proves nothing: register the client there for %s (id_token_signed_response_alg)",
				short(alg), strings.Join(m.algs, " or "))
		}
		return verified{}, err
	}
	token.Issuer = auth.CanonicalIssuer(token.Issuer)
	v := verified{token: token}
	var raw json.RawMessage
	if err := errors.Join(token.Claims(&raw), token.Claims(&v.claims), exactMembers(raw, answer.Secrets()...)); err != nil {
		return verified{}, err
	}
	azp, hasAZP := v.claims["azp"]
	_, hasIssuedAt := v.claims["iat"].(float64)
	expiry, hasExpiry := v.claims["exp"].(float64)
	switch {
	case ofAnotherKind(idToken):
		return verified{}, errors.New("id token's typ is of another kind of token")
	case token.Subject == "":
		return verified{}, errors.New("id token has no sub")
	case !auth.IsID(token.Subject):
		return verified{}, errors.New("id token's sub is longer than 255 characters, or holds one that cannot be printed")
	case !hasExpiry || expiry > lastSecond:
		return verified{}, errors.New("id token's exp is no time")
	case !hasIssuedAt || token.IssuedAt.Unix() <= 0:
		return verified{}, errors.New("id token has no iat")
	case token.IssuedAt.After(now.Add(clockSkew)):
		return verified{}, errors.New("id token was issued in the future")
	case hasAZP && azp != config.ClientID:
		return verified{}, errors.New("id token's azp is not this client")
	case !hasAZP && len(token.Audience) > 1:
		return verified{}, errors.New("id token has several audiences and no azp")
	case names(v.claims, "at_hash") && token.VerifyAccessToken(answer.Access.Reveal()) != nil:
		return verified{}, errors.New("id token's at_hash is not of the access token")
	}
	return v, nil
}

// ofAnotherKind says that a JWT's header names another kind of token than an id token (RFC 8725 section 3.11). That has no typ of its own,
// and providers write all sorts of words; but what ends as the names of kinds do is one.
func ofAnotherKind(idToken auth.Secret) bool {
	jwt, _ := auth.ParseJWT(idToken)
	typ, _ := typeOf(jwt.Header)
	kind, named := strings.CutSuffix(typ, "+jwt")
	return named && !slices.Contains([]string{"id", "id_token", "id-token", "idtoken"}, kind)
}

// typeOf is a JWT header's typ in small letters, without the prefix that RFC 7515 section 4.1.9 recommends to leave out.
func typeOf(header map[string]any) (typ string, present bool) {
	value, present := header["typ"]
	text, _ := value.(string)
	return strings.TrimPrefix(strings.ToLower(text), "application/"), present
}

// exactMembers refuses claims that say one thing twice, or a protocol's claim in other letters: who reads which of them is
// then a matter of the library (RFC 7519 section 4), and encoding/json takes SUB for sub. The error holds none of the secrets.
func exactMembers(object []byte, secrets ...auth.Secret) error {
	decoder := json.NewDecoder(bytes.NewReader(object))
	if first, err := decoder.Token(); err != nil || first != json.Delim('{') {
		return errors.New("the claims are no JSON object")
	}
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return errors.New("the claims are no JSON object")
		}
		said := func() string { return short(auth.Redact(name, secrets...)) }
		exact := func(claim string) bool { return name == claim || !strings.EqualFold(name, claim) }
		for _, claim := range []string{"iss", "sub", "aud", "exp", "iat", "nbf", "nonce", "azp", "at_hash", "auth_time", "events", "jti", "sid"} {
			if !exact(claim) {
				return fmt.Errorf("the claim %s is spelled %q", claim, said())
			}
		}
		if seen[name] {
			return fmt.Errorf("the claims say %q twice", said())
		}
		seen[name] = true
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return errors.New("the claims are no JSON object")
		}
	}
	return nil
}

// isOf checks what only the sign-in that the id token answers to knows (OpenID Connect Core 3.1.3.7, items 2, 11 and 13).
func (v verified) isOf(s *Session, issuer string, config Config, now time.Time) error {
	switch {
	case v.token.Issuer != issuer:
		return errors.New("id token is of another issuer")
	case v.token.Nonce == "" || v.token.Nonce != s.Nonce:
		return errors.New("id token's nonce is not this sign-in's")
	}
	maxAge, err := strconv.Atoi(config.AuthParams["max_age"])
	at, ok := v.claims["auth_time"].(float64)
	if asked := err == nil; asked && (!ok || now.Sub(time.Unix(int64(at), 0)) > time.Duration(maxAge)*time.Second+clockSkew) {
		return errors.New("id token does not say that the person was seen as lately as max_age asks for")
	}
	return nil
}

// VerifyIDToken implements auth.Provider: an id token of a renewal against the one of the sign-in (OpenID Connect Core
// 12.2).
func (p *OIDC) VerifyIDToken(ctx context.Context, g *auth.Grant, idToken auth.Secret, fetch bool) (_ map[string]any, err error) {
	defer calm(&err)
	if !fetch && p.discovery.known() == nil {
		return nil, auth.ErrKeysUnavailable
	}
	m, err := p.metadata(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", auth.ErrKeysUnavailable, err)
	}
	answer := auth.Answer{ID: idToken, Access: g.PendingAccess(), Refresh: g.Tokens.Refresh}
	var v verified
	if _, err = p.proven(ctx, m, keyUse{known: !fetch}, func(m *metadata, use *keyUse) (err error) {
		v, err = m.verify(ctx, p.config, answer, p.options.Now(), use)
		return err
	}); err != nil {
		return nil, err
	}
	if v.token.Issuer == "" {
		return nil, errors.New("id token has no iss")
	}
	if v.token.Issuer != g.Identity.Issuer || v.token.Subject != g.Identity.Subject {
		return nil, auth.ErrOtherIdentity
	}
	differs := func(name string) bool {
		now, present := v.claims[name]
		before, had := g.Identity.Claims[name]
		return present && had && !sameClaim(now, before) || name != "auth_time" && present && !had
	}
	for _, name := range []string{"auth_time", "azp"} {
		if differs(name) {
			return nil, fmt.Errorf("id token's %s is not the sign-in's", name)
		}
	}
	if before, had := g.Identity.Claims["aud"]; had && !sameClaim(audience(before), audience(v.claims["aud"])) {
		return nil, errors.New("id token's aud is not the sign-in's")
	}
	if before, ok := g.Identity.Claims["iat"].(float64); ok && v.token.IssuedAt.Unix() < int64(before)-int64(clockSkew/time.Second) {
		return nil, errors.New("id token was issued before the one that it replaces")
	}
	if differs("nonce") {
		return nil, auth.ErrOtherNonce
	}
	return v.claims, nil
}

// audience is an aud claim's values in order: one alone may be a string.
func audience(claim any) []string {
	list, ok := claim.([]any)
	if !ok {
		list = []any{claim}
	}
	var values []string
	for _, value := range list {
		text, _ := value.(string)
		values = append(values, text)
	}
	slices.Sort(values)
	return slices.Compact(values)
}

// textOf is a claim that is a string, else "".
func textOf(claims map[string]any, name string) string {
	s, _ := claims[name].(string)
	return s
}

// sameClaim compares a claim's values as JSON.
func sameClaim(a, b any) bool {
	if text, ok := a.(string); ok {
		return b == text
	}
	left, err := json.Marshal(a)
	right, err2 := json.Marshal(b)
	return err == nil && err2 == nil && string(left) == string(right)
}
