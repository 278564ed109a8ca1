package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/markbates/goth"
	"golang.org/x/oauth2"

	"keyturn/auth"
)

// Session is a sign-in under way at an OIDC provider: goth.Session. Marshal keeps what must survive the way through
// the browser; it is kept on the server, for it holds the code verifier.
type Session struct {
	AuthURL  string `json:"auth_url"`
	Nonce    string `json:"nonce"`
	Verifier string `json:"verifier"`

	finished *auth.SignedIn
}

// GetAuthURL implements goth.Session.
func (s *Session) GetAuthURL() (string, error) {
	if s.AuthURL == "" {
		return "", errors.New(goth.NoAuthUrlErrorMessage)
	}
	return s.AuthURL, nil
}

// Marshal implements goth.Session.
func (s *Session) Marshal() string {
	text, err := json.Marshal(s)
	if err != nil {
		return ""
	}
	return string(text)
}

// Authorize implements goth.Session: Finish, without a context.
func (s *Session) Authorize(provider goth.Provider, params goth.Params) (string, error) {
	p, ok := provider.(Provider)
	if !ok {
		return "", fmt.Errorf("authorize: %s is no provider of ours", provider.Name())
	}
	callback := url.Values{}
	for _, name := range []string{"code", "state", "iss", "error", "error_description"} {
		if value := params.Get(name); value != "" {
			callback.Set(name, value)
		}
	}
	done, err := p.Finish(context.Background(), s, callback)
	if err != nil {
		return "", err
	}
	s.finished = &done
	return done.Answer.Access.Reveal(), nil
}

// Name implements goth.Provider.
func (p *OIDC) Name() string { return p.config.Name }

// SetName implements goth.Provider. The name is part of the callback URL and comes from the configuration, so this does
// nothing.
func (p *OIDC) SetName(string) {}

// Debug implements goth.Provider and does nothing.
func (p *OIDC) Debug(bool) {}

// BeginAuth implements goth.Provider: Begin, without a context.
func (p *OIDC) BeginAuth(state string) (goth.Session, error) {
	return p.Begin(context.Background(), state, "", "")
}

// UnmarshalSession implements goth.Provider.
func (p *OIDC) UnmarshalSession(text string) (goth.Session, error) {
	s := &Session{}
	if err := json.Unmarshal([]byte(text), s); err != nil {
		return nil, errors.New("unmarshal session: not what Marshal wrote")
	}
	return s, nil
}

// FetchUser implements goth.Provider: who signed in, once the session is authorized.
func (p *OIDC) FetchUser(session goth.Session) (goth.User, error) {
	s, ok := session.(*Session)
	if !ok {
		return goth.User{}, errors.New("fetch user: session of another provider")
	}
	return gothUser(p.config, s.finished)
}

// gothUser is a finished sign-in as goth knows it.
func gothUser(config Config, finished *auth.SignedIn) (goth.User, error) {
	if finished == nil {
		return goth.User{}, errors.New("fetch user: the session is not authorized")
	}
	identity, tokens := finished.Identity, finished.Answer.TokenSet(auth.TokenSet{}, config.AssumedLifetime)
	return goth.User{
		RawData: identity.Claims, Provider: config.Name, UserID: identity.Subject, Name: identity.Name, Email: identity.Email,
		AvatarURL: identity.Picture, AccessToken: tokens.Access.Reveal(), RefreshToken: tokens.Refresh.Reveal(),
		ExpiresAt: tokens.ExpiresAt, IDToken: finished.IDToken.Reveal(),
	}, nil
}

// RefreshTokenAvailable implements goth.Provider.
func (p *OIDC) RefreshTokenAvailable() bool { return true }

// RefreshToken implements goth.Provider: one call of the token endpoint. Keyturn itself renews through auth.Rotator, which
// sees to it that a refresh token is presented once.
func (p *OIDC) RefreshToken(refreshToken string) (*oauth2.Token, error) {
	return gothToken(p, p.config, p.options, refreshToken)
}

func gothToken(p auth.Provider, config Config, options Options, refreshToken string) (*oauth2.Token, error) {
	ctx, cancel := context.WithTimeout(context.Background(), options.RenewTimeout)
	defer cancel()
	before := auth.TokenSet{Refresh: auth.Secret(refreshToken)}
	answer, err := p.Renew(ctx, before, true)
	if err != nil {
		return nil, err
	}
	tokens := answer.TokenSet(before, config.AssumedLifetime)
	return &oauth2.Token{
		AccessToken: tokens.Access.Reveal(), RefreshToken: tokens.Refresh.Reveal(), TokenType: tokens.Type, Expiry: tokens.ExpiresAt,
	}, nil
}
