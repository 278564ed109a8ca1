package provider

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/sync/singleflight"

	"keyturn/auth"
)

const (
	discoveryTimeout = 10 * time.Second
	maxDocument      = 1 << 20
)

// metadata is what discovery told (OpenID Connect Discovery section 3, RFC 8414, RP-Initiated Logout, RFC 9207).
type metadata struct {
	oidc     *oidc.Provider
	keys     keys
	verifier *oidc.IDTokenVerifier

	clientAuthMetadata
	Issuer             string   `json:"issuer"`
	AuthorizationURL   string   `json:"authorization_endpoint"`
	TokenURL           string   `json:"token_endpoint"`
	JWKSURL            string   `json:"jwks_uri"`
	UserInfoURL        string   `json:"userinfo_endpoint"`
	RevocationURL      string   `json:"revocation_endpoint"`
	EndSessionURL      string   `json:"end_session_endpoint"`
	IntrospectionURL   string   `json:"introspection_endpoint"`
	Scopes             []string `json:"scopes_supported"`
	IssInAuthorization bool     `json:"authorization_response_iss_parameter_supported"`
}

// discovery finds a provider's metadata when it is first needed, and again after it failed. It is safe for concurrent
// use.
type discovery struct {
	issuer string
	client *http.Client

	calls singleflight.Group
	mu    sync.Mutex
	found *metadata
}

// known returns the metadata if it has been found already.
func (d *discovery) known() *metadata {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.found
}

// get returns the metadata, asking the provider if need be. One call serves all who wait, and outlives them.
func (d *discovery) get(ctx context.Context) (*metadata, error) {
	if found := d.known(); found != nil {
		return found, nil
	}
	call := d.calls.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discoveryTimeout)
		defer cancel()
		found, err := d.discover(ctx)
		if err != nil {
			return nil, err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.found = found
		return found, nil
	})
	select {
	case result := <-call:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*metadata), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d *discovery) discover(ctx context.Context) (*metadata, error) {
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, d.client), d.issuer)
	if err != nil {
		return nil, fmt.Errorf("discovery at %s: %w", d.issuer, err)
	}
	m := &metadata{oidc: provider}
	if err := provider.Claims(m); err != nil {
		return nil, fmt.Errorf("discovery at %s: %w", d.issuer, err)
	}
	if err := m.check(d.issuer); err != nil {
		return nil, fmt.Errorf("discovery at %s: %w", d.issuer, err)
	}
	return m, nil
}

// check refuses metadata that would send a secret in the clear.
func (m *metadata) check(issuer string) error {
	for name, endpoint := range map[string]string{
		"authorization_endpoint": m.AuthorizationURL, "token_endpoint": m.TokenURL, "jwks_uri": m.JWKSURL,
		"userinfo_endpoint": m.UserInfoURL, "revocation_endpoint": m.RevocationURL, "end_session_endpoint": m.EndSessionURL,
		"introspection_endpoint": m.IntrospectionURL,
	} {
		optional := name != "authorization_endpoint" && name != "token_endpoint" && name != "jwks_uri"
		if endpoint == "" && optional {
			continue
		}
		u, err := url.Parse(endpoint)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return fmt.Errorf("%s is no URL", name)
		}
		if u.Scheme == "http" && strings.HasPrefix(issuer, "https:") {
			return fmt.Errorf("%s is not https", name)
		}
	}
	return nil
}

// scopes are the configured ones. Of the default ones, those that the provider does not announce are left out: Google and
// Cognito refuse a sign-in over offline_access.
func (m *metadata) scopes(config Config) []string {
	if len(m.Scopes) == 0 || !slices.Equal(config.Scopes, DefaultScopes()) {
		return config.Scopes
	}
	return slices.DeleteFunc(DefaultScopes(), func(scope string) bool {
		return scope != oidc.ScopeOpenID && !slices.Contains(m.Scopes, scope)
	})
}

// keys is the provider's key set. It notes, in the caller's context, when the keys could not be fetched: go-oidc's
// verifier does not pass that on as an error that can be told from a bad signature.
type keys struct{ remote *oidc.RemoteKeySet }

type keysUnavailable struct{}

// VerifySignature implements oidc.KeySet.
func (k keys) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := k.remote.VerifySignature(ctx, jwt)
	if noted, ok := ctx.Value(keysUnavailable{}).(*bool); ok && err != nil {
		*noted = strings.HasPrefix(err.Error(), "fetching keys")
	}
	return payload, err
}

// verified is an id token whose signature, audience, expiry and issue time are right, with its claims.
type verified struct {
	token  *oidc.IDToken
	claims map[string]any
}

// verify checks an id token as far as that needs no knowledge of a particular sign-in (OpenID Connect Core 3.1.3.7).
// The issuer is left to the caller, to whom a wrong one means different things.
func (m *metadata) verify(ctx context.Context, config Config, idToken, accessToken auth.Secret, now time.Time) (verified, error) {
	unavailable := false
	ctx = context.WithValue(ctx, keysUnavailable{}, &unavailable)
	token, err := m.verifier.Verify(ctx, idToken.Reveal())
	if unavailable {
		return verified{}, auth.ErrKeysUnavailable
	}
	if err != nil {
		return verified{}, err
	}
	v := verified{token: token}
	if err := token.Claims(&v.claims); err != nil {
		return verified{}, err
	}
	azp, hasAZP := v.claims["azp"]
	_, hasIssuedAt := v.claims["iat"].(float64)
	switch {
	case token.Subject == "":
		return verified{}, fmt.Errorf("id token has no sub")
	case len(token.Subject) > 255:
		return verified{}, fmt.Errorf("id token's sub is longer than 255 characters")
	case !hasIssuedAt || token.IssuedAt.Unix() <= 0:
		return verified{}, fmt.Errorf("id token has no iat")
	case token.IssuedAt.After(now.Add(clockSkew)):
		return verified{}, fmt.Errorf("id token was issued in the future")
	case hasAZP && azp != config.ClientID:
		return verified{}, fmt.Errorf("id token's azp is not this client")
	case !hasAZP && len(token.Audience) > 1:
		return verified{}, fmt.Errorf("id token has several audiences and no azp")
	case token.AccessTokenHash != "" && token.VerifyAccessToken(accessToken.Reveal()) != nil:
		return verified{}, fmt.Errorf("id token's at_hash is not of the access token")
	}
	return v, nil
}

// clockSkew is how far a provider's clock may be ahead of ours.
const clockSkew = 5 * time.Minute

// limited bounds what is read of any answer.
type limited struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := l.next.RoundTrip(r)
	if err == nil {
		response.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(response.Body, maxDocument), response.Body}
	}
	return response, err
}

// textOf is a claim that is a string, else "".
func textOf(claims map[string]any, name string) string {
	s, _ := claims[name].(string)
	return s
}

// sameClaim compares a claim's values as JSON.
func sameClaim(a, b any) bool {
	left, err := json.Marshal(a)
	right, err2 := json.Marshal(b)
	return err == nil && err2 == nil && string(left) == string(right)
}
