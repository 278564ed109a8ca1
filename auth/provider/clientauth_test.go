package provider_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/auth/provider/scripted"
	"keyturn/auth/tokenendpoint"
)

func announces(lists map[string][]string) func(*scripted.Provider) {
	return func(idp *scripted.Provider) {
		idp.Document = func(document map[string]any) {
			delete(document, "token_endpoint_auth_methods_supported")
			for name, list := range lists {
				document[name] = list
			}
		}
	}
}

func withPost(r *http.Request) bool {
	_, _, basic := r.BasicAuth()
	return !basic && r.PostFormValue("client_id") == scripted.ClientID && r.PostFormValue("client_secret") == scripted.ClientSecret
}

func publicly(r *http.Request) bool {
	return r.Header.Get("Authorization") == "" && r.PostFormValue("client_id") == scripted.ClientID && !r.PostForm.Has("client_secret")
}

func withBasic(r *http.Request) bool {
	id, secret, ok := r.BasicAuth()
	return ok && id == scripted.ClientID && secret == url.QueryEscape(scripted.ClientSecret) && !r.PostForm.Has("client_secret") && !r.PostForm.Has("client_id")
}

// everyCall signs in, renews, introspects and revokes.
func everyCall(t *testing.T, idp *scripted.Provider, edit func(*provider.Config)) {
	t.Helper()
	idp.Introspect = func(w http.ResponseWriter, r *http.Request) {
		if r.ParseForm() != nil || !idp.Authenticate(r) {
			w.WriteHeader(http.StatusUnauthorized)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"active": true})
	}
	p := newOIDC(t, idp, edit)
	done, err := signIn(t, p, nil)
	if err != nil {
		t.Fatalf("sign in: %v", err)
	}
	tokens := done.Answer.TokenSet(auth.TokenSet{}, 0)
	renewed, err := p.Renew(t.Context(), tokens, true)
	if err != nil {
		t.Fatalf("renew: %v", err)
	}
	if _, err := p.Introspect(t.Context(), tokens, renewed.Access); err != nil {
		t.Errorf("introspect: %v", err)
	}
	if err := p.Revoke(t.Context(), renewed.TokenSet(tokens, 0)); err != nil || !slices.Contains(idp.Revoked(), renewed.Refresh.Reveal()) {
		t.Errorf("revoke: %v", err)
	}
}

// The name is the OpenID Foundation's: client_secret_basic, with both values form-encoded first.
func TestClientAuthentication(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public := func(c *provider.Config) { c.ClientSecret = "" }
	for _, c := range []struct {
		name      string
		announced map[string][]string
		accepts   func(r *http.Request) bool
		edit      func(*provider.Config)
	}{
		{"oidcc-client-test-client-secret-basic", nil, withBasic, nil},
		{"client_secret_post where it alone is announced", map[string][]string{"token_endpoint_auth_methods_supported": {"client_secret_post"}}, withPost, nil},
		{"basic where both are announced", map[string][]string{"token_endpoint_auth_methods_supported": {"client_secret_post", "client_secret_basic"}}, withBasic, nil},
		{"as configured, whatever is announced", map[string][]string{"token_endpoint_auth_methods_supported": {"client_secret_basic"}}, withPost,
			func(c *provider.Config) { c.ClientAuth = tokenendpoint.ClientSecretPost }},
		{"none, with PKCE", map[string][]string{"token_endpoint_auth_methods_supported": {"client_secret_basic", "none"}}, publicly, public},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			idp := scripted.New(t)
			announces(c.announced)(idp)
			idp.Authenticate = c.accepts
			everyCall(t, idp, c.edit)
		})
	}
	for _, c := range []struct {
		name, audience string
		refused        int32
		edit           func(*provider.Config)
	}{
		{"private_key_jwt", "/token", 0, nil},
		{"private_key_jwt for the issuer", "", 1, nil},
		{"private_key_jwt for the issuer, as configured", "", 1, func(c *provider.Config) { c.ClientAuth = tokenendpoint.PrivateKeyJWT }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			idp := scripted.New(t)
			announces(map[string][]string{"token_endpoint_auth_methods_supported": {"private_key_jwt"}})(idp)
			accepts, refused := scripted.Assertion(key.Public(), jose.ES256, idp.URL+c.audience), atomic.Int32{}
			idp.Authenticate = func(r *http.Request) bool {
				ok := accepts(r)
				if !ok {
					refused.Add(1)
				}
				return ok
			}
			everyCall(t, idp, func(config *provider.Config) {
				config.ClientSecret, config.ClientKey = "", signingKey(t, key)
				if c.edit != nil {
					c.edit(config)
				}
			})
			// Only the code is presented again: what is found is remembered with the grant.
			if n := refused.Load(); n != c.refused {
				t.Errorf("%d calls were refused, want %d", n, c.refused)
			}
		})
	}
}

func signingKey(t *testing.T, private *ecdsa.PrivateKey) *tokenendpoint.Key {
	t.Helper()
	jwk, err := jose.JSONWebKey{Key: private, KeyID: "k1", Algorithm: "ES256"}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	key, err := tokenendpoint.ParseKey(jwk, "")
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestOtherEndpointsAnnounceTheirOwnMethods(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	announces(map[string][]string{
		"token_endpoint_auth_methods_supported": {"client_secret_basic"}, "revocation_endpoint_auth_methods_supported": {"client_secret_post"},
		"introspection_endpoint_auth_methods_supported": {"client_secret_post"},
	})(idp)
	idp.Authenticate = func(r *http.Request) bool {
		if r.URL.Path == "/token" {
			return withBasic(r)
		}
		return withPost(r)
	}
	everyCall(t, idp, nil)
}

// A code is presented with the other method where the provider may mean the first one, and the settings leave the choice.
func TestWhichRefusalsOfACodeAreTriedWithTheOtherMethod(t *testing.T) {
	t.Parallel()
	configured := func(c *provider.Config) { c.ClientAuth = tokenendpoint.ClientSecretBasic }
	plain := func(c *provider.Config) { c.ClientSecret = "needs-no.encoding" }
	for name, c := range map[string]struct {
		code  string
		edit  func(*provider.Config)
		again bool
		mute  bool // the provider does not say how clients authenticate
	}{
		"of the client":                     {"invalid_client", nil, true, false},
		"of a secret not decoded":           {"unauthorized_client", nil, true, false},
		"of what the client may do":         {"unauthorized_client", plain, false, false},
		"of the request":                    {"invalid_request", nil, true, false},
		"of the code":                       {"invalid_grant", nil, false, false},
		"of the client, as configured":      {"invalid_client", configured, false, false},
		"of the request, as configured":     {"invalid_request", configured, false, false},
		"of the client, by one who is mute": {"invalid_client", nil, true, true},
		"of nothing that the client does":   {"server_error", nil, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idp := scripted.New(t)
			methods := map[string][]string{"token_endpoint_auth_methods_supported": {"client_secret_basic", "client_secret_post"}}
			if c.mute {
				methods = nil
			}
			announces(methods)(idp)
			idp.Authenticate = withPost
			var calls atomic.Int32
			plain := idp.Config.Handler
			idp.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/token" {
					calls.Add(1)
				}
				if _, _, basic := r.BasicAuth(); basic {
					w.WriteHeader(http.StatusBadRequest)
					_ = json.NewEncoder(w).Encode(map[string]string{"error": c.code})
					return
				}
				plain.ServeHTTP(w, r)
			})
			done, err := signIn(t, newOIDC(t, idp, c.edit), nil)
			want := int32(1)
			if c.again {
				want = 2
			}
			if (err == nil) != c.again || calls.Load() != want || c.again && done.Answer.ClientAuth != string(tokenendpoint.ClientSecretPost) {
				t.Errorf("%d calls, found %q, %v", calls.Load(), done.Answer.ClientAuth, err)
			}
		})
	}
}

// Whoever looks at the secret finds it to be right.
func TestAProviderThatMayNotDecodeTheSecretIsNamedAsTheReason(t *testing.T) {
	t.Parallel()
	basic, both := []string{"client_secret_basic"}, []string{"client_secret_basic", "client_secret_post"}
	for name, c := range map[string]struct {
		announced []string
		edit      func(*provider.Config)
		code      string
		hint      bool
	}{
		"its only method":             {basic, nil, "invalid_client", true},
		"as configured":               {both, func(c *provider.Config) { c.ClientAuth = tokenendpoint.ClientSecretBasic }, "invalid_client", true},
		"there is another":            {both, nil, "invalid_client", false},
		"a secret as it is":           {basic, func(c *provider.Config) { c.ClientSecret = "needs-no.encoding" }, "invalid_client", false},
		"a refusal of something else": {basic, nil, "invalid_grant", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idp := scripted.New(t)
			announces(map[string][]string{"token_endpoint_auth_methods_supported": c.announced})(idp)
			others := idp.Config.Handler
			idp.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/token" {
					others.ServeHTTP(w, r)
					return
				}
				w.WriteHeader(http.StatusBadRequest)
				_ = json.NewEncoder(w).Encode(map[string]string{"error": c.code})
			})
			_, err := signIn(t, newOIDC(t, idp, c.edit), nil)
			var failed *provider.SignInError
			if !errors.As(err, &failed) || strings.Contains(failed.Detail, "may not decode") != c.hint || strings.Contains(failed.Detail, scripted.ClientSecret) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestARenewalIsTriedWithOneMethodOnly(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	announces(map[string][]string{"token_endpoint_auth_methods_supported": {"client_secret_basic", "client_secret_post"}})(idp)
	p := newOIDC(t, idp, nil)
	done, err := signIn(t, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	idp.Change(func() { idp.Authenticate = func(*http.Request) bool { calls++; return false } })
	if _, err := p.Renew(t.Context(), done.Answer.TokenSet(auth.TokenSet{}, 0), true); err == nil || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

func TestResourceAndTokenParamsAreSentWithEveryRequest(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	var asked []url.Values
	idp.Asked = func(_ string, params url.Values) { asked = append(asked, params) }
	p := newOIDC(t, idp, func(c *provider.Config) {
		c.Resource, c.TokenParams = []string{"https://a.example/", "urn:b"}, map[string]string{"organization": "acme"}
	})
	done, err := signIn(t, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Renew(t.Context(), done.Answer.TokenSet(auth.TokenSet{}, 0), true); err != nil {
		t.Fatal(err)
	}
	if len(asked) != 3 {
		t.Fatalf("%d requests", len(asked))
	}
	for n, request := range asked {
		if !slices.Equal(request["resource"], []string{"https://a.example/", "urn:b"}) {
			t.Errorf("request %d: resource %v", n, request["resource"])
		}
		if organization := request.Get("organization"); (n > 0) != (organization == "acme") {
			t.Errorf("request %d: organization %q", n, organization)
		}
	}
}

// A provider that announces both methods and knows the client by Basic alone looks at what a request is like with Basic only. What it finds
// there is what has to be mended, and not the other method.
func TestTheFaultOfARequestIsToldAndNotThatOfTheOtherMethod(t *testing.T) {
	t.Parallel()
	for _, fault := range [][2]string{{"/par", "invalid_request"}, {"/token", "invalid_request"}, {"/token", "unauthorized_client"}} {
		path, told := fault[0], fault[1]
		t.Run(path+" "+told, func(t *testing.T) {
			t.Parallel()
			idp := scripted.New(t)
			calls, plain := 0, idp.Config.Handler
			idp.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != path {
					plain.ServeHTTP(w, r)
					return
				}
				calls++
				status, code := http.StatusBadRequest, told
				if r.Header.Get("Authorization") == "" {
					status, code = http.StatusUnauthorized, "invalid_client"
				}
				w.WriteHeader(status)
				_ = json.NewEncoder(w).Encode(map[string]string{"error": code})
			})
			idp.Document = func(d map[string]any) {
				if path == "/par" {
					d["pushed_authorization_request_endpoint"], d["require_pushed_authorization_requests"] = idp.URL+path, true
				}
				d["token_endpoint_auth_methods_supported"] = []string{"client_secret_basic", "client_secret_post"}
			}
			_, err := signIn(t, newOIDC(t, idp, nil), nil)
			var failed *provider.SignInError
			if !errors.As(err, &failed) || failed.Failure.Code != told || calls != 2 {
				t.Errorf("after %d calls: %v", calls, err)
			}
		})
	}
}
