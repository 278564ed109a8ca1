package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"

	"keyturn/auth"
)

// withUserInfo adds the userinfo claims (OpenID Connect Core 5.3) to the id token's, which win. An endpoint that does not answer, or
// names no sub as it must (mockoidc's does not), costs only its claims; one that names anything but the id token's costs the sign-in.
func (p *OIDC) withUserInfo(ctx context.Context, m *metadata, v verified, answer auth.Answer) (map[string]any, error) {
	claims := map[string]any{}
	if m.UserInfoURL != "" {
		info, err := p.askUserInfo(ctx, m, answer)
		switch {
		case info != nil && !names(info, "sub"):
			p.options.Log.WarnContext(ctx, "userinfo names no sub; its claims are not used", "provider", p.config.Name)
		case info != nil && textOf(info, "sub") != v.token.Subject:
			return nil, signInError(CodeInvalidUserinfo, "userinfo's sub is not the id token's")
		case err != nil:
			p.options.Log.WarnContext(ctx, "userinfo could not be read; the id token's claims serve", "provider", p.config.Name,
				"error", auth.Redact(err.Error(), answer.Secrets()...))
		default:
			claims = info
			delete(claims, "sid") // a session is the id token's to name
		}
	}
	return auth.NewerClaims(claims, v.claims), nil
}

func names(claims map[string]any, claim string) bool { _, ok := claims[claim]; return ok }

// askUserInfo calls userinfo and reads its claims, plain or signed (OpenID Connect Core 5.3.2). With an error the claims may
// say whom they are about, and are good for nothing else; nil: there was no object of claims.
func (p *OIDC) askUserInfo(ctx context.Context, m *metadata, answer auth.Answer) (claims map[string]any, err error) {
	defer calm(&err)
	ctx, cancel := context.WithTimeout(ctx, p.options.RenewTimeout)
	defer cancel()
	request, err := userInfoRequest(ctx, m, answer.Access)
	if err != nil {
		return nil, err
	}
	response, err := p.documents.Do(request)
	if err != nil {
		return nil, errors.New(reason(err, answer.Secrets()...))
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer has status %d, or broke off", response.StatusCode)
	}
	mediaType, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	signed := err == nil && mediaType == "application/jwt"
	if signed {
		if body, err = m.keys.VerifySignature(ctx, string(body)); err != nil {
			return nil, fmt.Errorf("the signed answer: %w", err)
		}
	}
	var object auth.Claims
	if json.Unmarshal(body, &object) != nil || object == nil {
		return nil, errors.New("the answer is no JSON object")
	}
	if err := exactMembers(body, answer.Secrets()...); err != nil || !signed {
		return object, err
	}
	return object, p.isForUs(object, m.Issuer)
}

// isForUs refuses the claims of a signed answer that name another issuer or audience, or whose time is over. Those that are not there are
// let pass: OpenID Connect Core 5.3.2 asks for iss and aud, and providers leave them out.
func (p *OIDC) isForUs(claims map[string]any, issuer string) error {
	expiry, isTime := claims["exp"].(float64)
	switch {
	case names(claims, "iss") && auth.CanonicalIssuer(textOf(claims, "iss")) != issuer:
		return errors.New("the signed answer is of another issuer")
	case names(claims, "aud") && !slices.Contains(audience(claims["aud"]), p.config.ClientID):
		return errors.New("the signed answer is for another client")
	case names(claims, "exp") && (!isTime || expiry < float64(p.options.Now().Add(-clockSkew).Unix())):
		return errors.New("the signed answer has expired")
	}
	return nil
}

// userInfoRequest carries the access token in the header, the one way that every endpoint must know (RFC 6750 section 2.1).
func userInfoRequest(ctx context.Context, m *metadata, access auth.Secret) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.UserInfoURL, nil)
	if err != nil {
		return nil, errors.New("the endpoint's URL is unusable")
	}
	request.Header.Set("Authorization", "Bearer "+access.Reveal())
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "Keyturn")
	return request, nil
}
