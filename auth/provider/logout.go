package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"keyturn/auth"
)

const (
	logoutEvent = "http://schemas.openid.net/event/backchannel-logout"
	// maxLogoutAge is how old a logout token may be: it is sent when the session ends, and only the clocks differ.
	maxLogoutAge = clockSkew
)

// BackChannel is a provider that tells when a session of its own is over. Implementations are safe for concurrent use.
type BackChannel interface {
	// VerifyLogout checks a logout token (OpenID Connect Back-Channel Logout 1.0 section 2.6) as far as that needs no memory: that it
	// was not used before is the caller's to see. The error is auth.ErrKeysUnavailable when the provider's keys are out of reach.
	VerifyLogout(ctx context.Context, token string) (auth.Logout, error)
}

var _ BackChannel = (*OIDC)(nil)

// VerifyLogout implements BackChannel.
func (p *OIDC) VerifyLogout(ctx context.Context, token string) (auth.Logout, error) {
	header, ok := auth.ParseJWT(auth.Secret(token))
	if !ok || header.Encrypted {
		return auth.Logout{}, errors.New("the logout token is no signed JWT")
	}
	if err := checkLogoutType(header.Header); err != nil {
		return auth.Logout{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, discoveryTimeout)
	defer cancel()
	m, err := p.metadata(ctx)
	if err != nil {
		return auth.Logout{}, fmt.Errorf("%w: %w", auth.ErrKeysUnavailable, err)
	}
	resting := p.discovery.lately(true) != nil
	var verified *oidc.LogoutToken
	m, err = p.proven(ctx, m, keyUse{stranger: true}, func(m *metadata, use *keyUse) (err error) {
		verified, err = m.logoutVerifier.VerifyLogout(use.in(ctx), token)
		use.unfit = use.unfit || m.lacks(auth.Secret(token))
		if use.unavailable != nil {
			return auth.ErrKeysUnavailable
		}
		return err
	})
	switch {
	case err != nil && resting && m.lacks(auth.Secret(token)):
		// The provider may announce it by now, and sends again what could not be judged.
		return auth.Logout{}, fmt.Errorf("%w: the metadata was read a moment ago, and does not announce the algorithm", auth.ErrKeysUnavailable)
	case err != nil:
		return auth.Logout{}, err
	case verified.Issuer != m.Issuer:
		return auth.Logout{}, errors.New("the logout token is of another issuer")
	}
	var claims struct {
		Events map[string]json.RawMessage `json:"events"`
	}
	if err := verified.Claims(&claims); err != nil {
		return auth.Logout{}, errors.New("the logout token's events are no object")
	}
	now := p.options.Now()
	switch age := now.Sub(verified.IssuedAt); {
	case !strings.HasPrefix(strings.TrimSpace(string(claims.Events[logoutEvent])), "{"):
		return auth.Logout{}, errors.New("the logout token's event is no object")
	case verified.IssuedAt.Unix() <= 0:
		return auth.Logout{}, errors.New("the logout token has no iat")
	case age > maxLogoutAge:
		return auth.Logout{}, errors.New("the logout token is too old")
	case age < -clockSkew:
		return auth.Logout{}, errors.New("the logout token was issued in the future")
	case !auth.IsID(verified.Subject) || !auth.IsID(verified.SessionID) || !auth.IsID(verified.TokenID):
		return auth.Logout{}, errors.New("the logout token's sub, sid or jti is longer than 255 characters, or holds one that cannot be printed")
	}
	return auth.Logout{
		Session: auth.ProviderSession{Provider: p.config.Name, SID: verified.SessionID, Subject: verified.Subject},
		Issuer:  verified.Issuer, ID: verified.TokenID,
		// A minute more, for replicas whose clocks differ.
		Until: verified.IssuedAt.Add(maxLogoutAge + time.Minute),
	}, nil
}

// checkLogoutType refuses JWTs that say they are something else: section 2.4 recommends logout+jwt, and many providers write JWT
// or nothing.
func checkLogoutType(header map[string]any) error {
	if typ, present := typeOf(header); present && typ != "jwt" && typ != "logout+jwt" {
		return errors.New("the logout token's typ is of another kind of token")
	}
	return nil
}

// logoutKeys gives logout tokens without an exp one: the specification's drafts had none, and servers in use go by them (Ory Hydra 2.3,
// Glewlwyd 2.7, oidc-provider 7). How old one may be is bounded in any case.
type logoutKeys struct{ oidc.KeySet }

// VerifySignature implements oidc.KeySet.
func (k logoutKeys) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := k.KeySet.VerifySignature(ctx, token)
	var claims map[string]json.RawMessage
	var issuedAt float64
	if err != nil || json.Unmarshal(payload, &claims) != nil || json.Unmarshal(claims["iat"], &issuedAt) != nil {
		return payload, err
	}
	for name := range claims {
		if strings.EqualFold(name, "exp") { // as encoding/json reads it
			return payload, nil
		}
	}
	rest, _ := bytes.CutPrefix(bytes.TrimSpace(payload), []byte("{"))
	return fmt.Appendf(nil, `{"exp":%d,%s`, int64(issuedAt)+int64(maxLogoutAge/time.Second), rest), nil
}
