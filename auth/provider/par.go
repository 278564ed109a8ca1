package provider

import (
	"context"
	"errors"
	"net/url"

	"keyturn/auth"
	"keyturn/auth/tokenendpoint"
)

// pushes is what the metadata says of pushed authorization requests (RFC 9126 section 5) and of signed ones (RFC 9101 section 10.5).
type pushes struct {
	PushURL      string `json:"pushed_authorization_request_endpoint"`
	PushRequired bool   `json:"require_pushed_authorization_requests"`
	SignRequired bool   `json:"require_signed_request_object"`
}

// pushed hands an authorization request to a provider that takes it from the client itself only, and returns the URL that stands for it
// (RFC 9126 section 4). To others, the browser carries it. The error is a *SignInError.
func (p *OIDC) pushed(ctx context.Context, m *metadata, target string) (string, error) {
	if !m.PushRequired || m.PushURL == "" {
		return target, nil
	}
	request, err := url.Parse(target)
	endpoint, err2 := url.Parse(m.AuthorizationURL)
	if err != nil || err2 != nil {
		return "", errAuthorizationURL()
	}
	form, query := request.Query(), endpoint.Query()
	for name := range query {
		form.Del(name)
	}
	ctx, cancel := context.WithTimeout(ctx, p.options.RenewTimeout)
	defer cancel()
	requestURI, _, err := asEither(p, m, func(client *tokenendpoint.Client) (string, error) {
		return client.Push(ctx, m.PushURL, form)
	})
	if err != nil {
		failed := &SignInError{Code: CodePushRefused, Detail: err.Error()}
		if refusal := new(auth.ProviderError); errors.As(err, &refusal) {
			failed.Failure = refusal.Failure
		}
		return "", failed
	}
	query.Set("client_id", p.config.ClientID)
	query.Set("request_uri", requestURI)
	endpoint.RawQuery = query.Encode()
	return endpoint.String(), nil
}
