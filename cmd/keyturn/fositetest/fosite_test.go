// Package fositetest lets the built program sign people in at a provider made with ory/fosite, an implementation of OAuth 2.0
// and OpenID Connect that has nothing in common with the embedded provider. It is a module of its own, so that fosite's modules
// stay out of Keyturn's.
package fositetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v3"
	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/handler/openid"
	"github.com/ory/fosite/storage"
	"github.com/ory/fosite/token/jwt"
)

const (
	clientID     = "keyturn"
	clientSecret = "secret/+ %" // to be form-encoded before Basic (RFC 6749 section 2.3.1)
)

// idp is a provider that signs everybody in as alice.
type idp struct {
	*httptest.Server
	fosite fosite.OAuth2Provider
	store  *storage.MemoryStore
	key    *rsa.PrivateKey

	mu        sync.Mutex
	refreshes []string // tokens given, in order
	calls     int      // of the token endpoint, for renewals
}

func newIDP(t *testing.T) *idp {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &idp{store: storage.NewMemoryStore(), key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "RS256", Use: "sig"}}})
	})
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("POST /revoke", func(w http.ResponseWriter, r *http.Request) {
		p.fosite.WriteRevocationResponse(r.Context(), w, p.fosite.NewRevocationRequest(r.Context(), r))
	})
	mux.HandleFunc("GET /userinfo", p.userinfo)
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	p.fosite = compose.ComposeAllEnabled(&fosite.Config{
		GlobalSecret: []byte("thirty-two bytes of a test secret"), IDTokenIssuer: p.URL, TokenURL: p.URL + "/token", EnforcePKCE: true,
		RefreshTokenScopes: []string{"offline_access"}, AccessTokenLifespan: time.Minute, ScopeStrategy: fosite.ExactScopeStrategy,
	}, p.store, key)
	return p
}

// register makes Keyturn at base a client that authenticates with the method.
func (p *idp) register(t *testing.T, base, method string, keys *jose.JSONWebKeySet) {
	t.Helper()
	secret, err := (&fosite.BCrypt{Config: &fosite.Config{HashCost: 4}}).Hash(t.Context(), []byte(clientSecret))
	if err != nil {
		t.Fatal(err)
	}
	p.store.Clients[clientID] = &fosite.DefaultOpenIDConnectClient{
		DefaultClient: &fosite.DefaultClient{
			ID: clientID, Secret: secret, RedirectURIs: []string{base + "/auth/oidc/callback"}, ResponseTypes: []string{"code"},
			GrantTypes: []string{"authorization_code", "refresh_token"}, Scopes: []string{"openid", "profile", "email", "offline_access"},
		},
		TokenEndpointAuthMethod: method, TokenEndpointAuthSigningAlgorithm: "ES256", JSONWebKeys: keys,
	}
}

func (p *idp) discovery(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, map[string]any{
		"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
		"revocation_endpoint": p.URL + "/revoke", "userinfo_endpoint": p.URL + "/userinfo", "response_types_supported": []string{"code"},
		"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
		"token_endpoint_auth_methods_supported":            []string{"client_secret_basic", "private_key_jwt"},
		"token_endpoint_auth_signing_alg_values_supported": []string{"ES256"},
	})
}

func (p *idp) session() *openid.DefaultSession {
	return &openid.DefaultSession{
		Subject: "alice", Headers: &jwt.Headers{Extra: map[string]any{"kid": "k1"}},
		Claims: &jwt.IDTokenClaims{Issuer: p.URL, Subject: "alice", RequestedAt: time.Now(), AuthTime: time.Now(), Extra: map[string]any{"sid": "s1"}},
	}
}

func (p *idp) authorize(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	request, err := p.fosite.NewAuthorizeRequest(ctx, r)
	if err != nil {
		p.fosite.WriteAuthorizeError(ctx, w, request, err)
		return
	}
	for _, scope := range request.GetRequestedScopes() {
		request.GrantScope(scope)
	}
	response, err := p.fosite.NewAuthorizeResponse(ctx, request, p.session())
	if err != nil {
		p.fosite.WriteAuthorizeError(ctx, w, request, err)
		return
	}
	p.fosite.WriteAuthorizeResponse(ctx, w, request, response)
}

func (p *idp) token(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	request, err := p.fosite.NewAccessRequest(ctx, r, &openid.DefaultSession{})
	if err != nil {
		p.fosite.WriteAccessError(ctx, w, request, err)
		return
	}
	response, err := p.fosite.NewAccessResponse(ctx, request)
	if err != nil {
		p.fosite.WriteAccessError(ctx, w, request, err)
		return
	}
	p.mu.Lock()
	if refresh, ok := response.GetExtra("refresh_token").(string); ok {
		p.refreshes = append(p.refreshes, refresh)
	}
	if request.GetGrantTypes().ExactOne("refresh_token") {
		p.calls++
	}
	p.mu.Unlock()
	p.fosite.WriteAccessResponse(ctx, w, request, response)
}

func (p *idp) userinfo(w http.ResponseWriter, r *http.Request) {
	_, request, err := p.fosite.IntrospectToken(r.Context(), fosite.AccessTokenFromRequest(r), fosite.AccessToken, &openid.DefaultSession{})
	if err != nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	writeJSON(w, map[string]any{"sub": request.GetSession().GetSubject(), "name": "Alice of fosite"})
}

// alive says whether a refresh token is still good.
func (p *idp) alive(refresh string) bool {
	_, _, err := p.fosite.IntrospectToken(context.Background(), refresh, fosite.RefreshToken, &openid.DefaultSession{})
	return err == nil
}

func (p *idp) given() (refreshes []string, calls int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.refreshes), p.calls
}

func writeJSON(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}

// clientKey is a key pair: the public half as fosite takes it, the private one as a JSON Web Key.
func clientKey(t *testing.T) (*jose.JSONWebKeySet, []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := jose.JSONWebKey{Key: private, KeyID: "c1", Algorithm: "ES256", Use: "sig"}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: private.Public(), KeyID: "c1", Algorithm: "ES256", Use: "sig"}}}, jwk
}
