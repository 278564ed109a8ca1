package provider

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"keyturn/auth"
	"keyturn/auth/tokenendpoint"
)

// Errors of an Inspector.
var (
	// ErrNotOffered says that the provider has no such endpoint.
	ErrNotOffered = errors.New("the provider does not offer this")
	// ErrNotSigned says that a token has no signature, or one that no published key can prove.
	ErrNotSigned = errors.New("the token has no signature that a published key can prove")
	// ErrNoKeyFits says that none of the provider's published keys made the signature.
	ErrNoKeyFits = errors.New("none of the provider's published keys fits the signature")
	// ErrKeysResting says that none of those read a moment ago did, and that they are not read again yet.
	ErrKeysResting = errors.New("none of the keys read a moment ago made the signature, and they are not read again yet")
)

const (
	inspectTimeout = 10 * time.Second
	maxInspected   = 64 << 10 // bytes of an answer that are shown
)

// Inspector is what developers ask of a provider about the tokens it gave. Implementations are safe for concurrent use.
type Inspector interface {
	// Offers says what there is to ask.
	Offers(ctx context.Context) (Offers, error)
	// Offered is Offers, if that is known already: nobody is asked, and nobody waits.
	Offered() (offers Offers, known bool)
	// CheckSignature verifies the signature of a JWT with the provider's published keys (OpenID Connect Discovery
	// section 3, jwks_uri), and nothing else of it. The error is ErrNotSigned, ErrNoKeyFits, ErrKeysResting,
	// or auth.ErrKeysUnavailable.
	CheckSignature(ctx context.Context, token auth.Secret) error
	// Introspect asks the provider what a token is (RFC 7662 section 2); ErrNotOffered without an endpoint.
	Introspect(ctx context.Context, tokens auth.TokenSet, token auth.Secret) (map[string]any, error)
	// UserInfo calls userinfo (OpenID Connect Core section 5.3) with the access token and returns the answer as it
	// came, at most 64 KiB of it and without the token; ErrNotOffered without an endpoint. With an error there is what was called, and
	// how long that took.
	UserInfo(ctx context.Context, tokens auth.TokenSet) (HTTPAnswer, error)
}

// Offers is what a provider has endpoints for.
type Offers struct{ UserInfo, Introspection bool }

// HTTPAnswer is an answer as it came.
type HTTPAnswer struct {
	Method, URL string
	Status      int
	Type        string // Content-Type
	Challenge   string // WWW-Authenticate
	Body        string
	Size        int  // bytes of the body as it came
	Cut         bool // there was more
	Broken      bool // there is more, and it did not come
	Late        bool // nor was it waited for any longer
	Took        time.Duration
}

var _ Inspector = (*OIDC)(nil)

// Offers implements Inspector.
func (p *OIDC) Offers(ctx context.Context) (Offers, error) {
	m, err := p.metadata(ctx)
	if err != nil {
		return Offers{}, err
	}
	return m.offers(), nil
}

// Offered implements Inspector.
func (p *OIDC) Offered() (offers Offers, known bool) {
	if m := p.discovery.known(); m != nil {
		return m.offers(), true
	}
	return Offers{}, false
}

func (m *metadata) offers() Offers {
	return Offers{UserInfo: m.UserInfoURL != "", Introspection: m.IntrospectionURL != ""}
}

// CheckSignature implements Inspector.
func (p *OIDC) CheckSignature(ctx context.Context, token auth.Secret) error {
	jwt, ok := auth.ParseJWT(token)
	if alg, _ := jwt.Header["alg"].(string); !ok || alg == "" || alg == "none" || strings.HasPrefix(alg, "HS") || jwt.Encrypted {
		return ErrNotSigned
	}
	m, err := p.metadata(ctx)
	if err != nil {
		return errors.Join(auth.ErrKeysUnavailable, err)
	}
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	mine := keyUse{stranger: true} // people may look at their tokens as often as they like
	_, err = p.proven(ctx, m, mine, func(m *metadata, use *keyUse) error {
		switch _, err := m.keys.VerifySignature(use.in(ctx), token.Reveal()); {
		case err == nil:
			return nil
		case errors.Is(use.unavailable, ErrKeysResting):
			return ErrKeysResting
		case use.unavailable != nil:
			return auth.ErrKeysUnavailable
		default:
			return ErrNoKeyFits
		}
	})
	return err
}

// Introspect implements Inspector.
func (p *OIDC) Introspect(ctx context.Context, tokens auth.TokenSet, token auth.Secret) (map[string]any, error) {
	m, err := p.endpoints(ctx)
	if err != nil {
		return nil, err
	}
	if m.IntrospectionURL == "" {
		return nil, ErrNotOffered
	}
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	client := p.clientFor(m, tokens.ClientAuth, m.IntrospectionAuthMethods, m.IntrospectionAuthAlgs)
	return client.Introspect(ctx, m.IntrospectionURL, token, tokens.Secrets()...)
}

// UserInfo implements Inspector.
func (p *OIDC) UserInfo(ctx context.Context, tokens auth.TokenSet) (answer HTTPAnswer, err error) {
	answer.Method = http.MethodGet
	began := time.Now()
	defer func() { answer.Took = time.Since(began) }()
	m, err := p.endpoints(ctx)
	if err != nil {
		return answer, err
	}
	if m.UserInfoURL == "" {
		return answer, ErrNotOffered
	}
	answer.URL = m.UserInfoURL
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	var left atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:      func(string) { left.Store(false) }, // it is sent again where a kept connection had ended
		WroteHeaders: func() { left.Store(true) },
	})
	request, err := userInfoRequest(ctx, m, tokens.Access)
	if err != nil {
		return answer, err
	}
	began = time.Now()
	response, err := p.tokens.Do(request)
	if err != nil {
		return answer, tokenendpoint.TransportError(err, left.Load())
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxInspected+1))
	if err != nil && len(body) == 0 {
		return answer, tokenendpoint.TransportError(err, true)
	}
	secrets, redact := tokens.Secrets(), auth.Redact
	answer.Cut, answer.Broken, answer.Late = len(body) > maxInspected, err != nil, errors.Is(err, context.DeadlineExceeded)
	if answer.Cut || answer.Broken {
		redact = auth.RedactCut
	}
	answer.Size = min(len(body), maxInspected)
	answer.Status, answer.Type = response.StatusCode, short(auth.Redact(response.Header.Get("Content-Type"), secrets...))
	answer.Challenge = auth.Redact(response.Header.Get("WWW-Authenticate"), secrets...)
	answer.Body = redact(string(body[:answer.Size]), secrets...)
	return answer, nil
}

// reason is why a call failed, without the URL that net/http puts around it, and without what went out in secret.
func reason(err error, secrets ...auth.Secret) string {
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "it took too long"
	}
	return short(auth.Redact(err.Error(), secrets...)) // not the other way round: half a secret is not found
}
