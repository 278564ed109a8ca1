// Package scripted is an OpenID provider for tests: it signs everybody in without asking, rotates refresh tokens the way
// that a test chooses, keeps a ledger of what was presented to it, and lets a test answer the token endpoint as it likes.
package scripted

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
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
	// Document, if set, edits the discovery document.
	Document func(document map[string]any)

	mu         sync.Mutex
	key        jose.SigningKey
	public     jose.JSONWebKeySet
	codes      map[string]url.Values
	refresh    map[string]*token
	access     map[string]*token
	presented  map[string]int
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
		key:    jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: private, KeyID: "k1", Algorithm: "ES256", Use: "sig"}},
		public: jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: private.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}},
		codes:  map[string]url.Values{}, refresh: map[string]*token{}, access: map[string]*token{}, presented: map[string]int{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, p.public) })
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("GET /userinfo", p.userinfo)
	mux.HandleFunc("POST /revoke", p.revoke)
	mux.HandleFunc("POST /introspect", func(w http.ResponseWriter, r *http.Request) { p.Introspect(w, r) })
	p.Server = httptest.NewServer(mux)
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

func (p *Provider) discovery(w http.ResponseWriter, _ *http.Request) {
	document := map[string]any{
		"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
		"userinfo_endpoint": p.URL + "/userinfo", "revocation_endpoint": p.URL + "/revoke",
		"id_token_signing_alg_values_supported": []string{"ES256"}, "response_types_supported": []string{"code"},
		"subject_types_supported": []string{"public"}, "token_endpoint_auth_methods_supported": []string{"client_secret_basic"},
	}
	if p.Introspect != nil {
		document["introspection_endpoint"] = p.URL + "/introspect"
	}
	if p.Document != nil {
		p.Document(document)
	}
	answer(w, http.StatusOK, document)
}

func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	query := r.URL.Query()
	if p.Asked != nil {
		p.Asked(r.URL.Path, query)
	}
	code := p.name("code")
	p.codes[code] = query
	back, err := url.Parse(query.Get("redirect_uri"))
	if err != nil {
		http.Error(w, "bad redirect_uri", http.StatusBadRequest)
		return
	}
	back.RawQuery = url.Values{"code": {code}, "state": {query.Get("state")}}.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || !p.isClient(r) {
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	if p.Asked != nil {
		p.Asked(r.URL.Path, r.PostForm)
	}
	if r.PostForm.Get("grant_type") == "authorization_code" {
		p.exchange(w, r.PostForm)
		return
	}
	p.mu.Lock()
	p.tokenCalls++
	p.atOnce++
	p.mostAtOnce = max(p.mostAtOnce, p.atOnce)
	defer func() { p.mu.Lock(); p.atOnce--; p.mu.Unlock() }()
	refresh := r.PostForm.Get("refresh_token")
	p.presented[refresh]++
	script := p.Token
	p.mu.Unlock()
	grant := func() map[string]any { p.mu.Lock(); defer p.mu.Unlock(); return p.renew(refresh) }
	if script != nil && script(w, r, grant) {
		return
	}
	tokens := grant()
	status := http.StatusOK
	if tokens["error"] != nil {
		status = http.StatusBadRequest
	}
	answer(w, status, tokens)
}

func (p *Provider) exchange(w http.ResponseWriter, form url.Values) {
	p.mu.Lock()
	defer p.mu.Unlock()
	request, ok := p.codes[form.Get("code")]
	delete(p.codes, form.Get("code"))
	sum := sha256.Sum256([]byte(form.Get("code_verifier")))
	if !ok || base64.RawURLEncoding.EncodeToString(sum[:]) != request.Get("code_challenge") || request.Get("code_challenge_method") != "S256" {
		answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
		return
	}
	tokens := p.issue(&family{nonce: request.Get("nonce")}, "", false)
	if p.InsistsOnConsent && request.Get("prompt") != "consent" {
		delete(tokens, "refresh_token")
	}
	answer(w, http.StatusOK, tokens)
}

// renew is the heart of the ledger; p.mu is held.
func (p *Provider) renew(refresh string) map[string]any {
	refused := map[string]any{"error": "invalid_grant", "error_description": "the refresh token " + refresh + " is no good"}
	t := p.refresh[refresh]
	if t == nil || t.family.dead {
		return refused
	}
	if p.Class == Static {
		return p.issue(t.family, refresh, true)
	}
	if t.spentAt.IsZero() {
		t.spentAt = time.Now()
		tokens := p.issue(t.family, "", true)
		t.successor, _ = tokens["refresh_token"].(string)
		return tokens
	}
	next := p.refresh[t.successor]
	within := time.Since(t.spentAt) <= p.Interval && next != nil && next.spentAt.IsZero()
	switch {
	case p.Class == SameSuccessor && within:
		return p.issue(t.family, t.successor, true)
	case p.Class == Sibling && within:
		tokens := p.issue(t.family, "", true)
		t.successor, _ = tokens["refresh_token"].(string)
		return tokens
	case p.Class != Strict:
		t.family.dead = true
	}
	return refused
}

// issue makes an answer; p.mu is held. An empty refresh makes a new refresh token.
func (p *Provider) issue(f *family, refresh string, renewal bool) map[string]any {
	access := p.name("access")
	if p.Access != nil {
		access = p.Access()
	}
	p.access[access] = &token{family: f}
	if refresh == "" {
		refresh = p.name("refresh")
		p.refresh[refresh] = &token{family: f}
	}
	now := time.Now()
	claims := map[string]any{
		"iss": p.URL, "sub": p.Subject, "aud": ClientID, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "name": "Alice", "email": "alice@example.com",
	}
	if !renewal {
		claims["nonce"] = f.nonce
	}
	sum := sha256.Sum256([]byte(access))
	claims["at_hash"] = base64.RawURLEncoding.EncodeToString(sum[:16])
	if p.Claims != nil {
		p.Claims(claims, renewal)
	}
	idToken := p.Sign(claims)
	if p.IDToken != nil {
		idToken = p.IDToken(idToken)
	}
	p.issued = append(p.issued, access, refresh, idToken)
	tokens := map[string]any{
		"access_token": access, "refresh_token": refresh, "id_token": idToken, "token_type": "Bearer", "scope": "openid profile offline_access",
		"expires_in": p.Lifetime.Seconds(),
	}
	if p.NoRefreshToken {
		delete(tokens, "refresh_token")
	}
	if p.Tokens != nil {
		p.Tokens(tokens, renewal)
	}
	return tokens
}

// Sign makes a JWT with the provider's key.
func (p *Provider) Sign(claims map[string]any) string { return p.SignAs("JWT", claims) }

// Mint makes the tokens of a new sign-in without the way through a browser.
func (p *Provider) Mint() map[string]any {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.issue(&family{}, "", false)
}

func (p *Provider) name(kind string) string {
	p.serial++
	return fmt.Sprintf("%s-%d-%s", kind, p.serial, rand.Text())
}

func (p *Provider) userinfo(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.UserInfo != nil {
		p.UserInfo(w, r)
		return
	}
	var access string
	_, _ = fmt.Sscanf(r.Header.Get("Authorization"), "Bearer %s", &access)
	if t := p.access[access]; t == nil || t.family.dead {
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_token"})
		return
	}
	answer(w, http.StatusOK, map[string]any{"sub": p.Subject, "name": "Alice", "locale": "en"})
}

func (p *Provider) revoke(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	revoked := r.PostFormValue("token")
	if p.Revocation != nil && p.Revocation(w) {
		return
	}
	if !p.isClient(r) {
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	p.revoked = append(p.revoked, revoked)
	if t := p.refresh[revoked]; t != nil {
		t.family.dead = true
	}
	w.WriteHeader(http.StatusOK)
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
