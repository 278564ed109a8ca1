package provider_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

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
	config.ClientID, config.ClientSecret = "the-client", "the-secret"
	config.CallbackURL = "http://rp.example/auth/" + config.Name + "/callback"
	set, err := provider.New([]provider.Config{config}, provider.Options{
		RenewTimeout: 5 * time.Second, Now: time.Now, Log: slog.New(slog.DiscardHandler), Transport: elsewhere{handler},
	})
	if err != nil {
		t.Fatal(err)
	}
	p, _ := set.Get(config.Name)
	return p
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
	session, err := p.Begin(t.Context(), "the-state", "")
	if err != nil {
		t.Fatal(err)
	}
	target, _ := session.GetAuthURL()
	if u, err := url.Parse(target); err != nil || u.Host != "github.com" || u.Query().Get("state") != "the-state" {
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
	if done.Identity.Subject != "42" || done.Identity.Name != "Alice" || done.Answer.Refresh != "r1" || done.Answer.Lifetime != 8*time.Hour || done.Answer.RefreshLifetime != 183*24*time.Hour {
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
	p := brandOf(t, provider.Config{Name: "work", Type: "auth0", Extra: map[string]string{"domain": "acme.auth0.com"}}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, "you sent %s and %s", r.PostFormValue("client_secret"), r.PostFormValue("code"))
	}))
	session, err := p.Begin(t.Context(), "s", "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Finish(t.Context(), session, url.Values{"code": {"the-code"}})
	var refusal *provider.SignInError
	if !errors.As(err, &refusal) || strings.Contains(err.Error(), "the-secret") || strings.Contains(err.Error(), "the-code") {
		t.Errorf("%v", err)
	}
	if _, err := p.Finish(t.Context(), session, url.Values{"error": {"access_denied"}}); !errors.As(err, &refusal) || refusal.Code != "access_denied" {
		t.Errorf("%v", err)
	}
}

func TestBrandsBegin(t *testing.T) {
	t.Parallel()
	for brand, extra := range map[string]map[string]string{
		"auth0": {"domain": "acme.auth0.com"}, "azureadv2": {"tenant": "common"}, "bitbucket": nil, "digitalocean": nil, "discord": nil, "dropbox": nil,
		"facebook": nil, "github": nil, "gitlab": nil, "google": nil, "linkedin": nil, "okta": {"org_url": "https://acme.okta.com/"}, "salesforce": nil, "spotify": nil, "twitch": nil,
	} {
		p := brandOf(t, provider.Config{Name: "x", Type: brand, Extra: extra, AuthParams: map[string]string{"added": "yes"}}, http.NotFoundHandler())
		session, err := p.Begin(t.Context(), "the-state", "")
		if err != nil {
			t.Errorf("%s: %v", brand, err)
			continue
		}
		target, _ := session.GetAuthURL()
		u, err := url.Parse(target)
		if q := u.Query(); err != nil || u.Scheme != "https" || q.Get("state") != "the-state" || q.Get("client_id") != "the-client" || q.Get("added") != "yes" || p.Name() != "x" {
			t.Errorf("%s: %s", brand, target)
		}
		if brand == "google" && (u.Query().Get("access_type") != "offline" || u.Query().Get("prompt") != "consent") {
			t.Errorf("google: %s", target)
		}
	}
}

func TestBrandSettings(t *testing.T) {
	t.Parallel()
	for want, config := range map[string]provider.Config{
		`needs the setting "domain"`: {Type: "auth0"},
		`has no setting "domain"`:    {Type: "github", Extra: map[string]string{"domain": "x"}},
		`type "gihub" is not known`:  {Type: "gihub"},
		`"state" cannot be set`:      {Type: "github", AuthParams: map[string]string{"state": "x"}},
	} {
		config.Name = "x"
		if _, err := provider.New([]provider.Config{config}, provider.Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
