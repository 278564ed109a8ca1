// Package provider turns configuration into providers: the generic OpenID provider, and goth's for the brands.
package provider

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/markbates/goth"
	"golang.org/x/sync/errgroup"

	"keyturn/auth"
	"keyturn/auth/tokenendpoint"
)

// Config is one configured provider.
type Config struct {
	Name            string // in URLs
	Type            string // "oidc", or the name of a goth provider
	Label           string // for people
	Issuer          string // oidc only
	ClientID        string
	ClientSecret    auth.Secret // empty: a public client
	Scopes          []string    // empty: the brand's, or DefaultScopes
	Audience        string
	AuthParams      map[string]string // further parameters of the authorization request
	GrantType       auth.GrantType
	MaxAge          time.Duration
	Leeway          time.Duration
	AssumedLifetime time.Duration
	OnUnknown       auth.OnUnknown
	Since           time.Time                // when these settings took effect; zero: unknown
	Spread          bool                     // renewals in the background are spread in time
	Concurrency     int                      // token endpoint calls at once, for renewals; 0: the default
	ClientAuth      tokenendpoint.AuthMethod // empty: from discovery
	ClientKey       *tokenendpoint.Key       // for private_key_jwt; oidc only
	Resource        []string                 // RFC 8707
	TokenParams     map[string]string        // further parameters of token requests
	CallbackURL     string
	Listens         string            // where a provider of this process listens, in plain HTTP, whatever its URLs say; empty: as they say
	Extra           map[string]string // what some brands need: domain, tenant, …

	narrow     bool                            // nobody has chosen Scopes: those of DefaultScopes that are not announced are left out
	mintSecret func(now time.Time) auth.Secret // makes a client secret for each call, in place of ClientSecret
}

// DefaultScopes are asked for where none are configured, as far as the provider announces them.
func DefaultScopes() []string { return []string{"openid", "profile", "email", "offline_access"} }

// googleIssuer is Google, which is known also where it is configured by its issuer only.
const googleIssuer = "https://accounts.google.com"

// authParams are the configured parameters, and what the issuer is known to need before it gives a refresh token.
func (c Config) authParams() map[string]string {
	params := map[string]string{}
	if c.Issuer == googleIssuer {
		params["access_type"], params["prompt"] = "offline", "consent"
	}
	maps.Copy(params, c.AuthParams)
	return params
}

// Policy is when the provider's grants are due.
func (c Config) Policy() auth.Policy {
	return auth.Policy{
		MaxAge: c.MaxAge, Leeway: c.Leeway, Assumed: c.AssumedLifetime, GrantType: c.GrantType,
		Since: c.Since, Spread: c.Spread, Concurrency: c.Concurrency,
	}
}

// Provider is one provider people sign in with. The context-taking methods are what Keyturn calls; goth.Provider's are for
// whoever holds one as such. Implementations are safe for concurrent use.
type Provider interface {
	auth.Provider
	goth.Provider
	// Label is the provider's name for people.
	Label() string
	// Type is the configured type: "oidc", or the name of a brand.
	Type() string
	// Begin begins a sign-in. prompt and loginHint are parameters of the request (OpenID Connect Core 3.1.2.1), usually empty. The session's
	// Marshal is what Finish needs, and is kept by the browser's session until then.
	Begin(ctx context.Context, state, prompt, loginHint string) (goth.Session, error)
	// Finish exchanges the callback's parameters for tokens and a verified identity. The error is a *SignInError where the provider, or
	// what it said, is why.
	Finish(ctx context.Context, session goth.Session, callback url.Values) (auth.SignedIn, error)
	// WantsConsent says that a sign-in which brought no refresh token may bring one with prompt=consent, which OpenID
	// Connect Core section 11 asks for with the scope offline_access. Most providers do not insist.
	WantsConsent(ctx context.Context) bool
	// EndSessionURL is where to send the browser at sign-out (OpenID Connect RP-Initiated Logout), "" if nowhere.
	EndSessionURL(ctx context.Context, idToken auth.Secret, returnTo, state string) string
	// Origins are the origins that a sign-out may send the browser to. What is not known yet is waited for a moment, and left out if it does
	// not come. They are for reading only.
	Origins(ctx context.Context) []string
}

// OwnAnswer is implemented by providers whose authorization answers say things of their own.
type OwnAnswer interface {
	// Answers says whether the answer may have this parameter beside those of RFC 6749 section 4.1.2.
	Answers(parameter string) bool
}

// Options are what all providers share.
type Options struct {
	RenewTimeout time.Duration // bound on a token endpoint call
	Now          func() time.Time
	Log          *slog.Logger
	Transport    http.RoundTripper // nil: the default of tokenendpoint.NewHTTPClient; tests inject faults here
}

// backChannel is an HTTP client for calls to a provider, with the transport that a test put in its place.
func backChannel(options Options, timeout time.Duration) *http.Client {
	client := tokenendpoint.NewHTTPClient(timeout)
	if options.Transport != nil {
		client.Transport = options.Transport
	} else if own, ok := client.Transport.(*http.Transport); ok {
		tokenendpoint.PingWithin(own, max(options.RenewTimeout, 5*time.Second))
		client.Transport = discreet{own}
	}
	return client
}

// listening is a transport to a server of this process. What leads to it by its URLs, a published port, a tunnel or a proxy with TLS, may
// lead there from elsewhere only.
func listening(address string) *http.Transport {
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return tokenendpoint.NewDialer().DialContext(ctx, network, address)
	}
	transport := tokenendpoint.NewTransport()
	transport.Proxy, transport.DialContext, transport.DialTLSContext = nil, dial, dial
	return transport
}

// openID is a provider with metadata, a brand's too.
type openID interface {
	issuer() string
	metadata(ctx context.Context) (*metadata, error)
}

// origin is a provider that tells its own from what another has issued that had its name before.
type origin interface {
	issued(issuer string) bool
}

// Set is the configured providers. It is safe for concurrent use.
type Set struct {
	list   []Provider
	names  []string // in the same order
	byName map[string]Provider

	byIssuer map[string]Provider
}

var _ auth.Providers = (*Set)(nil)

// New builds the providers without a network call: one that is down at start does not stop the start. The error names
// the provider and what is wrong with its settings.
func New(configs []Config, options Options) (*Set, error) {
	set := &Set{byName: map[string]Provider{}, byIssuer: map[string]Provider{}}
	for _, config := range configs {
		p, err := build(config, options)
		if err != nil {
			return nil, fmt.Errorf("provider %q: %w", config.Name, err)
		}
		if _, ok := set.byName[config.Name]; ok {
			return nil, fmt.Errorf("provider %q: the name is taken", config.Name)
		}
		set.list, set.names = append(set.list, p), append(set.names, config.Name)
		set.byName[config.Name] = p
		known, ok := p.(openID)
		if !ok {
			continue
		}
		if _, taken := set.byIssuer[known.issuer()]; !taken {
			set.byIssuer[known.issuer()] = p
		}
	}
	return set, nil
}

func build(config Config, options Options) (Provider, error) {
	if config.Listens != "" {
		options.Transport = listening(config.Listens)
	}
	if config.Type == "oidc" {
		return NewOIDC(config, options)
	}
	return newBrand(config, options)
}

// discoveriesAtOnce is how many providers are asked for their metadata at a time before anybody needs it.
const discoveriesAtOnce = 8

// Discover asks the OpenID providers for their metadata, so that it is there when it is needed, and returns when all have answered, or
// ctx is done. One that does not answer is asked again by whoever needs it.
func (s *Set) Discover(ctx context.Context) {
	var asking errgroup.Group
	asking.SetLimit(discoveriesAtOnce)
	for _, p := range s.list {
		known, ok := p.(openID)
		if !ok {
			continue
		}
		asking.Go(func() error {
			_, _ = known.metadata(ctx) // whoever needs it says what is wrong
			return nil
		})
	}
	_ = asking.Wait()
}

// All lists the providers in the order of the configuration.
func (s *Set) All() []Provider { return s.list }

// Get finds a provider by name.
func (s *Set) Get(name string) (Provider, bool) {
	p, ok := s.byName[name]
	return p, ok
}

// ByIssuer finds an OpenID provider by its issuer, the first of several.
func (s *Set) ByIssuer(issuer string) (Provider, bool) {
	p, ok := s.byIssuer[issuer]
	return p, ok
}

// Names implements auth.Providers.
func (s *Set) Names() []string {
	return slices.Clone(s.names)
}

// Lookup implements auth.Providers.
func (s *Set) Lookup(name string) (auth.Provider, bool) {
	p, ok := s.byName[name]
	return p, ok
}

// Of implements auth.Providers.
func (s *Set) Of(whose auth.Identity) (auth.Provider, bool) {
	p, ok := s.byName[whose.Provider]
	if from, is := p.(origin); !ok || is && !from.issued(whose.Issuer) {
		return nil, false
	}
	return p, true
}
