// Package devprovider is an OpenID provider for development: three people, single-use refresh tokens with reuse
// detection, and nothing to set up. It speaks HTTP like any other provider, and keeps its state in a file.
package devprovider

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"
)

// Config is what a Provider is made of.
type Config struct {
	Issuer                 string // with the path under which Handler is mounted
	ClientID               string // the one client, a confidential one
	ClientSecret           string
	RedirectURIs           []string
	PostLogoutRedirectURIs []string
	TokenLifetime          time.Duration // of access tokens
	ReuseInterval          time.Duration // how long a spent refresh token brings its successor again; 0: not at all
	RefreshLifetime        time.Duration // since its latest rotation; 0: 30 days
	Dir                    string        // where the state is kept, in dev-provider.sqlite
	Log                    *slog.Logger

	// The pages; nil ones are plain.
	SignInPage    func(w http.ResponseWriter, r *http.Request, page SignInPage)
	ErrorPage     func(w http.ResponseWriter, r *http.Request, status int, title, detail string)
	SignedOutPage func(w http.ResponseWriter, r *http.Request)
}

// SignInPage is what the sign-in page shows: one button named "user" a person, in a form that is posted to Action with
// the hidden field authRequestID.
type SignInPage struct {
	Action        string
	AuthRequestID string
	ClientName    string
	People        []Person
}

// Person is somebody who can sign in.
type Person struct {
	Name  string // also the subject
	Label string
	Email string
}

// people are those who can sign in.
func people() []Person {
	return []Person{
		{Name: "alice", Label: "Alice Liddell", Email: "alice@dev.example"},
		{Name: "bob", Label: "Bob Cratchit", Email: "bob@dev.example"},
		{Name: "carol", Label: "Carol Danvers", Email: "carol@dev.example"},
	}
}

func personNamed(name string) (Person, bool) {
	for _, p := range people() {
		if p.Name == name {
			return p, true
		}
	}
	return Person{}, false
}

// Provider is an embedded OpenID provider. It is safe for concurrent use, and several processes may share its file.
type Provider struct {
	config Config
	db     *sql.DB
	path   string // of the issuer
	op     op.OpenIDProvider
	store  *storage
}

// Open opens the provider's state, making it if need be.
func Open(ctx context.Context, config Config) (*Provider, error) {
	if config.RefreshLifetime == 0 {
		config.RefreshLifetime = 30 * 24 * time.Hour
	}
	issuer, err := url.Parse(config.Issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	db, err := openDB(ctx, config.Dir)
	if err != nil {
		return nil, err
	}
	p := &Provider{config: config, db: db, path: strings.TrimSuffix(issuer.Path, "/")}
	if err := p.setUp(ctx); err != nil {
		_ = db.Close()
		return nil, err
	}
	return p, nil
}

func (p *Provider) setUp(ctx context.Context) error {
	keys, err := loadKeys(ctx, p.db)
	if err != nil {
		return err
	}
	p.store = &storage{config: p.config, db: p.db, keys: keys, loginURL: p.path + "/login"}
	settings := &op.Config{
		CryptoKey: keys.crypto, CodeMethodS256: true, AuthMethodPost: true, GrantTypeRefreshToken: true,
		SupportedScopes:          []string{"openid", "profile", "email", "offline_access"},
		DefaultLogoutRedirectURI: p.path + "/signed-out",
	}
	options := []op.Option{op.WithCORSOptions(nil)}
	if strings.HasPrefix(p.config.Issuer, "http:") {
		options = append(options, op.WithAllowInsecure())
	}
	p.op, err = op.NewProvider(settings, p.store, op.StaticIssuer(p.config.Issuer), options...)
	if err != nil {
		return fmt.Errorf("set up provider: %w", err)
	}
	return nil
}

// Close closes the provider's file.
func (p *Provider) Close() error { return p.db.Close() }

// Handler serves the provider at the issuer's path.
func (p *Provider) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", p.showSignIn)
	mux.Handle("POST /login", p.refusingInPages(http.NewCrossOriginProtection().Handler(http.HandlerFunc(p.signIn))))
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", "GET, HEAD, POST")
		p.errorPage(w, r, http.StatusMethodNotAllowed, "This address does not work that way.", "Start again from the application.")
	})
	mux.HandleFunc("GET /signed-out", p.signedOut)
	mux.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	mux.Handle("/userinfo", asUnauthorized(p.op, bearer))
	mux.Handle("/oauth/token", forClients(withAudience(p.op)))
	mux.Handle("/oauth/introspect", forClients(http.HandlerFunc(p.introspect)))
	mux.Handle("/revoke", forClients(p.op))
	mux.Handle("/keys", p.op)
	forBrowsers := p.refusingInPages(p.op)
	mux.Handle("/authorize", forBrowsers)
	mux.HandleFunc("/authorize/callback", func(w http.ResponseWriter, r *http.Request) {
		if _, err := p.op.Storage().AuthRequestByID(r.Context(), r.FormValue("id")); err != nil {
			p.tooLate(w, r)
			return
		}
		forBrowsers.ServeHTTP(w, r)
	})
	mux.HandleFunc("/end_session", func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil { // op would take the blame for it
			p.errorPage(w, r, http.StatusBadRequest, "The request cannot be read.", "Start again from the application.")
			return
		}
		forBrowsers.ServeHTTP(w, r)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		p.errorPage(w, r, http.StatusNotFound, "There is nothing here.", "This is the dev provider's address space.")
	})
	// A ServeMux redirects to the path that it sees, be it to add a slash: this one sees the whole.
	whole := http.NewServeMux()
	whole.Handle(p.path+"/", http.StripPrefix(p.path, http.MaxBytesHandler(mux, 64<<10)))
	return whole
}

// discovery answers what works here: op announces flows as well that its storage does not serve.
func (p *Provider) discovery(w http.ResponseWriter, _ *http.Request) {
	at := func(path string) string { return p.config.Issuer + path }
	methods := []string{"client_secret_basic", "client_secret_post"}
	writeJSON(w, map[string]any{
		"issuer": p.config.Issuer, "authorization_endpoint": at("/authorize"), "token_endpoint": at("/oauth/token"),
		"userinfo_endpoint": at("/userinfo"), "jwks_uri": at("/keys"), "introspection_endpoint": at("/oauth/introspect"),
		"revocation_endpoint": at("/revoke"), "end_session_endpoint": at("/end_session"),
		"scopes_supported": []string{"openid", "profile", "email", "offline_access"}, "response_types_supported": []string{"code"},
		"response_modes_supported": []string{"query"}, "request_uri_parameter_supported": false, // whose default is true
		"grant_types_supported":   []string{"authorization_code", "refresh_token", "client_credentials"},
		"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"ES256"},
		"token_endpoint_auth_methods_supported": methods, "introspection_endpoint_auth_methods_supported": methods[:1],
		"revocation_endpoint_auth_methods_supported": methods, "code_challenge_methods_supported": []string{"S256"},
		"claims_supported": []string{
			"sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "at_hash", "azp",
			"name", "given_name", "family_name", "preferred_username", "email", "email_verified",
		},
	})
}
