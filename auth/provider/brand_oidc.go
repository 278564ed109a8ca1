package provider

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/markbates/goth"

	"keyturn/auth"
	"keyturn/auth/keyfile"
)

// preset is the generic OpenID provider with what a brand needs filled in.
type preset struct {
	*OIDC
	entry brandEntry
}

var (
	_ Provider  = (*preset)(nil)
	_ OwnAnswer = (*preset)(nil)
)

// issuerFor is the brand as an OpenID provider, or "" when goth's way is asked for: by scopes without openid.
func (e brandEntry) issuerFor(config Config) string {
	if e.issuer == nil || !slices.Contains(config.Scopes, oidc.ScopeOpenID) {
		return ""
	}
	return e.issuer(config.Extra)
}

func newPreset(config Config, options Options, entry brandEntry, issuer string) (Provider, error) {
	config.Issuer = issuer
	params := maps.Clone(entry.params)
	if params == nil {
		params = map[string]string{}
	}
	maps.Copy(params, config.AuthParams)
	config.AuthParams = params
	if entry.secret != nil {
		mint, err := entry.secret(config)
		if err != nil {
			return nil, err
		}
		config.mintSecret, config.ClientAuth = mint, entry.auth
	}
	p, err := NewOIDC(config, options)
	if err != nil {
		return nil, err
	}
	if entry.revokeURL != nil {
		p.revocationURL = entry.revokeURL(config.Extra)
	}
	p.tokens.Transport = &translator{dialect: entry.dialect, next: p.tokens.Transport}
	return &preset{p, entry}, nil
}

// issued implements origin.
func (p *preset) issued(issuer string) bool { return p.entry.issued(p.config, issuer) }

// RevokesConsent implements auth.Provider.
func (p *preset) RevokesConsent() bool { return p.entry.withdraws }

// Answers implements OwnAnswer.
func (p *preset) Answers(parameter string) bool {
	return p.entry.answers != nil && p.entry.answers(parameter)
}

// Finish implements Provider.
func (p *preset) Finish(ctx context.Context, session goth.Session, callback url.Values) (auth.SignedIn, error) {
	done, err := p.OIDC.Finish(ctx, session, callback)
	if err == nil && done.Identity.Name == "" && p.entry.names != nil {
		done.Identity.Name = short(p.entry.names(callback))
	}
	return done, err
}

// appleAnswers: at the first sign-in Apple's answer says who the person is.
func appleAnswers(parameter string) bool { return parameter == "user" }

// appleName is what a person has told Apple to be called. It is in no id token.
func appleName(callback url.Values) string {
	var user struct {
		Name struct{ FirstName, LastName string }
	}
	if json.Unmarshal([]byte(callback.Get("user")), &user) != nil {
		return ""
	}
	return strings.TrimSpace(user.Name.FirstName + " " + user.Name.LastName)
}

// EndSessionURL implements Provider, with what the brand calls things, or where it ends sessions without announcing that.
func (p *preset) EndSessionURL(ctx context.Context, idToken auth.Secret, returnTo, state string) string {
	announced := p.OIDC.EndSessionURL(ctx, idToken, returnTo, state)
	if announced == "" && p.entry.logoutURL != nil {
		return p.entry.logoutURL(p.config.Extra, p.config.ClientID, returnTo)
	}
	u, err := url.Parse(announced)
	if err != nil || announced == "" || p.entry.logoutKey == "" {
		return announced
	}
	query := u.Query()
	query.Set(p.entry.logoutKey, returnTo)
	query.Del("post_logout_redirect_uri")
	u.RawQuery = query.Encode()
	return u.String()
}

const appleSecretLifetime = 5 * time.Minute // Apple allows six months; it is used at once

// appleSecret makes Apple's client secrets: JWTs signed with the key that Apple gave, which run out.
func appleSecret(c Config) (func(now time.Time) auth.Secret, error) {
	path := c.Extra["key_file"]
	unusable := func(why error) error {
		var system *fs.PathError
		if errors.As(why, &system) {
			why = fmt.Errorf("cannot be read (%w)", system.Err)
		}
		_, allowed := extraRule("key_file")
		return &SettingError{"key_file", path, why.Error() + "; allowed: " + allowed}
	}
	text, _, err := keyfile.ReadPrivate(path)
	if err != nil {
		return nil, unusable(err)
	}
	key, err := es256Key(text)
	if err != nil {
		return nil, unusable(err)
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", c.Extra["key_id"]))
	if err != nil {
		return nil, err
	}
	return func(now time.Time) auth.Secret {
		claims, err := json.Marshal(map[string]any{
			"iss": c.Extra["team_id"], "sub": c.ClientID, "aud": "https://appleid.apple.com",
			"iat": now.Unix(), "exp": now.Add(appleSecretLifetime).Unix(),
		})
		if err != nil {
			return ""
		}
		signed, err := signer.Sign(claims)
		if err != nil {
			return ""
		}
		secret, err := signed.CompactSerialize()
		if err != nil {
			return ""
		}
		return auth.Secret(secret)
	}, nil
}

// es256Key reads a PKCS #8 key of the curve P-256 (RFC 7518 section 3.4).
func es256Key(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("holds no PEM block")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("holds no PKCS #8 key")
	}
	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok || signer.Curve != elliptic.P256() {
		return nil, errors.New("holds no key of the curve P-256")
	}
	return signer, nil
}
