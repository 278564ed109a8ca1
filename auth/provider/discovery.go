package provider

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"

	"keyturn/auth"
	"keyturn/auth/tokenendpoint"
)

const (
	discoveryTimeout = 10 * time.Second
	discoveryAgain   = 10 * time.Second       // at the least, between two questions for metadata that is there already
	strangersAgain   = time.Minute            // the same, because of what strangers can send
	pageWait         = 400 * time.Millisecond // that a page may take longer for metadata which is not there yet
	metadataStays    = time.Hour              // then it is asked for again beside its use: endpoints move, and nothing says so
	maxDocument      = 1 << 20
)

// metadata is what discovery told (OpenID Connect Discovery section 3, RFC 8414, RP-Initiated Logout, RFC 9207).
type metadata struct {
	keys    *keys
	algs    []string // announced ones that prove anything
	at      time.Time
	origins []string // of the issuer and its end of session, for every page
	misfits []string // optional members that are not what they have to be, and are left out

	verifier, logoutVerifier *oidc.IDTokenVerifier

	clientAuthMetadata
	announced
	pushes
	Issuer             string   `json:"issuer"`
	AuthorizationURL   string   `json:"authorization_endpoint"`
	TokenURL           string   `json:"token_endpoint"`
	JWKSURL            string   `json:"jwks_uri"`
	UserInfoURL        string   `json:"userinfo_endpoint"`
	RevocationURL      string   `json:"revocation_endpoint"`
	EndSessionURL      string   `json:"end_session_endpoint"`
	IntrospectionURL   string   `json:"introspection_endpoint"`
	Scopes             []string `json:"scopes_supported"`
	GrantTypes         []string `json:"grant_types_supported"`
	Prompts            []string `json:"prompt_values_supported"` // Initiating User Registration via OpenID Connect
	Algs               []string `json:"id_token_signing_alg_values_supported"`
	IssInAuthorization bool     `json:"authorization_response_iss_parameter_supported"`
}

// discovery finds a provider's metadata when it is first needed, again after it failed, and again when it is old or does not do. It
// is safe for concurrent use.
type discovery struct {
	issuer string
	client *http.Client
	now    func() time.Time
	log    *slog.Logger

	calls        singleflight.Group
	mu           sync.Mutex
	found        *metadata
	asked        time.Time // when it was last asked for
	strangersAsk time.Time // when it was last asked for because of a stranger
	waited       time.Time // when a page last waited for it in vain
}

// known returns the metadata if it has been found already.
func (d *discovery) known() *metadata {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.found
}

// get returns the metadata, asking the provider if need be. What is old serves until there is something newer.
func (d *discovery) get(ctx context.Context) (*metadata, error) {
	if found := d.known(); found != nil {
		if d.now().Sub(found.at) > metadataStays {
			d.doubt(ctx)
		}
		return found, nil
	}
	select {
	case result := <-d.ask(ctx, false):
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*metadata), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// soon returns the metadata, and waits a moment for it if it is not there yet. It is nil if that is in vain, or was just now: a provider
// that is down makes no page slow but one now and then.
func (d *discovery) soon(ctx context.Context) *metadata {
	if found, vain := d.waitedInVain(); found != nil || vain {
		return found
	}
	waiting, cancel := context.WithTimeout(ctx, pageWait)
	defer cancel()
	found, err := d.get(waiting)
	if err != nil && ctx.Err() == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.waited = d.now()
	}
	return found
}

// waitedInVain says whether the provider has let somebody down just now.
func (d *discovery) waitedInVain() (found *metadata, vain bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	return d.found, min(now.Sub(d.asked), now.Sub(d.waited)) < discoveryAgain
}

// ask asks the provider. One call serves all who wait, and outlives them.
func (d *discovery) ask(ctx context.Context, forStranger bool) <-chan singleflight.Result {
	return d.calls.DoChan("", func() (any, error) {
		if found := d.lately(forStranger); found != nil {
			return found, nil // another call has ended since the caller looked
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discoveryTimeout)
		defer cancel()
		found, err := d.discover(ctx)
		d.mu.Lock()
		defer d.mu.Unlock()
		if forStranger {
			d.strangersAsk = d.now()
		} else {
			d.asked = d.now()
		}
		if err != nil {
			return nil, err
		}
		before := d.found
		if len(found.misfits) > 0 && (before == nil || !slices.Equal(before.misfits, found.misfits)) {
			d.log.WarnContext(ctx, "members of the provider's metadata are not what they have to be, and are not relied on",
				"issuer", d.issuer, "members", found.misfits)
		}
		if before != nil && before.JWKSURL == found.JWKSURL {
			found.keys = before.keys
		}
		d.found = found
		return found, nil
	})
}

// doubt asks again, beside the caller, for metadata that may be out of date, because an endpoint is not where it says. Until there is
// something better, the old one stays.
func (d *discovery) doubt(ctx context.Context) { d.askAgain(ctx, false) }

// askAgain asks again, unless that was done lately: then the result is nil.
func (d *discovery) askAgain(ctx context.Context, forStranger bool) <-chan singleflight.Result {
	if d.lately(forStranger) != nil {
		return nil
	}
	return d.ask(ctx, forStranger)
}

// lately returns the metadata, if there is any, and it was asked for so lately that it is not to be asked for again. Strangers wait for
// longer, and nobody waits for what strangers asked for.
func (d *discovery) lately(forStranger bool) *metadata {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	if forStranger && min(now.Sub(d.asked), now.Sub(d.strangersAsk)) < strangersAgain || now.Sub(d.asked) < discoveryAgain {
		return d.found
	}
	return nil
}

// newer asks again for metadata that does not do, and waits for the answer. It returns what there is then: m itself, if it was asked for
// lately, or the answer is of no use.
func (d *discovery) newer(ctx context.Context, m *metadata, forStranger bool) *metadata {
	if d.known() != m {
		return d.known()
	}
	if answer := d.askAgain(ctx, forStranger); answer != nil {
		select {
		case <-answer:
		case <-ctx.Done():
		}
	}
	return d.known()
}

// moved says whether a failed call may be because the endpoint is elsewhere by now.
func moved(err error) bool {
	var refusal *auth.ProviderError
	return errors.As(err, &refusal) && (refusal.Delivery == auth.DeliveryNotSent ||
		slices.Contains([]int{http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone}, refusal.Failure.Status))
}

// redirectedOnce is a client that follows one redirect within the origin: frameworks answer so for a slash at the end that is missing.
// The issuer in what is found there still has to be the right one.
func redirectedOnce(client *http.Client) *http.Client {
	once := *client
	once.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if from := via[0].URL; len(via) > 1 || r.URL.Scheme != from.Scheme || r.URL.Host != from.Host || r.URL.User != nil {
			return http.ErrUseLastResponse
		}
		return nil
	}
	return &once
}

// errMetadata says that the provider answered, with what is no metadata of its own: trying again will not help.
var errMetadata = errors.New("unusable metadata")

// discoveryCode is the code of an error of discovery.
func discoveryCode(err error) string {
	if errors.Is(err, errMetadata) {
		return auth.CodeMetadata
	}
	return auth.CodeDiscovery
}

// discover reads the document. Its errors are short: go-oidc's repeat what they could not read.
func (d *discovery) discover(ctx context.Context) (_ *metadata, err error) {
	heard := &hearing{next: d.client.Transport}
	defer func() {
		switch {
		case err == nil:
		case heard.out:
			err = fmt.Errorf("discovery at %s: %w: %s", d.issuer, errMetadata, reason(err))
		default:
			err = fmt.Errorf("discovery at %s: %s", d.issuer, reason(err))
		}
	}()
	defer calm(&err)
	client := *d.client
	client.Transport = heard
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, &client), d.issuer)
	if err != nil {
		return nil, err
	}
	m := &metadata{at: d.now(), misfits: heard.misfits}
	if err := provider.Claims(m); err != nil {
		return nil, err
	}
	if err := m.check(d.issuer); err != nil {
		return nil, err
	}
	m.algs = m.signingAlgs()
	m.origins = originsOf(d.issuer, m.EndSessionURL)
	return m, nil
}

// originsOf are the origins of URLs, each once.
func originsOf(urls ...string) []string {
	var origins []string
	for _, text := range urls {
		if u, err := url.Parse(text); err == nil && u.Host != "" {
			origins = append(origins, u.Scheme+"://"+u.Host)
		}
	}
	slices.Sort(origins)
	return slices.Compact(origins)
}

// hearing tells a provider that answers from one that is down, and makes what it answers readable. It is for one call.
type hearing struct {
	next    http.RoundTripper
	out     bool     // it answered, to the end
	misfits []string // of the answer
}

// RoundTrip implements http.RoundTripper.
func (h *hearing) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := h.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	body, h.misfits = withoutMisfits(body)
	response.Body = io.NopCloser(bytes.NewReader(body))
	h.out = response.StatusCode < http.StatusInternalServerError &&
		response.StatusCode != http.StatusTooManyRequests && response.StatusCode != http.StatusRequestTimeout
	return response, nil
}

// check refuses metadata whose endpoints are unusable, and leaves out those that Keyturn can do without.
func (m *metadata) check(issuer string) error {
	for name, endpoint := range map[string]string{
		"authorization_endpoint": m.AuthorizationURL, "token_endpoint": m.TokenURL, "jwks_uri": m.JWKSURL,
	} {
		if why := unusable(endpoint, issuer); why != "" {
			return fmt.Errorf("%s %s", name, why)
		}
	}
	for name, endpoint := range map[string]*string{
		"userinfo_endpoint": &m.UserInfoURL, "revocation_endpoint": &m.RevocationURL, "end_session_endpoint": &m.EndSessionURL,
		"introspection_endpoint": &m.IntrospectionURL, "pushed_authorization_request_endpoint": &m.PushURL,
	} {
		if *endpoint != "" && unusable(*endpoint, issuer) != "" {
			*endpoint, m.misfits = "", append(m.misfits, name)
		}
	}
	slices.Sort(m.misfits)
	return nil
}

// unusable is why an endpoint is not to be called: it would send a secret in the clear, or is more than an endpoint, with a user in it,
// with a fragment (RFC 6749 section 3.1), or with a host that would be read as something else where it is shown. "" for one that may be.
func unusable(endpoint, issuer string) (why string) {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil, u.Hostname() == "", strings.Trim(u.Host, hostLetters) != "", u.Scheme != "https" && u.Scheme != "http", u.User != nil,
		strings.Contains(endpoint, "#"):
		return "is no URL of an endpoint"
	case u.Scheme == "http" && strings.HasPrefix(issuer, "https:"):
		return "is not https"
	}
	return ""
}

// signingAlgs are the announced algorithms that prove anything.
func (m *metadata) signingAlgs() []string {
	if algs := accepted(m.Algs); len(algs) > 0 {
		return algs
	}
	return []string{oidc.RS256}
}

// accepted leaves out algorithms that prove nothing.
func accepted(algs []string) []string {
	return slices.DeleteFunc(slices.Clone(algs), func(alg string) bool { return !slices.Contains(signingAlgs, jose.SignatureAlgorithm(alg)) })
}

// algOf is the algorithm that a JWT says it is signed with.
func algOf(token auth.Secret) string {
	jwt, _ := auth.ParseJWT(token)
	alg, _ := jwt.Header["alg"].(string)
	return alg
}

// lacks says whether a token is signed with an algorithm that proves something, but is not announced.
func (m *metadata) lacks(token auth.Secret) bool {
	alg := algOf(token)
	return len(accepted([]string{alg})) > 0 && !slices.Contains(m.algs, alg)
}

// hostLetters are the characters of a host and a port in a URL.
const hostLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:[]"

// scopes are the configured ones, also those that the provider does not announce (OpenID Connect Discovery section 3). Where nobody has
// chosen any, those are left out: Google and Cognito refuse a sign-in over offline_access.
func (m *metadata) scopes(config Config) []string {
	if len(m.Scopes) == 0 || !config.narrow {
		return config.Scopes
	}
	return slices.DeleteFunc(slices.Clone(config.Scopes), func(scope string) bool {
		return scope != oidc.ScopeOpenID && slices.Contains(DefaultScopes(), scope) && !slices.Contains(m.Scopes, scope)
	})
}

// leftOut says whether a list of the metadata leaves a value out. A list that is not announced says nothing.
func leftOut(announced []string, value string) bool {
	return len(announced) > 0 && !slices.Contains(announced, value)
}

// limited bounds what is read of any answer, and reads it as it is meant.
type limited struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := l.next.RoundTrip(r)
	if err == nil {
		response.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(tokenendpoint.Plain(io.LimitReader(response.Body, maxDocument)), maxDocument), response.Body}
	}
	return response, err
}
