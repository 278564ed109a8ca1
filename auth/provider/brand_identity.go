package provider

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/markbates/goth"
	"golang.org/x/oauth2"

	"keyturn/auth"
)

var errUnexpected = errors.New("the answer was not what it should be")

// signedIn is the outcome of a sign-in. What goth writes where a brand told nothing ("No email is provided by …") is left
// out.
func (b *brand) signedIn(user goth.User, answer auth.Answer) (auth.SignedIn, error) {
	subject := user.UserID
	if b.entry.subject != nil {
		subject = b.entry.subject(user)
	}
	if subject == "" || subject == "0" { // a profile without a number is 0 in goth, for everybody
		return auth.SignedIn{}, signInError(CodeNoSubject, "the provider did not say who signed in")
	}
	if !auth.IsID(subject) {
		return auth.SignedIn{}, signInError(CodeNoSubject, "the person's id is longer than 255 characters, or holds one that cannot be printed")
	}
	secrets := answer.Secrets()
	identity := auth.Identity{
		Provider: b.config.Name, Issuer: b.entry.origin(b.config), Subject: subject, Claims: auth.WithoutSecrets(user.RawData, secrets...),
	}
	if name := cmp.Or(strings.TrimSpace(user.Name), user.NickName); !auth.Holds(name, secrets...) {
		identity.Name = name
	}
	if strings.Contains(user.Email, "@") && !b.entry.noEmail && !auth.Holds(user.Email, secrets...) {
		identity.Email = user.Email
	}
	if u, err := url.Parse(user.AvatarURL); err == nil && u.Scheme == "https" && !auth.Holds(user.AvatarURL, secrets...) {
		identity.Picture = user.AvatarURL
	}
	return auth.SignedIn{Answer: answer, Identity: identity}, nil // without an IDToken: goth verifies none
}

// errorCode is what of an error of goth's may be shown: its text can hold whole answers, tokens included.
func errorCode(err error) string {
	var refusal *oauth2.RetrieveError
	switch {
	case errors.As(err, &refusal) && refusal.ErrorCode != "":
		return refusal.ErrorCode
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	default:
		return "the provider's answer was not what it should be"
	}
}

// profileCalls carries goth's own calls: never in the clear, and with the access token in a header where the brand takes it
// there.
type profileCalls struct {
	next   http.RoundTripper
	bearer bool
}

// RoundTrip implements http.RoundTripper.
func (c profileCalls) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if r.Header.Get("User-Agent") == "" {
		r.Header.Set("User-Agent", "Keyturn")
	}
	encrypt(r.URL)
	if query := r.URL.Query(); c.bearer && query.Has("access_token") {
		r.Header.Set("Authorization", "Bearer "+query.Get("access_token"))
		query.Del("access_token")
		r.URL.RawQuery = query.Encode()
	}
	return c.next.RoundTrip(r)
}

// encrypt turns an address in the clear into an encrypted one: Steam's and Last.fm's in goth are of long ago.
func encrypt(u *url.URL) {
	if !encrypted(u) {
		u.Scheme = "https"
	}
}

// BoundDefaultTransport is what http.DefaultTransport should be in a program that uses these providers: the few of goth's
// that cannot be given a client use that one. It bounds each call and each answer, and follows the rules of profileCalls.
func BoundDefaultTransport(options Options) http.RoundTripper {
	return profileCalls{next: limited{inTimeCalls{backChannel(options, 0).Transport, defaultCallTimeout}}}
}

// defaultCallTimeout bounds a call with the default transport, with the reading of its answer.
const defaultCallTimeout = 20 * time.Second

// inTimeCalls bounds each call, as the time-out of a client would.
type inTimeCalls struct {
	next    http.RoundTripper
	timeout time.Duration
}

// RoundTrip implements http.RoundTripper.
func (c inTimeCalls) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(r.Context(), c.timeout)
	response, err := c.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	response.Body = closing{response.Body, cancel}
	return response, nil
}

// closing is a body with which the bound of its call ends.
type closing struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close implements io.Closer.
func (c closing) Close() error {
	defer c.cancel()
	return c.ReadCloser.Close()
}

// issued implements origin.
func (b *brand) issued(issuer string) bool { return b.entry.issued(b.config, issuer) }

// WantsConsent implements Provider: the table has what a brand needs.
func (b *brand) WantsConsent(context.Context) bool { return false }

// Renew implements auth.Provider.
func (b *brand) Renew(ctx context.Context, tokens auth.TokenSet, withScope bool) (auth.Answer, error) {
	endpoint := b.entry.tokenURL
	if b.entry.renewURL != nil {
		endpoint = b.entry.renewURL
	}
	if endpoint == nil {
		return auth.Answer{}, &auth.ProviderError{Failure: auth.Failure{Code: auth.CodeNotRenewable}}
	}
	form := renewalForm(b.config, tokens, withScope)
	answer, err := b.client(endpoint, nil).Exchange(ctx, form, tokens.Secrets()...)
	answer.ID = ""
	return asAskedFor(form, answer), err
}

// VerifyIDToken implements auth.Provider. Renew lets no id token through to it.
func (b *brand) VerifyIDToken(context.Context, *auth.Grant, auth.Secret, bool) (map[string]any, error) {
	return nil, errors.New("id tokens of this provider are not verified")
}

// Revoke implements auth.Provider.
func (b *brand) Revoke(ctx context.Context, tokens auth.TokenSet) error {
	if b.entry.revokeURL == nil {
		return nil
	}
	return revoke(ctx, b.client(b.entry.tokenURL, nil), b.entry.revokeURL(b.config.Extra), tokens)
}

// EndSessionURL implements Provider; where there is such a thing the brand is an OpenID provider.
func (b *brand) EndSessionURL(context.Context, auth.Secret, string, string) string { return "" }

// Origins implements Provider.
func (b *brand) Origins(context.Context) []string { return nil }
