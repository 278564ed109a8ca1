package provider_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/markbates/goth"

	"keyturn/auth"
	"keyturn/auth/provider"
)

// elsewhere sends every request to a test server, whatever host it was meant for.
type elsewhere struct{ handler http.Handler }

func (e elsewhere) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	e.handler.ServeHTTP(w, r)
	response := w.Result()
	response.Request = r
	return response, nil
}

func brandOf(t *testing.T, config provider.Config, handler http.Handler) provider.Provider {
	t.Helper()
	p, _ := setOf(t, config, handler).Get(config.Name)
	return p
}

func setOf(t *testing.T, config provider.Config, handler http.Handler) *provider.Set {
	t.Helper()
	if config.ClientID == "" {
		config.ClientID = "the-client"
	}
	if config.Type != "apple" {
		config.ClientSecret = "the-secret"
	}
	config.CallbackURL = "http://rp.example/auth/" + config.Name + "/callback"
	set, err := provider.New([]provider.Config{config}, provider.Options{
		RenewTimeout: 5 * time.Second, Now: time.Now, Log: slog.New(slog.DiscardHandler), Transport: elsewhere{handler},
	})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// A GitHub App's tokens expire: the refresh token, which goth drops, must survive, also in GitHub's form encoding.
func TestGitHub(t *testing.T) {
	t.Parallel()
	presented := 0
	mux := http.NewServeMux()
	mux.HandleFunc("POST github.com/login/oauth/access_token", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-www-form-urlencoded")
		switch r.PostFormValue("grant_type") + r.PostFormValue("refresh_token") {
		case "authorization_code":
			fmt.Fprint(w, "access_token=a1&refresh_token=r1&expires_in=28800&refresh_token_expires_in=15811200&token_type=bearer&scope=")
		case "refresh_tokenr1":
			if presented++; presented == 1 {
				fmt.Fprint(w, "access_token=a2&refresh_token=r2&expires_in=28800&token_type=bearer")
				return
			}
			fallthrough
		default:
			fmt.Fprint(w, "error=bad_refresh_token&error_description=no")
		}
	})
	mux.HandleFunc("GET api.github.com/user", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"id":42,"login":"alice","name":"Alice","email":"alice@example.com","avatar_url":"https://x.example/a.png"}`)
	})
	mux.HandleFunc("GET api.github.com/user/emails", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `[]`) })
	p := brandOf(t, provider.Config{Name: "github", Type: "github"}, mux)
	if p.Label() != "GitHub" {
		t.Errorf("label %q", p.Label())
	}
	session, err := p.Begin(t.Context(), "the-state", "", "alice@example.com")
	if err != nil {
		t.Fatal(err)
	}
	target, _ := session.GetAuthURL()
	if u, err := url.Parse(target); err != nil || u.Host != "github.com" || u.Query().Get("state") != "the-state" ||
		u.Query().Get("login_hint") != "alice@example.com" {
		t.Errorf("%q", target)
	}
	restored, err := p.UnmarshalSession(session.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	done, err := p.Finish(t.Context(), restored, url.Values{"code": {"c"}, "state": {"the-state"}})
	if err != nil {
		t.Fatal(err)
	}
	if done.Identity.Subject != "42" || done.Identity.Name != "Alice" || done.Answer.Refresh != "r1" ||
		done.Answer.Lifetime != 8*time.Hour || done.Answer.RefreshLifetime != 183*24*time.Hour {
		t.Errorf("%+v, %v", done.Answer, done.Identity.Subject)
	}
	tokens := done.Answer.TokenSet(auth.TokenSet{}, 0)
	if renewed, err := p.Renew(t.Context(), tokens, true); err != nil || renewed.Refresh != "r2" {
		t.Errorf("%v, %v", renewed, err)
	}
	_, err = p.Renew(t.Context(), tokens, true)
	var refusal *auth.ProviderError
	if !errors.As(err, &refusal) || refusal.Failure.Code != "bad_refresh_token" {
		t.Errorf("%v", err)
	}
}

func TestBrandsThatFailSayNothingSecret(t *testing.T) {
	t.Parallel()
	p := brandOf(t, provider.Config{Name: "work", Type: "discord"}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, "you sent %s and %s", r.PostFormValue("client_secret"), r.PostFormValue("code"))
	}))
	session, err := p.Begin(t.Context(), "s", "", "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Finish(t.Context(), session, url.Values{"code": {"the-code"}})
	var refusal *provider.SignInError
	if !errors.As(err, &refusal) || strings.Contains(err.Error(), "the-secret") || strings.Contains(err.Error(), "the-code") {
		t.Errorf("%v", err)
	}
	if _, err := p.Finish(t.Context(), session, url.Values{"error": {"access_denied"}}); !errors.As(err,
		&refusal) || refusal.Code != "access_denied" {
		t.Errorf("%v", err)
	}
}

func TestBrandsBeginWithWhatTheyNeed(t *testing.T) {
	t.Parallel()
	p := brandOf(t, provider.Config{
		Name: "x", Type: "google", Scopes: []string{"email"}, AuthParams: map[string]string{"added": "yes"}, Audience: "api",
	}, http.NotFoundHandler())
	session, err := p.Begin(t.Context(), "the-state", "", "")
	if err != nil {
		t.Fatal(err)
	}
	target, _ := session.GetAuthURL()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"access_type": "offline", "prompt": "consent", "state": "the-state", "client_id": "the-client", "added": "yes",
		"audience":              "api",
		"code_challenge_method": "S256", "redirect_uri": "http://rp.example/auth/x/callback", "scope": "email",
	} {
		if got := u.Query().Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if p.Name() != "x" || p.Type() != "google" || p.Label() != "Google" {
		t.Errorf("%s %s %s", p.Name(), p.Type(), p.Label())
	}
}

// goth's packages are the table's types; openidConnect is the type oidc, and faux is for goth's own tests.
func TestEveryProviderOfGothIsABrand(t *testing.T) {
	t.Parallel()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}",
		"github.com/markbates/goth/providers/github").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages, err := os.ReadDir(filepath.Dir(strings.TrimSpace(string(dir))))
	if err != nil || len(packages) < 70 {
		t.Fatalf("%d packages, %v", len(packages), err)
	}
	tried := map[string]bool{}
	for _, s := range shapes() {
		tried[s.kind] = true
	}
	for _, p := range packages {
		if p.Name() == "faux" || p.Name() == "openidConnect" {
			continue
		}
		if _, err := provider.CheckBrand(provider.Config{Type: p.Name()}); err != nil && strings.Contains(err.Error(), "not known") {
			t.Errorf("%s is missing from the table", p.Name())
		}
		if !tried[p.Name()] {
			t.Errorf("%s signs in in no test", p.Name())
		}
	}
}

// finishAs finishes a sign-in with what a brand answers.
func finishAs(t *testing.T, s shape, callback url.Values) (auth.SignedIn, error) {
	t.Helper()
	p := brandOf(t, provider.Config{Name: "x", Type: s.kind, Extra: s.extra, Scopes: s.scopes}, &brandServer{t: t, shape: s})
	session, err := p.Begin(t.Context(), "the-state", "", "")
	if err != nil {
		t.Fatal(err)
	}
	return p.Finish(t.Context(), session, callback)
}

// Where an access token does not say when it ends, the table knows, and the settings know better.
func TestTokensThatDoNotSayWhenTheyEnd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind      string
		set, want time.Duration
	}{
		{"github", 0, 24 * time.Hour}, {"salesforce", 0, 15 * time.Minute}, {"salesforce", 2 * time.Hour, 2 * time.Hour},
		{"strava", 0, time.Hour},
	} {
		p := brandOf(t, provider.Config{Name: "x", Type: c.kind, AssumedLifetime: c.set}, http.NotFoundHandler())
		tokens := auth.Answer{Access: "a"}.TokenSet(auth.TokenSet{}, p.Policy().Assumed)
		if tokens.Lifetime() != c.want || !tokens.Assumed {
			t.Errorf("%s: %v, want %v", c.kind, tokens.Lifetime(), c.want)
		}
	}
}

// goth makes a profile without a number the user 0, whoever it is.
func TestNobodyIsUserZero(t *testing.T) {
	t.Parallel()
	s := shape{kind: "kakao", token: bearerHour,
		profile: map[string]string{"kapi.kakao.com/v2/user/me": `{"msg":"try later","code":-1}`}}
	_, err := finishAs(t, s, url.Values{"code": {"the-code"}})
	var refusal *provider.SignInError
	if !errors.As(err, &refusal) || refusal.Code != "no_subject" {
		t.Errorf("%v", err)
	}
}

// Whoever holds a brand as a goth.Provider signs people in and renews as with goth's own.
func TestBrandsAreGothProviders(t *testing.T) {
	t.Parallel()
	profile := map[string]string{"oauth.reddit.com/api/v1/me": `{"id":"t2","name":"alice"}`}
	s := shape{kind: "reddit", token: bearerHour, profile: profile}
	var p goth.Provider = brandOf(t, provider.Config{Name: "x", Type: s.kind}, &brandServer{t: t, shape: s})
	session, err := p.BeginAuth("the-state")
	if err != nil {
		t.Fatal(err)
	}
	if session, err = p.UnmarshalSession(session.Marshal()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.FetchUser(session); err == nil {
		t.Error("a user before the exchange")
	}
	if access, err := session.Authorize(p, url.Values{"code": {"the-code"}}); err != nil || access != "a1" {
		t.Errorf("%q, %v", access, err)
	}
	if user, err := p.FetchUser(session); err != nil || user.UserID != "t2" || user.RefreshToken != "r1" {
		t.Errorf("%+v, %v", user, err)
	}
	if token, err := p.RefreshToken("r1"); err != nil || token.AccessToken != "a2" || !p.RefreshTokenAvailable() {
		t.Errorf("%v, %v", token, err)
	}
}

// Facebook's errors are objects, and VK says the email address beside the tokens only.
func TestAnswersThatSayMoreThanTokens(t *testing.T) {
	t.Parallel()
	facebook := shape{kind: "facebook", token: `{"error":{"message":"This authorization code has been used.",` +
		`"type":"OAuthException","code":100}}`}
	_, err := finishAs(t, facebook, url.Values{"code": {"the-code"}})
	if err == nil || err.Error() != "code_exchange_failed: OAuthException: This authorization code has been used." {
		t.Errorf("%v", err)
	}
	for _, s := range shapes() {
		if s.kind != "vk" {
			continue
		}
		if done, err := finishAs(t, s, url.Values{"code": {"the-code"}}); err != nil || done.Identity.Email != "a@example.com" {
			t.Errorf("%q, %v", done.Identity.Email, err)
		}
	}
}

func TestOldProtocolsSayNoInTheirOwnWay(t *testing.T) {
	t.Parallel()
	for kind, callback := range map[string]url.Values{"twitter": {"denied": {"rt"}}, "steam": {"openid.mode": {"cancel"}}} {
		_, err := finishAs(t, shape{kind: kind}, callback)
		var refusal *provider.SignInError
		if !errors.As(err, &refusal) || refusal.Code != "access_denied" {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestSteamsAssertionsAreSignedWhole(t *testing.T) {
	t.Parallel()
	_, err := finishAs(t, shape{kind: "steam"}, url.Values{"openid.sig": {"s"}, "openid.signed": {"return_to,response_nonce"}})
	if err == nil || !strings.Contains(err.Error(), "claimed_id is not signed") {
		t.Errorf("%v", err)
	}
}

func TestShopifyCallbacksThatAreNotShopifysAreRefused(t *testing.T) {
	t.Parallel()
	honest := url.Values{"code": {"the-code"}, "shop": {"acme.myshopify.com"}, "timestamp": {"1"}}
	for what, edit := range map[string]func(url.Values){
		"changed":    func(v url.Values) { v.Set("timestamp", "2") },
		"not signed": func(v url.Values) { v.Del("hmac") },
		"of another shop": func(v url.Values) {
			v.Set("shop", "evil.myshopify.com")
			v.Del("hmac")
			v.Set("hmac", shopifySignature(v, "the-secret"))
		},
	} {
		callback := maps.Clone(honest)
		callback.Set("hmac", shopifySignature(honest, "the-secret"))
		edit(callback)
		_, err := finishAs(t, shape{kind: "shopify", extra: map[string]string{"shop": "acme"}}, callback)
		var refusal *provider.SignInError
		if !errors.As(err, &refusal) || refusal.Code != "invalid_callback" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// WeCom gives goth the corporation's token; nobody who signs in may have that.
func TestTheCorporationsTokenIsNotHandedToPeople(t *testing.T) {
	t.Parallel()
	for _, s := range shapes() {
		if s.kind != "wecom" {
			continue
		}
		done, err := finishAs(t, s, url.Values{"code": {"the-code"}})
		if err != nil || strings.Contains(done.Answer.Access.Reveal(),
			"corporation") || strings.Contains(fmt.Sprint(done.Identity.Claims), "corporation") {
			t.Errorf("%v, %q", err, done.Answer.Access.Reveal())
		}
	}
}

// goth takes no context. A brand that does not answer must not hold a sign-in, not even where goth calls in BeginAuth.
func TestBrandsThatHangAreLeft(t *testing.T) {
	t.Parallel()
	hang := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	p := brandOf(t, provider.Config{Name: "x", Type: "github"}, hang)
	session, err := p.Begin(ctx, "s", "", "")
	if err != nil {
		t.Fatal(err)
	}
	var refusal *provider.SignInError
	if _, err = p.Finish(ctx, session, url.Values{"code": {"c"}}); !errors.As(err,
		&refusal) || refusal.Code != "code_exchange_failed" {
		t.Errorf("%v", err)
	}
	old := brandOf(t, provider.Config{Name: "x", Type: "twitter", ClientID: "hangs"}, hang)
	if _, err = old.Begin(ctx, "s", "", ""); !errors.As(err, &refusal) || refusal.Code != auth.CodeUnreachable {
		t.Errorf("%v", err)
	}
}

// A presets' end of session is what the brand calls it.
func TestBrandsEndSessions(t *testing.T) {
	t.Parallel()
	for _, s := range shapes() {
		if s.issuer == "" || s.kind != "cognito" && s.kind != "okta" {
			continue
		}
		p := brandOf(t, provider.Config{Name: "x", Type: s.kind, Extra: s.extra}, &brandServer{t: t, shape: s})
		target := p.EndSessionURL(t.Context(), "", "http://rp.example/", "the-state")
		u, err := url.Parse(target)
		if err != nil || u.Query().Get("logout_uri") == "" == (s.kind == "cognito") || u.Query().
			Get("post_logout_redirect_uri") == "" == (s.kind == "okta") {
			t.Errorf("%s: %s", s.kind, target)
		}
	}
	p := brandOf(t, provider.Config{Name: "x", Type: "auth0", Extra: map[string]string{"domain": "acme.auth0.com"}},
		http.NotFoundHandler())
	want := "https://acme.auth0.com/v2/logout?client_id=the-client&returnTo=http%3A%2F%2Frp.example%2F"
	if got := p.EndSessionURL(t.Context(), "", "http://rp.example/", "s"); got != want {
		t.Errorf("auth0: %s", got)
	}
}
