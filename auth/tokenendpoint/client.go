// Package tokenendpoint is a client of OAuth 2.0 token endpoints (RFC 6749 section 3.2) made for refresh tokens that
// may be presented only once: strict on the way out (one try, no redirects, a bound on time and size), lenient on the
// way in (a readable answer is never thrown away).
package tokenendpoint

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"keyturn/auth"
)

// maxBody bounds what is read of an answer.
const maxBody = 1 << 20

var errTooLong = errors.New("the answer is longer than 1 MiB")

// AuthMethod is how the client authenticates (OpenID Connect Core section 9).
type AuthMethod string

// The methods.
const (
	ClientSecretBasic AuthMethod = "client_secret_basic"
	ClientSecretPost  AuthMethod = "client_secret_post"
	PrivateKeyJWT     AuthMethod = "private_key_jwt"
	NoAuthentication  AuthMethod = "none" // a public client: client_id in the body

	// PrivateKeyJWTForIssuer is PrivateKeyJWT with assertions that name the provider by its issuer, as FAPI 2.0 Security Profile, section
	// 5.3.3, and draft-ietf-oauth-rfc7523bis want them. No metadata has this name.
	PrivateKeyJWTForIssuer AuthMethod = "private_key_jwt:issuer"
)

// Client calls one provider's endpoints as one OAuth client. It is safe for concurrent use.
type Client struct {
	HTTP         *http.Client // from NewHTTPClient, or a test's
	Protocols    *Protocols   // of the hosts that HTTP has connections to
	TokenURL     string
	ClientID     string
	ClientSecret auth.Secret
	AuthMethod   AuthMethod
	Issuer       string   // for PrivateKeyJWTForIssuer
	Key          *Key     // for both
	KeyAlgs      []string // signatures that the endpoint takes, as it announces them (RFC 7518 section 3.1); nil: any
	Now          func() time.Time
}

// NewTransport returns the transport of NewHTTPClient.
func NewTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  proxyFor,
		DialContext:            NewDialer().DialContext,
		TLSHandshakeTimeout:    5 * time.Second,
		MaxIdleConnsPerHost:    32,
		IdleConnTimeout:        60 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
	}
}

// NewHTTPClient returns an HTTP client for back-channel calls: it follows no redirect, does not ask for compressed
// answers, and bounds each step. timeout bounds a whole call, its body included; 0 leaves that to the context.
func NewHTTPClient(timeout time.Duration) *http.Client {
	return &http.Client{
		Transport:     NewTransport(),
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// PingWithin has a transport find out within a time, of an HTTP/2 connection on which nothing comes, whether it still leads anywhere.
// Otherwise it is used on for as long as there is something to send. Shorter than a call may take it would cut off a server that is busy.
func PingWithin(transport *http.Transport, d time.Duration) {
	transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: d / 2, PingTimeout: d * 2 / 5}
}

// Exchange posts one token request and reads the answer. There is no second try of what a server may have looked at. The error is an
// *auth.ProviderError; neither it nor a log line ever holds what was sent, nor others that the provider knows.
func (c *Client) Exchange(ctx context.Context, form url.Values, others ...auth.Secret) (auth.Answer, error) {
	began := c.Now()
	var answer auth.Answer
	response, err := c.post(ctx, c.TokenURL, form)
	if err == nil {
		response.secrets = append(response.secrets, others...)
		answer, err = read(response, c.Now())
		answer.RequestedAt = began
	}
	var refusal *auth.ProviderError
	if errors.As(err, &refusal) {
		if refusal.Delivery == auth.DeliveryUnknown {
			c.HTTP.CloseIdleConnections() // whatever is wrong with this one, the next try has a fresh one
		}
		if refusal.Salvage != nil {
			refusal.Salvage.RequestedAt = began
		}
		response.redact(refusal)
	}
	return answer, err
}

// Push hands an authorization request to endpoint and returns the URI that stands for it (RFC 9126 section 2). The error is an
// *auth.ProviderError.
func (c *Client) Push(ctx context.Context, endpoint string, form url.Values) (requestURI string, err error) {
	response, err := c.post(ctx, endpoint, form)
	if err != nil {
		return "", err
	}
	params, _ := parse(response)
	if requestURI = params.text("request_uri"); requestURI != "" && response.status/100 == 2 {
		return requestURI, nil
	}
	return "", response.refusal(params, auth.CodeHTTPStatus, "HTTP status "+strconv.Itoa(response.status)+", without a request_uri")
}

// CodeUnsupportedTokenType says that the endpoint does not revoke tokens of that kind (RFC 7009 section 2.2.1).
const CodeUnsupportedTokenType = "unsupported_token_type"

// Revoke posts one revocation request (RFC 7009 section 2.1) to endpoint. The error is an *auth.ProviderError. There is none when the
// token is not valid: then nothing is left to revoke (section 2.2), though Google answers that with an error. As of Exchange, it holds none
// of others.
func (c *Client) Revoke(ctx context.Context, endpoint string, token auth.Secret, hint string, others ...auth.Secret) error {
	response, err := c.post(ctx, endpoint, url.Values{"token": {token.Reveal()}, "token_type_hint": {hint}})
	if err != nil {
		return err
	}
	if response.status/100 == 2 {
		return nil
	}
	response.secrets = append(response.secrets, others...)
	params, _ := parse(response)
	refusal := response.refusal(params, "revocation_refused", "status "+strconv.Itoa(response.status))
	refusal.RetryAfter = retryAfter(response.header, c.Now())
	if response.status == http.StatusBadRequest && refusal.Failure.Code == "invalid_token" {
		return nil
	}
	return refusal
}

// Introspect asks endpoint what a token is (RFC 7662 section 2). Numbers in the answer are json.Number; the error is an
// *auth.ProviderError. As of Exchange, it holds none of others.
func (c *Client) Introspect(ctx context.Context, endpoint string, token auth.Secret, others ...auth.Secret) (map[string]any, error) {
	response, err := c.post(ctx, endpoint, url.Values{"token": {token.Reveal()}})
	if err != nil {
		return nil, err
	}
	response.secrets = append(response.secrets, others...)
	claims, ok := auth.ParseClaims(string(response.body))
	if response.status != http.StatusOK || response.err != nil || !ok {
		params, _ := parse(response)
		return nil, response.refusal(params, auth.CodeHTTPStatus, "HTTP status "+strconv.Itoa(response.status)+", without an answer about the token")
	}
	return claims, nil
}

// response is an answer read to its end, or as far as it came.
type response struct {
	status   int
	header   http.Header
	body     []byte
	err      error         // the body was cut off or too long
	brokeOff bool          // parse found no end of it
	secrets  []auth.Secret // what went out, what came in, and others that may be in the provider's words
}

// refusal is the error of an answer that brought nothing, in the provider's own words, or in these if it gives no code.
func (r *response) refusal(params parameters, code, detail string) *auth.ProviderError {
	refusal := &auth.ProviderError{Delivery: auth.DeliveryAnswered, Failure: auth.Failure{Status: r.status}}
	failure := &refusal.Failure
	failure.Code, failure.Detail = params.refusal()
	if clean(failure.Code) == "" {
		failure.Code, failure.Detail, failure.Said = code, detail, cmp.Or(failure.Detail, r.beginning())
	}
	r.redact(refusal)
	return refusal
}

// redact leaves of a provider's words what may be kept: nothing secret.
func (r *response) redact(refusal *auth.ProviderError) {
	var secrets []auth.Secret
	if r != nil {
		secrets = r.secrets
	}
	// Not the other way round: of a secret that is cut nobody can tell any more that it is one.
	refusal.Failure.Code = clean(codeWithoutTokens(auth.Redact(refusal.Failure.Code, secrets...)))
	refusal.Failure.Detail = clean(withoutTokensAlike(auth.Redact(refusal.Failure.Detail, secrets...)))
	refusal.Failure.Said = clean(withoutTokens(auth.RedactCut(refusal.Failure.Said, secrets...)))
}

// post sends a form with the client's authentication. Its error is an *auth.ProviderError that says whether anything
// was sent.
func (c *Client) post(ctx context.Context, endpoint string, form url.Values) (*response, error) {
	form = maps.Clone(form)
	if c.AuthMethod != ClientSecretBasic {
		form.Set("client_id", c.ClientID)
	}
	switch c.AuthMethod {
	case ClientSecretPost:
		form.Set("client_secret", c.ClientSecret.Reveal())
	case PrivateKeyJWT, PrivateKeyJWTForIssuer:
		assertion, err := c.Key.assert(c.ClientID, c.audience(endpoint), c.KeyAlgs, c.Now())
		if err != nil {
			return nil, &auth.ProviderError{Failure: auth.Failure{Code: "invalid_client", Detail: err.Error()}}
		}
		form.Set("client_assertion_type", assertionType)
		form.Set("client_assertion", assertion.Reveal())
	case ClientSecretBasic, NoAuthentication:
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, &auth.ProviderError{Failure: auth.Failure{Code: auth.CodeUnreachable, Detail: "the endpoint's URL is unusable"}}
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Accept-Encoding", "identity") // without it any coding would do (RFC 9110 section 12.5.3)
	request.Header.Set("User-Agent", "Keyturn")
	sent := []auth.Secret{c.ClientSecret}
	for _, name := range []string{
		"refresh_token", "code", "code_verifier", "token", "client_assertion", "state", "nonce", "code_challenge", "id_token_hint",
	} {
		sent = append(sent, auth.Secret(form.Get(name)))
	}
	if c.AuthMethod == ClientSecretBasic {
		// Form-encoded first, as RFC 6749 section 2.3.1 asks.
		request.SetBasicAuth(url.QueryEscape(c.ClientID), url.QueryEscape(c.ClientSecret.Reveal()))
		_, credentials, _ := strings.Cut(request.Header.Get("Authorization"), " ")
		sent = append(sent, auth.Secret(credentials))
	}
	answer, maybe, err := send(c.HTTP, c.Protocols, request)
	if err != nil {
		return nil, TransportError(err, maybe)
	}
	defer answer.Body.Close()
	body, err := readBody(answer.Body)
	return &response{status: answer.StatusCode, header: answer.Header, body: body, err: err, secrets: sent}, nil
}

// readBody reads a body to its end, or as far as it came; the error says that it was cut off or too long. Whatever is odd about it, it may
// hold the only copy of a refresh token.
func readBody(sent io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(Plain(io.LimitReader(sent, maxBody+1)), maxBody+1))
	if err == nil && len(body) > maxBody {
		err = errTooLong
	}
	return body, err
}

// TransportError classifies an error of the HTTP client, or of the reading of an answer, by whether the request had left.
func TransportError(err error, sent bool) *auth.ProviderError {
	timedOut := errors.Is(err, context.DeadlineExceeded)
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		timedOut = true
	}
	switch {
	case !sent && timedOut:
		return &auth.ProviderError{Failure: auth.Failure{Code: auth.CodeUnreachable, Detail: "no connection in time"}}
	case !sent:
		return &auth.ProviderError{Failure: auth.Failure{Code: auth.CodeUnreachable, Detail: cause(err)}}
	case timedOut:
		return &auth.ProviderError{Delivery: auth.DeliveryUnknown, Failure: auth.Failure{Code: auth.CodeTimeout}}
	default:
		return &auth.ProviderError{Delivery: auth.DeliveryUnknown, Failure: auth.Failure{Code: auth.CodeCutOff}}
	}
}

// cause is the innermost text of a dial error: the outer ones repeat the URL.
func cause(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return "no address for host " + dns.Name
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Op + ": " + op.Err.Error()
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return clean(err.Error())
}
