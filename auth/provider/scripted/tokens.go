package scripted

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// renew is the heart of the ledger; p.mu is held.
func (p *Provider) renew(refresh string) map[string]any {
	refused := map[string]any{"error": "invalid_grant", "error_description": "the refresh token " + refresh + " is no good"}
	t := p.refresh[refresh]
	if t == nil || t.family.dead {
		return refused
	}
	if p.Class == Static {
		return p.issue(t.family, refresh, true)
	}
	if t.spentAt.IsZero() {
		t.spentAt = time.Now()
		tokens := p.issue(t.family, "", true)
		t.successor, _ = tokens["refresh_token"].(string)
		return tokens
	}
	next := p.refresh[t.successor]
	within := time.Since(t.spentAt) <= p.Interval && next != nil && next.spentAt.IsZero()
	switch {
	case p.Class == SameSuccessor && within:
		return p.issue(t.family, t.successor, true)
	case p.Class == Sibling && within:
		tokens := p.issue(t.family, "", true)
		t.successor, _ = tokens["refresh_token"].(string)
		return tokens
	case p.Class != Strict:
		t.family.dead = true
	}
	return refused
}

// issue makes an answer; p.mu is held. An empty refresh makes a new refresh token.
func (p *Provider) issue(f *family, refresh string, renewal bool) map[string]any {
	access := p.name("access")
	if p.Access != nil {
		access = p.Access()
	}
	p.access[access] = &token{family: f}
	if refresh == "" {
		refresh = p.name("refresh")
		p.refresh[refresh] = &token{family: f}
	}
	now := time.Now()
	claims := map[string]any{
		"iss": p.URL, "sub": p.Subject, "aud": ClientID, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "name": "Alice", "email": "alice@example.com",
	}
	if !renewal {
		claims["nonce"] = f.nonce
	}
	sum := sha256.Sum256([]byte(access))
	claims["at_hash"] = base64.RawURLEncoding.EncodeToString(sum[:16])
	if p.Claims != nil {
		p.Claims(claims, renewal)
	}
	idToken := p.Sign(claims)
	if p.IDToken != nil {
		idToken = p.IDToken(idToken)
	}
	p.issued = append(p.issued, access, refresh, idToken)
	tokens := map[string]any{
		"access_token": access, "refresh_token": refresh, "id_token": idToken, "token_type": "Bearer", "scope": "openid profile offline_access",
		"expires_in": p.Lifetime.Seconds(),
	}
	if p.NoRefreshToken {
		delete(tokens, "refresh_token")
	}
	if p.Tokens != nil {
		p.Tokens(tokens, renewal)
	}
	return tokens
}

// Sign makes a JWT with the provider's key.
func (p *Provider) Sign(claims map[string]any) string { return p.SignAs("", claims) }

// SignWith signs whatever it is given, with any key and with further members of the header.
func SignWith(key jose.SigningKey, payload []byte, header map[jose.HeaderKey]any) string {
	signer, err := jose.NewSigner(key, &jose.SignerOptions{ExtraHeaders: header})
	if err != nil {
		panic(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		panic(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return text
}

// Key makes a signing key of a private key, and the public one that a key set names. An empty id is left out of both.
func Key(private crypto.Signer, alg jose.SignatureAlgorithm, id string) (jose.SigningKey, jose.JSONWebKey) {
	return jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: private, KeyID: id}},
		jose.JSONWebKey{Key: private.Public(), KeyID: id, Algorithm: string(alg), Use: "sig"}
}

// Rotate has the provider sign with another key from now on, and publish only what it is told to.
func (p *Provider) Rotate(key jose.SigningKey, published ...jose.JSONWebKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.key, p.public = key, jose.JSONWebKeySet{Keys: published}
}

// Mint makes the tokens of a new sign-in without the way through a browser.
func (p *Provider) Mint() map[string]any {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.issue(&family{}, "", false)
}

func (p *Provider) name(kind string) string {
	p.serial++
	return fmt.Sprintf("%s-%d-%s", kind, p.serial, rand.Text())
}
