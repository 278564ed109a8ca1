// Package scripted is an OpenID provider for tests: it signs everybody in without asking, rotates refresh tokens the way
// that a test chooses, keeps a ledger of what was presented to it, and lets a test answer the token endpoint as it likes.
package scripted

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Class is how an authorization server rotates refresh tokens.
type Class int

// The classes.
const (
	Static        Class = iota // the refresh token never changes
	SameSuccessor              // inside the interval everybody gets the same new token
	Sibling                    // inside the interval each use of the newest predecessor gives another new token
	Strict                     // single use: the loser is refused, the chain lives
	FamilyRevoked              // single use: reuse ends everything
)

// ClientID and ClientSecret are the one client's.
const (
	ClientID     = "client"
	ClientSecret = "secret/+ %"
	CallbackURL  = "http://rp.example/auth/work/callback"
)

// Provider is a scripted provider. Its fields are set before it is first called, or under Change.
type Provider struct {
	*httptest.Server
	Class            Class
	Interval         time.Duration // reuse interval
	Lifetime         time.Duration // of access tokens
	Subject          string
	NoRefreshToken   bool // it gives none
	InsistsOnConsent bool // it gives one with prompt=consent only
	// Token, if set, answers a token request in place of the provider, or lets it pass by returning false. grant is what
	// the provider's own answer would be made by.
	Token func(w http.ResponseWriter, r *http.Request, grant func() map[string]any) bool
	// Claims, if set, edits the claims of an id token before it is signed.
	Claims func(claims map[string]any, refresh bool)
	// IDToken, if set, edits an id token after it was signed.
	IDToken func(signed string) string
	// Tokens, if set, edits an answer of the token endpoint.
	Tokens func(tokens map[string]any, refresh bool)
	// Access, if set, makes the access tokens.
	Access func() string
	// Authenticate, if set, says in place of the provider whether a call comes from the client.
	Authenticate func(r *http.Request) bool
	// Revocation, if set, answers revocations in place of the provider, or lets them pass by returning false.
	Revocation func(w http.ResponseWriter) bool
	// Asked, if set, sees every authorization and token request.
	Asked func(path string, params url.Values)
	// UserInfo and Introspect, if set, answer these endpoints; without Introspect there is none.
	UserInfo, Introspect http.HandlerFunc
	// Authorization, if set, edits the parameters of an authorization answer. It gets those of the request.
	Authorization func(answer, request url.Values)
	// Keys, if set, answers for the key set.
	Keys http.HandlerFunc
	// Document, if set, edits the discovery document.
	Document func(document map[string]any)

	mu         sync.Mutex
	key        jose.SigningKey
	public     jose.JSONWebKeySet
	codes      map[string]url.Values
	refresh    map[string]*token
	access     map[string]*token
	presented  map[string]int
	calls      map[string]int // by path
	tokenCalls int
	atOnce     int
	mostAtOnce int
	revoked    []string
	issued     []string
	serial     int
}

// Callback goes to an authorization URL and returns what the provider says to the callback.
func Callback(t testing.TB, authorizationURL string) url.Values {
	t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Get(authorizationURL)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	back, err := url.Parse(response.Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	return back.Query()
}

type token struct {
	family    *family
	spentAt   time.Time
	successor string
}

type family struct {
	dead  bool
	nonce string
}

// New starts a provider that lives as long as the test.
func New(t testing.TB) *Provider {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &Provider{
		Class: FamilyRevoked, Lifetime: time.Hour, Subject: "alice",
		codes: map[string]url.Values{}, refresh: map[string]*token{}, access: map[string]*token{}, presented: map[string]int{}, calls: map[string]int{},
	}
	key, public := Key(private, jose.ES256, "k1")
	p.Rotate(key, public)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	mux.HandleFunc("GET /keys", p.keys)
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("GET /userinfo", p.userinfo)
	mux.HandleFunc("POST /revoke", p.revoke)
	mux.HandleFunc("POST /introspect", func(w http.ResponseWriter, r *http.Request) { p.Introspect(w, r) })
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.calls[r.URL.Path]++
		p.mu.Unlock()
		mux.ServeHTTP(w, r)
	}))
	p.Change(func() { p.Server = server })
	t.Cleanup(p.Close)
	return p
}

// Change edits the provider while it runs.
func (p *Provider) Change(edit func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	edit()
}

// TokenCalls is how often the token endpoint was called for a renewal.
func (p *Provider) TokenCalls() int { p.mu.Lock(); defer p.mu.Unlock(); return p.tokenCalls }

// Calls is how often a path was asked for, by anybody and in any way.
func (p *Provider) Calls(path string) int { p.mu.Lock(); defer p.mu.Unlock(); return p.calls[path] }

// MostAtOnce is how many renewals were under way at the token endpoint at the busiest moment.
func (p *Provider) MostAtOnce() int { p.mu.Lock(); defer p.mu.Unlock(); return p.mostAtOnce }

// MostPresented is how often the refresh token that was presented most often was.
func (p *Provider) MostPresented() (most int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.presented {
		most = max(most, n)
	}
	return most
}

// Revoked lists the tokens that were revoked by request, in order.
func (p *Provider) Revoked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.revoked...)
}

// Issued lists every token ever issued.
func (p *Provider) Issued() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.issued...)
}
