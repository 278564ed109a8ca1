package provider

import (
	"errors"
	"net/url"
	"slices"

	"keyturn/auth"
	"keyturn/auth/tokenendpoint"
)

// clientAuthMetadata is what a provider announces about how clients authenticate (RFC 8414 section 2).
type clientAuthMetadata struct {
	TokenAuthMethods         []string `json:"token_endpoint_auth_methods_supported"`
	TokenAuthAlgs            []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	RevocationAuthMethods    []string `json:"revocation_endpoint_auth_methods_supported"`
	RevocationAuthAlgs       []string `json:"revocation_endpoint_auth_signing_alg_values_supported"`
	IntrospectionAuthMethods []string `json:"introspection_endpoint_auth_methods_supported"`
	IntrospectionAuthAlgs    []string `json:"introspection_endpoint_auth_signing_alg_values_supported"`
}

// authMethod chooses how to authenticate at an endpoint that announces the methods: as configured, else by what the client
// has to show. The default of the specification is Basic.
func authMethod(config Config, announced []string) tokenendpoint.AuthMethod {
	switch {
	case config.ClientAuth != "":
		return config.ClientAuth
	case config.ClientKey != nil:
		return tokenendpoint.PrivateKeyJWT
	case config.ClientSecret == "":
		return tokenendpoint.NoAuthentication
	case len(announced) > 0 && !slices.Contains(announced, string(tokenendpoint.ClientSecretBasic)) &&
		slices.Contains(announced, string(tokenendpoint.ClientSecretPost)):
		return tokenendpoint.ClientSecretPost
	default:
		return tokenendpoint.ClientSecretBasic
	}
}

// client is our client of the provider's token endpoint; found is the method that a sign-in found to work, if any.
func (p *OIDC) client(m *metadata, found string) *tokenendpoint.Client {
	return p.clientFor(m, found, m.TokenAuthMethods, m.TokenAuthAlgs)
}

// clientFor is our client of an endpoint that announces methods and signatures. One that announces no methods takes what the
// token endpoint takes: RFC 8414 says Basic, but providers that leave the list out mean the same as there.
func (p *OIDC) clientFor(m *metadata, found string, methods, algs []string) *tokenendpoint.Client {
	if len(methods) == 0 {
		methods = m.TokenAuthMethods
	}
	if len(algs) == 0 {
		algs = m.TokenAuthAlgs
	}
	method := authMethod(p.config, methods)
	// What was found counts as long as the settings leave the choice, and the endpoint announces nothing else.
	switch way := tokenendpoint.AuthMethod(found); {
	case way == tokenendpoint.PrivateKeyJWTForIssuer && method == tokenendpoint.PrivateKeyJWT,
		found != "" && p.config.ClientAuth == "" && p.config.ClientSecret != "" && p.config.ClientKey == nil &&
			(len(methods) == 0 || slices.Contains(methods, found)):
		method = way
	}
	secret := p.config.ClientSecret
	if p.config.mintSecret != nil {
		secret = p.config.mintSecret(p.options.Now())
	}
	return &tokenendpoint.Client{
		HTTP: p.tokens, Protocols: p.speaks, TokenURL: m.TokenURL, ClientID: p.config.ClientID, ClientSecret: secret,
		AuthMethod: method, Issuer: m.Issuer, Key: p.config.ClientKey, KeyAlgs: algs, Now: p.options.Now,
	}
}

// revoker is our client of the revocation endpoint.
func (p *OIDC) revoker(m *metadata, tokens auth.TokenSet) *tokenendpoint.Client {
	return p.clientFor(m, tokens.ClientAuth, m.RevocationAuthMethods, m.RevocationAuthAlgs)
}

// asEither makes a call as the client. A provider that announces Basic may still understand only the other method, and one that takes
// assertions may want to be named by its issuer in them: that is found out where no refresh token can be burned, and the method is to be
// remembered with the grant. method is empty for the one that is announced.
func asEither[T any](p *OIDC, m *metadata, call func(*tokenendpoint.Client) (T, error)) (result T, method string, err error) {
	result, err = call(p.client(m, ""))
	other := p.otherThan(m, err)
	if other == "" {
		return result, "", err
	}
	first := err
	result, err = call(p.client(m, string(other)))
	if codeOf(err) == invalidClient && codeOf(first) != invalidClient {
		err = first // about the request, then, or what the client may do, which only who knows the client looks at
	}
	return result, string(other), err
}

// codeOf is the code of the answer that an error is; empty when it is none.
func codeOf(err error) string {
	refusal := new(auth.ProviderError)
	if !errors.As(err, &refusal) {
		return ""
	}
	return refusal.Failure.Code
}

// otherThan is the method that the provider may understand if not the one that it refused so; empty when it meant something else.
func (p *OIDC) otherThan(m *metadata, refusal error) tokenendpoint.AuthMethod {
	code, post := codeOf(refusal), tokenendpoint.ClientSecretPost
	codes := []string{invalidClient, "invalid_request"}
	if p.encodes() {
		codes = append(codes, "unauthorized_client") // Glewlwyd's word for a secret that it did not decode (RFC 6749 section 2.3.1)
	}
	switch method := authMethod(p.config, m.TokenAuthMethods); {
	case method == tokenendpoint.PrivateKeyJWT && code == invalidClient:
		return tokenendpoint.PrivateKeyJWTForIssuer
	case method == tokenendpoint.ClientSecretBasic && p.config.ClientAuth == "" && slices.Contains(codes, code) &&
		(len(m.TokenAuthMethods) == 0 || slices.Contains(m.TokenAuthMethods, string(post))):
		return post
	}
	return ""
}

// encodes says that Basic authentication writes the client's id and secret otherwise than they are (RFC 6749 section 2.3.1).
func (p *OIDC) encodes() bool {
	pair := p.config.ClientID + p.config.ClientSecret.Reveal()
	return url.QueryEscape(pair) != pair
}

// mayNotDecode says that the provider may have refused the client because it takes its id and secret as they are written, where there is no
// other way to send them.
func (p *OIDC) mayNotDecode(m *metadata, refusal error) bool {
	return slices.Contains([]string{invalidClient, "unauthorized_client"}, codeOf(refusal)) && p.encodes() &&
		authMethod(p.config, m.TokenAuthMethods) == tokenendpoint.ClientSecretBasic && p.otherThan(m, refusal) == ""
}
