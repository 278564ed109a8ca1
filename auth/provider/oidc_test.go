package provider_test

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/markbates/goth"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/auth/provider/scripted"
)

func newOIDC(t *testing.T, idp *scripted.Provider, edit func(*provider.Config)) *provider.OIDC {
	t.Helper()
	return newOIDCAt(t, idp, time.Now, edit)
}

func newOIDCAt(t *testing.T, idp *scripted.Provider, now func() time.Time, edit func(*provider.Config)) *provider.OIDC {
	t.Helper()
	config := provider.Config{
		Name: "work", Type: "oidc", Issuer: idp.URL, ClientID: scripted.ClientID, ClientSecret: scripted.ClientSecret,
		Scopes: []string{"openid", "offline_access"}, CallbackURL: scripted.CallbackURL, Audience: "https://api.example/",
		AuthParams: map[string]string{"access_type": "offline"},
	}
	if edit != nil {
		edit(&config)
	}
	p, err := provider.NewOIDC(config, provider.Options{RenewTimeout: 5 * time.Second, Now: now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// signIn goes to the provider and back, and finishes with the callback after an edit.
func signIn(t *testing.T, p *provider.OIDC, edit func(url.Values)) (auth.SignedIn, error) {
	t.Helper()
	session, err := p.Begin(t.Context(), "the-state", "", "alice@example.com")
	if err != nil {
		return auth.SignedIn{}, err
	}
	restored, err := p.UnmarshalSession(session.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	return p.Finish(t.Context(), restored, callbackOf(t, session, edit))
}

func callbackOf(t *testing.T, session goth.Session, edit func(url.Values)) url.Values {
	t.Helper()
	target, err := session.GetAuthURL()
	if err != nil {
		t.Fatal(err)
	}
	query := scripted.Callback(t, target)
	if edit != nil {
		edit(query)
	}
	return query
}

// Servers may leave scopes unannounced that they take (OpenID Connect Discovery section 3): what somebody has chosen is asked for.
func TestWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	idp.Document = func(document map[string]any) { document["scopes_supported"] = []string{"openid", "profile"} }
	for want, chosen := range map[string][]string{
		"openid profile":                      nil,
		"openid profile email offline_access": provider.DefaultScopes(),
		"openid api:read":                     {"openid", "api:read"},
	} {
		p := newOIDC(t, idp, func(c *provider.Config) { c.Scopes = chosen })
		session, err := p.Begin(t.Context(), "the-state", "", "")
		if err != nil {
			t.Fatal(err)
		}
		target, err := session.GetAuthURL()
		if u, invalid := url.Parse(target); err != nil || invalid != nil || u.Query().Get("scope") != want {
			t.Errorf("%q: asked with %s (%v, %v), want %s", chosen, target, err, invalid, want)
		}
	}
}

// A provider that says itself that it knows no consent, or gives no refresh tokens, is not asked for them. One that announces nothing may.
func TestConsentIsWantedWhereItMayHelp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		announced map[string]any
		want      bool
	}{
		"nothing announced": {nil, true},
		"both": {map[string]any{
			"grant_types_supported":   []string{"authorization_code", "refresh_token"},
			"prompt_values_supported": []string{"none", "login", "consent"},
		}, true},
		"empty lists":         {map[string]any{"grant_types_supported": []string{}, "prompt_values_supported": []string{}}, true},
		"no refresh tokens":   {map[string]any{"grant_types_supported": []string{"authorization_code", "implicit"}}, false},
		"no consent":          {map[string]any{"prompt_values_supported": []string{"none", "login"}}, false},
		"no scope to ask for": {map[string]any{"scopes_supported": []string{"openid"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idp := scripted.New(t)
			idp.Document = func(document map[string]any) { maps.Copy(document, c.announced) }
			p := newOIDC(t, idp, func(config *provider.Config) { config.Scopes = nil })
			if got := p.WantsConsent(t.Context()); got != c.want {
				t.Errorf("consent is wanted: %v", got)
			}
		})
	}
}

func TestSignInAsksWithPKCEStateAndNonce(t *testing.T) {
	t.Parallel()
	p := newOIDC(t, scripted.New(t), nil)
	seen := map[string]bool{}
	for range 20 {
		session, err := p.Begin(t.Context(), "the-state", "login", "alice@example.com")
		if err != nil {
			t.Fatal(err)
		}
		text, _ := session.GetAuthURL()
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		if q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 || q.Get("state") != "the-state" ||
			q.Get("redirect_uri") != scripted.CallbackURL || q.Get("scope") != "openid offline_access" || q.Get("audience") != "https://api.example/" ||
			q.Get("access_type") != "offline" || q.Get("prompt") != "login" || q.Get("login_hint") != "alice@example.com" || len(q.Get("nonce")) < 22 {
			t.Fatalf("%v", q)
		}
		for _, name := range []string{"code_challenge", "nonce"} {
			if seen[q.Get(name)] {
				t.Fatalf("%s is used twice", name)
			}
			seen[q.Get(name)] = true
		}
	}
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	done, err := signIn(t, newOIDC(t, scripted.New(t), nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	if i := done.Identity; i.Subject != "alice" || i.Name != "Alice" || i.Email != "alice@example.com" || i.Provider != "work" || i.Claims["locale"] != "en" {
		t.Errorf("%+v", i)
	}
	if done.IDToken == "" || done.Answer.Access == "" || done.Answer.Refresh == "" || done.Answer.Lifetime != time.Hour {
		t.Errorf("%+v", done.Answer)
	}
}

// RFC 6749 section 5.1: an answer leaves the scope out that is as it was asked for.
func TestAScopeThatIsLeftOutIsTheOneAskedFor(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	idp.Tokens = func(tokens map[string]any, _ bool) { delete(tokens, "scope") }
	done, err := signIn(t, newOIDC(t, idp, nil), nil)
	if err != nil || done.Answer.Scope != "openid offline_access" {
		t.Errorf("scope %q, %v", done.Answer.Scope, err)
	}
}

func TestCallbacksThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit     func(url.Values)
		document func(map[string]any)
		code     string
	}{
		"a wrong iss":                 {func(q url.Values) { q.Set("iss", "https://evil.example") }, nil, "issuer_mismatch"},
		"no iss where it is promised": {nil, func(d map[string]any) { d["authorization_response_iss_parameter_supported"] = true }, "issuer_mismatch"},
		"an error":                    {func(q url.Values) { q.Set("error", "access_denied") }, nil, "access_denied"},
		"an error of another's":       {func(q url.Values) { q["error"], q["iss"] = []string{"x"}, []string{"https://evil.example"} }, nil, "issuer_mismatch"},
		"no code":                     {func(q url.Values) { q.Del("code") }, nil, "no_code"},
		"another code":                {func(q url.Values) { q.Set("code", "guess") }, nil, "code_exchange_failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idp := scripted.New(t)
			idp.Document = c.document
			_, err := signIn(t, newOIDC(t, idp, nil), c.edit)
			var refusal *provider.SignInError
			if !errors.As(err, &refusal) || refusal.Code != c.code {
				t.Errorf("error %v, want %s", err, c.code)
			}
		})
	}
}

// A provider that is down at start is discovered when it is first needed, with one call for all who need it.
func TestDiscoveryWhenFirstNeeded(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	up := atomic.Bool{}
	idp := scripted.New(t)
	idp.Document = func(map[string]any) { calls.Add(1); time.Sleep(100 * time.Millisecond) }
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		response, err := http.Get(idp.URL + r.URL.Path)
		if err != nil {
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		_, _ = w.Write([]byte(strings.ReplaceAll(string(body), idp.URL, "http://"+r.Host)))
	}))
	t.Cleanup(front.Close)
	p := newOIDC(t, idp, func(c *provider.Config) { c.Issuer = front.URL })
	if _, err := p.Begin(t.Context(), "s", "", ""); err == nil {
		t.Fatal("it began without a provider")
	}
	up.Store(true)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := p.Begin(t.Context(), "s", "", ""); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if calls.Load() != 1 {
		t.Errorf("%d discovery calls, want 1", calls.Load())
	}
}

func TestItIsAGothProvider(t *testing.T) {
	t.Parallel()
	var p goth.Provider = newOIDC(t, scripted.New(t), nil)
	session, err := p.BeginAuth("the-state")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.FetchUser(session); err == nil {
		t.Error("a user before the sign-in")
	}
	if _, err := session.Authorize(p, callbackOf(t, session, nil)); err != nil {
		t.Fatal(err)
	}
	user, err := p.FetchUser(session)
	if err != nil || user.UserID != "alice" || user.RefreshToken == "" || user.IDToken == "" {
		t.Fatalf("%v, %v", user.UserID, err)
	}
	token, err := p.RefreshToken(user.RefreshToken)
	if err != nil || token.AccessToken == user.AccessToken || token.RefreshToken == user.RefreshToken {
		t.Errorf("renewed: %v", err)
	}
}

func TestReservedParametersCannotBeSet(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set   func(c *provider.Config, params map[string]string)
		names []string
		free  string
	}{
		"auth_params": {func(c *provider.Config, params map[string]string) { c.AuthParams = params }, []string{
			"client_id", "client_secret", "code_challenge", "code_challenge_method", "nonce", "redirect_uri", "response_type", "scope", "state",
		}, "prompt"},
		"token_params": {func(c *provider.Config, params map[string]string) { c.TokenParams = params }, []string{
			"client_assertion", "client_assertion_type", "client_id", "client_secret", "code", "code_verifier", "grant_type", "redirect_uri",
			"refresh_token", "resource", "scope",
		}, "audience"},
	} {
		for _, param := range append(c.names, c.free) {
			var config provider.Config
			c.set(&config, map[string]string{param: "x"})
			if _, err := provider.NewOIDC(config, provider.Options{}); (err == nil) != (param == c.free) {
				t.Errorf("%s: %s: %v", name, param, err)
			}
		}
	}
}

func TestEndOfSession(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	idp.Document = func(d map[string]any) { d["end_session_endpoint"] = idp.URL + "/end?x=1" }
	u, err := url.Parse(newOIDC(t, idp, nil).EndSessionURL(t.Context(), "the-id-token", "http://rp.example/", "s"))
	if q := u.Query(); err != nil || q.Get("id_token_hint") != "the-id-token" || q.Get("client_id") != scripted.ClientID ||
		q.Get("post_logout_redirect_uri") != "http://rp.example/" || q.Get("state") != "s" || q.Get("x") != "1" {
		t.Errorf("%v, %v", u, err)
	}
	if long := newOIDC(t, idp, nil).EndSessionURL(t.Context(), auth.Secret(strings.Repeat("x", 5000)), "http://rp.example/", "s"); strings.Contains(long,
		"id_token_hint") || !strings.Contains(long, "client_id=") {
		t.Errorf("a URL of %d bytes", len(long))
	}
}

// What one provider has issued is not shown to another that has its name now. Realms and tenants of one host are issuers of their own, and
// brands are providers like any other. Of a brand's grants the oldest do not say whose they are.
// Where refresh tokens cannot be revoked, the access token is, and whoever wants to know learns that the other lives on.
func TestAnEndpointThatTakesNoRefreshTokensRevokesTheOther(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	var tries atomic.Int32
	idp.Revocation = func(w http.ResponseWriter) bool {
		if tries.Add(1) > 1 {
			return false
		}
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error":"unsupported_token_type"}`))
		return true
	}
	err := newOIDC(t, idp, nil).Revoke(t.Context(), auth.TokenSet{Access: "a", Refresh: "r"})
	if got := idp.Revoked(); err == nil || err.Error() != "unsupported_token_type" || !slices.Equal(got, []string{"a"}) {
		t.Errorf("revoked: %q, %v", got, err)
	}
}

func TestAnIdentityIsOfItsIssuerOnly(t *testing.T) {
	t.Parallel()
	const realm, google, github = "https://id.example/realms/b", "https://accounts.google.com", "github:github.com"
	all := []string{
		"", realm, "https://id.example/realms/a", realm + "/", "https://else.example/realms/b", google, "google:oauth2.googleapis.com",
		github, "github:git.example", "gitlab:gitlab.com", "gitlab:git.example", "steam:", "https://identity.xero.com", "xero:",
	}
	for name, c := range map[string]struct {
		config provider.Config
		own    []string
	}{
		"an OpenID provider":     {provider.Config{Type: "oidc", Issuer: realm}, []string{realm}},
		"the issuer of a brand":  {provider.Config{Type: "oidc", Issuer: google}, []string{google}},
		"Google":                 {provider.Config{Type: "google"}, []string{"", google, "google:oauth2.googleapis.com"}},
		"Google without openid":  {provider.Config{Type: "google", Scopes: []string{"email"}}, []string{"", google, "google:oauth2.googleapis.com"}},
		"GitHub":                 {provider.Config{Type: "github"}, []string{"", github}},
		"GitHub, its own server": {provider.Config{Type: "github", Extra: map[string]string{"base_url": "https://GIT.example/"}}, []string{"", "github:git.example"}},
		"GitLab, its own server": {provider.Config{Type: "gitlab", Extra: map[string]string{"base_url": "git.example"}}, []string{"", "gitlab:git.example"}},
		"Steam":                  {provider.Config{Type: "steam"}, []string{"", "steam:"}},
		"Xero":                   {provider.Config{Type: "xero"}, []string{"https://identity.xero.com"}},
	} {
		c.config.Name, c.config.ClientID = "work", "c"
		set, err := provider.New([]provider.Config{c.config}, provider.Options{RenewTimeout: time.Second, Now: time.Now})
		if err != nil {
			t.Fatal(name, err)
		}
		for _, issuer := range all {
			if _, ok := set.Of(auth.Identity{Provider: "work", Issuer: issuer, Subject: "alice"}); ok != slices.Contains(c.own, issuer) {
				t.Errorf("%s: what %q has issued is of it: %v", name, issuer, ok)
			}
		}
	}
}

// With client_credentials the client is granted a token of its own. An id token that comes with it is of the client, too.
func TestAnIDTokenOfTheClientIsNobodys(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	p := newOIDC(t, idp, func(c *provider.Config) { c.GrantType = auth.GrantClientCredentials })
	idp.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "a-of-the-client", "token_type": "Bearer", "expires_in": 60, "id_token": "e30.e30.e30"})
		return true
	}
	if answer, err := p.Renew(t.Context(), auth.TokenSet{}, true); err != nil || answer.ID != "" || answer.Access == "" {
		t.Errorf("%+v, %v", answer, err)
	}
}
