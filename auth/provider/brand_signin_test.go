package provider_test

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"keyturn/auth"
	"keyturn/auth/authtest"
	"keyturn/auth/provider"
)

// brandServer answers as one brand does, for all of its hosts. Its refresh tokens are good for one renewal.
type brandServer struct {
	t *testing.T
	shape
	nonce, challenge string
	key              *ecdsa.PrivateKey

	mu        sync.Mutex
	exchanged int
	presented int
	revoked   []string
}

// ServeHTTP implements http.Handler.
func (s *brandServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := r.URL.Host + r.URL.Path
	if method := r.URL.Query().Get("method"); method != "" {
		at += "?" + method
	}
	_ = r.ParseForm()
	form, grant := formOf(r)
	switch body, ok := s.profile[at]; {
	case ok && r.URL.Scheme != "https":
		s.t.Errorf("%s in the clear", at)
	case ok:
		fmt.Fprint(w, body)
	case strings.HasSuffix(at, "/.well-known/openid-configuration"):
		issuer := s.issuer
		root := strings.TrimSuffix(issuer, "/")
		document := map[string]any{
			"issuer": issuer, "authorization_endpoint": root + "/authorize", "token_endpoint": root + "/token",
			"jwks_uri":            root + "/keys",
			"revocation_endpoint": root + "/revoke", "end_session_endpoint": root + "/logout",
			"id_token_signing_alg_values_supported": []string{"ES256"},
		}
		if s.kind == "twitch" {
			delete(document, "revocation_endpoint") // it does not announce the one that it has
		}
		answerJSON(w, document)
	case s.issuer != "" && strings.HasSuffix(at, "/keys"):
		answerJSON(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &s.key.PublicKey, KeyID: "k", Algorithm: "ES256",
			Use: "sig"}}})
	case grant == "authorization_code" || grant == "refresh_token":
		s.authenticated(r, form)
		s.tokens(w, grant, form)
	case form.Get("token") != "":
		s.revoked = append(s.revoked, form.Get("token"))
	default:
		s.t.Errorf("%s %s: nobody answers there", r.Method, r.URL)
		w.WriteHeader(http.StatusNotFound)
	}
}

// formOf reads a token request in whatever form it comes.
func formOf(r *http.Request) (form url.Values, grant string) {
	form = r.Form
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		var members map[string]string
		_ = json.NewDecoder(r.Body).Decode(&members)
		for name, value := range members {
			form.Set(name, value)
		}
	}
	grant = form.Get("grant_type")
	if grant == "" && form.Get("refresh_token") != "" {
		grant = "refresh_token"
	}
	return form, grant
}

func (s *brandServer) authenticated(r *http.Request, form url.Values) {
	id, secret, _ := r.BasicAuth()
	id = cmp.Or(id, form.Get("client_id"), form.Get("client_key"), form.Get("appid"))
	secret = cmp.Or(secret, form.Get("client_secret"), form.Get("secret"))
	switch {
	case s.kind == "lark" && r.Header.Get("Authorization") == "Bearer app",
		s.kind == "wechat" && id == "the-client" && r.Method == http.MethodGet:
	case id != "the-client", s.kind == "apple" && strings.Count(secret, ".") != 2, s.kind != "apple" && secret != "the-secret":
		s.t.Errorf("client %q with the secret %q", id, secret)
	}
}

func (s *brandServer) tokens(w http.ResponseWriter, grant string, form url.Values) {
	s.mu.Lock()
	defer s.mu.Unlock()
	renewal := grant == "refresh_token"
	if !renewal {
		s.exchanged++
		if form.Get("code") != "the-code" {
			s.t.Errorf("code %q", form.Get("code"))
		}
		if s.challenge != "" && oauth2.S256ChallengeFromVerifier(form.Get("code_verifier")) != s.challenge {
			s.t.Errorf("the code verifier %q is not the challenge's", form.Get("code_verifier"))
		}
	} else if s.presented++; s.presented > 1 || form.Get("refresh_token") != "r1" {
		w.WriteHeader(cmp.Or(s.status, http.StatusBadRequest))
		fmt.Fprint(w, cmp.Or(s.refusal, `{"error":"invalid_grant"}`))
		return
	}
	body := s.token
	if renewal {
		body = cmp.Or(s.renewed, strings.NewReplacer(`"a1"`, `"a2"`, `"r1"`, `"r2"`).Replace(body))
	}
	if s.issuer == "" {
		fmt.Fprint(w, body)
		return
	}
	answer := map[string]any{"access_token": "a1", "refresh_token": "r1", "token_type": "Bearer", "expires_in": 3600}
	if renewal {
		answer["access_token"], answer["refresh_token"] = "a2", "r2"
	}
	if s.token != "" {
		if err := json.Unmarshal([]byte(s.token), &answer); err != nil {
			s.t.Error(err)
		}
	}
	answer["id_token"] = s.idToken()
	answerJSON(w, answer)
}

func (s *brandServer) idToken() string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: s.key, KeyID: "k"}}, nil)
	if err != nil {
		s.t.Error(err)
		return ""
	}
	issuer := s.issuer
	if s.kind == "gplus" {
		issuer = strings.TrimPrefix(issuer, "https://") // as Google's documentation allows
	}
	name := s.name
	if s.kind == "apple" {
		name = ""
	}
	claims, _ := json.Marshal(map[string]any{
		"iss": issuer, "sub": s.subject, "aud": "the-client", "iat": time.Now().Unix(), "exp": time.Now().Unix() + 600,
		"nonce": s.nonce, "name": name,
	})
	signed, err := signer.Sign(claims)
	if err != nil {
		s.t.Error(err)
		return ""
	}
	text, _ := signed.CompactSerialize()
	return text
}

func answerJSON(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}

// TestMain answers the calls that goth makes with the default transport.
func TestMain(m *testing.M) {
	profiles := map[string]string{}
	for _, s := range shapes() {
		if s.issuer == "" {
			maps.Copy(profiles, s.profile)
		}
	}
	network := http.DefaultTransport
	answers := roundTrip(func(r *http.Request) (*http.Response, error) {
		if strings.Contains(r.Header.Get("Authorization"), `oauth_consumer_key="hangs"`) {
			select {}
		}
		if asked := r.Header.Get("Authorization"); strings.Contains(asked, "oauth_callback=") && !strings.Contains(asked,
			"state%3Dthe-state") {
			return nil, errors.New("the state is not in the callback's URL")
		}
		if _, ok := profiles[r.URL.Host+r.URL.Path]; !ok {
			return network.RoundTrip(r)
		}
		return elsewhere{&brandServer{shape: shape{profile: profiles}}}.RoundTrip(r)
	})
	http.DefaultTransport = provider.BoundDefaultTransport(provider.Options{Transport: answers})
	os.Exit(authtest.Run(m, 16))
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Every brand signs in, renews, and has its refusals understood, by the shape of its answers.
func TestBrandsSignInAndRenew(t *testing.T) {
	t.Parallel()
	for _, s := range shapes() {
		t.Run(s.kind+" "+s.issuer+strings.Join(s.scopes, " "), func(t *testing.T) {
			t.Parallel()
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			server := &brandServer{t: t, shape: s, key: key}
			set := setOf(t, provider.Config{Name: "x", Type: s.kind, Extra: extraFor(t, s, key), Scopes: s.scopes}, server)
			p, _ := set.Get("x")
			done := brandSignIn(t, p, server)
			if _, own := set.Of(done.Identity); !own || done.Identity.Issuer == "" || done.Identity.OpenID() != (s.issuer != "") {
				t.Errorf("what it has issued is of %q", done.Identity.Issuer)
			}
			tokens := done.Answer.TokenSet(auth.TokenSet{}, p.Policy().Assumed)
			if done.Identity.Subject != s.subject || done.Identity.Name != s.name || strings.Contains(done.Identity.Email, "provided") {
				t.Errorf("signed in as %+v", done.Identity)
			}
			if tokens.Access == "" || tokens.Refresh.Reveal() != s.refresh || s.scope != "" && tokens.Scope != s.scope ||
				s.scope == "" && len(s.scopes) > 0 && tokens.Scope != strings.Join(s.scopes, " ") ||
				done.Answer.Lifetime != s.lifetime || tokens.Assumed != (s.lifetime == 0) {
				t.Errorf("refresh %q, scope %q, lifetime %v", tokens.Refresh.Reveal(), tokens.Scope, done.Answer.Lifetime)
			}
			if claims, _ := json.Marshal(done.Identity.Claims); strings.Contains(string(claims), `"a1"`) {
				t.Errorf("the claims hold the access token: %s", claims)
			}
			if (done.IDToken != "") != (s.issuer != "") {
				t.Errorf("id token %v of the issuer %q", done.IDToken, s.issuer)
			}
			if s.refresh != "" {
				renewAndRefuse(t, p, s, tokens)
			}
			if s.issuer != "" {
				if err := p.Revoke(t.Context(), tokens); err != nil || !slices.Equal(server.revoked, []string{s.refresh}) {
					t.Errorf("revoked: %q, %v", server.revoked, err)
				}
			}
			if server.exchanged > 1 {
				t.Errorf("the code was presented %d times", server.exchanged)
			}
		})
	}
}

// extraFor are the shape's settings, with a key for Apple.
func extraFor(t *testing.T, s shape, key *ecdsa.PrivateKey) map[string]string {
	t.Helper()
	if s.kind != "apple" {
		return s.extra
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.p8")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string]string{"team_id": "T", "key_id": "K", "key_file": file}
}

func brandSignIn(t *testing.T, p provider.Provider, server *brandServer) auth.SignedIn {
	t.Helper()
	session, err := p.Begin(t.Context(), "the-state", "", "")
	if err != nil {
		t.Fatal(err)
	}
	target, _ := session.GetAuthURL()
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "https" {
		t.Fatalf("%v: %s", err, target)
	}
	// Protocols without a state have it in the callback's URL.
	stated := u.Query().Get("state") + u.Query().Get("cb") + u.Query().Get("openid.return_to")
	oauth1 := server.callback.Has("oauth_verifier")
	if !oauth1 && stated != "the-state" && stated != "http://rp.example/auth/x/callback?state=the-state" {
		t.Errorf("the state is not in %s", target)
	}
	server.nonce, server.challenge = u.Query().Get("nonce"), u.Query().Get("code_challenge")
	callback := url.Values{"code": {"the-code"}, "state": {"the-state"}}
	maps.Copy(callback, server.callback)
	own, _ := p.(provider.OwnAnswer)
	for name := range server.callback {
		if own == nil || !own.Answers(name) {
			t.Errorf("what %s says of %s does not reach it", server.kind, name)
		}
	}
	callback.Set("openid.return_to", u.Query().Get("openid.return_to"))
	if server.kind == "shopify" {
		callback.Del("openid.return_to")
		callback.Set("hmac", shopifySignature(callback, "the-secret"))
	}
	restored, err := p.UnmarshalSession(session.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	done, err := p.Finish(t.Context(), restored, callback)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func shopifySignature(callback url.Values, secret string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(callback)) {
		pairs = append(pairs, name+"="+callback.Get(name))
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(strings.Join(pairs, "&")))
	return hex.EncodeToString(mac.Sum(nil))
}

func renewAndRefuse(t *testing.T, p provider.Provider, s shape, tokens auth.TokenSet) {
	t.Helper()
	renewed, err := p.Renew(t.Context(), tokens, false)
	if err != nil || renewed.Access != "a2" || renewed.Refresh != "r2" && s.kind != "google" {
		t.Errorf("renewed: %v, %v", renewed.Refresh.Reveal(), err)
	}
	var refusal *auth.ProviderError
	_, err = p.Renew(t.Context(), tokens, false)
	if !errors.As(err, &refusal) || refusal.Failure.Code != cmp.Or(s.code,
		"invalid_grant") || refusal.Delivery != auth.DeliveryAnswered {
		t.Errorf("refused: %v", err)
	}
}

// A profile's words and links may have a token in them.
func TestAProfileNamesNoToken(t *testing.T) {
	t.Parallel()
	const access, idToken = "gho_0123456789abcdef", "e30.e30.0123456789abcdef"
	mux := http.NewServeMux()
	mux.HandleFunc("POST github.com/login/oauth/access_token", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "access_token="+access+"&id_token="+idToken+"&token_type=bearer")
	})
	mux.HandleFunc("GET api.github.com/user", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"id":42,"login":"alice","name":"Alice, %[1]s","email":"%[1]s@example.com","avatar_url":"https://x.example/a.png?t=%[1]s",
			"bio":"of %[2]s"}`, access, idToken)
	})
	p := brandOf(t, provider.Config{Name: "github", Type: "github"}, mux)
	session, err := p.Begin(t.Context(), "the-state", "", "")
	if err != nil {
		t.Fatal(err)
	}
	done, err := p.Finish(t.Context(), session, url.Values{"code": {"c"}, "state": {"the-state"}})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := json.Marshal(done.Identity); err != nil || done.Identity.Claims["login"] != "alice" ||
		strings.Contains(string(all), access) || strings.Contains(string(all), idToken) {
		t.Errorf("%s, %v", all, err)
	}
	if done.IDToken != "" {
		t.Error("an id token that nobody has verified is kept")
	}
}
