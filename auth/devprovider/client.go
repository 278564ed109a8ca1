package devprovider

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// client is the one registered client.
type client struct{ *storage }

func (c client) GetID() string                       { return c.config.ClientID }
func (c client) RedirectURIs() []string              { return c.config.RedirectURIs }
func (c client) PostLogoutRedirectURIs() []string    { return c.config.PostLogoutRedirectURIs }
func (c client) ApplicationType() op.ApplicationType { return op.ApplicationTypeWeb }
func (c client) AuthMethod() oidc.AuthMethod         { return oidc.AuthMethodBasic }
func (c client) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}
func (c client) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken, oidc.GrantTypeClientCredentials}
}
func (c client) LoginURL(id string) string {
	return c.loginURL + "?authRequestID=" + url.QueryEscape(id)
}
func (c client) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }
func (c client) IDTokenLifetime() time.Duration      { return max(c.config.TokenLifetime, 5*time.Minute) }
func (c client) DevMode() bool                       { return true }
func (c client) RestrictAdditionalIdTokenScopes() func([]string) []string {
	return func(scopes []string) []string { return scopes }
}
func (c client) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return func(scopes []string) []string { return scopes }
}
func (c client) IsScopeAllowed(string) bool           { return false }
func (c client) IDTokenUserinfoClaimsAssertion() bool { return true }
func (c client) ClockSkew() time.Duration             { return 0 }

// GetClientByClientID implements op.OPStorage.
func (s *storage) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	if id != s.config.ClientID {
		return nil, oidc.ErrInvalidClient().WithDescription("unknown client")
	}
	return client{s}, nil
}

// AuthorizeClientIDSecret implements op.OPStorage.
func (s *storage) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	if !equal(id, s.config.ClientID) || !equal(secret, s.config.ClientSecret) {
		return oidc.ErrInvalidClient().WithDescription("unknown client or wrong secret")
	}
	return nil
}

// ClientCredentials implements op.ClientCredentialsStorage.
func (s *storage) ClientCredentials(ctx context.Context, id, secret string) (op.Client, error) {
	if err := s.AuthorizeClientIDSecret(ctx, id, secret); err != nil {
		return nil, err
	}
	return client{s}, nil
}

// clientRequest is a token request of the client for itself.
type clientRequest struct {
	clientID string
	audience []string
	scopes   []string
}

func (r clientRequest) GetSubject() string    { return r.clientID }
func (r clientRequest) GetAudience() []string { return r.audience }
func (r clientRequest) GetScopes() []string   { return r.scopes }

// ClientCredentialsTokenRequest implements op.ClientCredentialsStorage. The audience asked for comes with the context.
func (s *storage) ClientCredentialsTokenRequest(ctx context.Context, id string, scopes []string) (op.TokenRequest, error) {
	audience := []string{id}
	if asked, ok := ctx.Value(audienceKey{}).(string); ok && asked != "" {
		audience = []string{asked}
	}
	return clientRequest{clientID: id, audience: audience, scopes: scopes}, nil
}

// SetUserinfoFromScopes implements op.OPStorage: the claims of an id token.
func (s *storage) SetUserinfoFromScopes(_ context.Context, info *oidc.UserInfo, subject, _ string, scopes []string) error {
	fill(info, subject, scopes)
	return nil
}

// SetUserinfoFromToken implements op.OPStorage: the userinfo endpoint.
func (s *storage) SetUserinfoFromToken(ctx context.Context, info *oidc.UserInfo, tokenID, subject, _ string) error {
	scopes, _, err := s.liveAccessToken(ctx, tokenID, subject)
	if err != nil {
		return err
	}
	fill(info, subject, scopes)
	return nil
}

func fill(info *oidc.UserInfo, subject string, scopes []string) {
	info.Subject = subject
	person, ok := personNamed(subject)
	if !ok {
		return
	}
	for _, scope := range scopes {
		switch scope {
		case oidc.ScopeProfile:
			info.Name, info.PreferredUsername = person.Label, person.Name
			info.GivenName, info.FamilyName, _ = strings.Cut(person.Label, " ")
		case oidc.ScopeEmail:
			info.Email, info.EmailVerified = person.Email, true
		}
	}
}

// SetIntrospectionFromToken implements op.OPStorage (RFC 7662).
func (s *storage) SetIntrospectionFromToken(ctx context.Context, answer *oidc.IntrospectionResponse, tokenID, subject, clientID string) error {
	scopes, expiry, err := s.liveAccessToken(ctx, tokenID, subject)
	if err != nil {
		return err
	}
	answer.Subject, answer.Scope, answer.ClientID, answer.Issuer = subject, scopes, clientID, s.config.Issuer
	answer.TokenType, answer.Expiration, answer.JWTID = oidc.BearerToken, oidc.FromTime(expiry), tokenID
	return nil
}

// introspect answers for refresh tokens as well (RFC 7662 section 2), which op does not look for. Asking about one spends nothing.
func (p *Provider) introspect(w http.ResponseWriter, r *http.Request) {
	token, clientID, err := op.ParseTokenIntrospectionRequest(r, p.op)
	if err != nil {
		op.RequestError(w, r, oidc.ErrInvalidClient().WithDescription("this takes the client's Basic authentication"), nil)
		return
	}
	if f, spent, err := p.store.familyOf(r.Context(), p.db, token); err == nil && !spent {
		answer := &oidc.IntrospectionResponse{
			Active: true, Subject: f.subject, Scope: strings.Fields(f.scopes), ClientID: clientID, Issuer: p.config.Issuer,
			Expiration: oidc.FromTime(time.UnixMicro(f.until)),
		}
		writeJSON(w, answer)
		return
	}
	p.op.ServeHTTP(w, r)
}

// GetPrivateClaimsFromRequest implements op.CanGetPrivateClaimsFromRequest: the access token says what it is for (RFC 9068 section 2.2.3),
// as the token answer does.
func (s *storage) GetPrivateClaimsFromRequest(_ context.Context, request op.TokenRequest, _ []string) (map[string]any, error) {
	return map[string]any{"scope": strings.Join(request.GetScopes(), " ")}, nil
}

// GetPrivateClaimsFromScopes implements op.OPStorage, which asks GetPrivateClaimsFromRequest instead.
func (s *storage) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return nil, errNotSupported
}

var errNotSupported = errors.New("not supported")

// GetKeyByIDAndClientID implements op.OPStorage; clients have no keys here.
func (s *storage) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errNotSupported
}

// ValidateJWTProfileScopes implements op.OPStorage; there is no JWT profile here.
func (s *storage) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, errNotSupported
}
