package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/a-h/templ"

	"keyturn/auth"
	"keyturn/auth/devprovider"
	"keyturn/auth/keyfile"
	"keyturn/auth/provider"
	"keyturn/views"
)

const devPath = "/dev-provider"

// devSecretFile is the file of the data dir that holds the client secret.
const devSecretFile = "dev-client-secret"

// devClient is Keyturn as the client of the embedded provider, or nil if that is off.
func devClient(settings Settings, base string) (*provider.Config, error) {
	on, err := settings.devProviderOn(base)
	if err != nil {
		return nil, settingsError{err}
	}
	if !on {
		return nil, nil
	}
	secret, err := devClientSecret(settings.DataDir)
	if err != nil {
		return nil, fmt.Errorf("--data-dir (KEYTURN_DATA_DIR): %w", err)
	}
	return &provider.Config{
		Name: devProviderName, Type: "oidc", Label: "Dev provider", Issuer: base + devPath, ClientID: "keyturn", ClientSecret: secret,
		Scopes: settings.Scopes, GrantType: auth.GrantRefreshToken, MaxAge: settings.MaxAge, Leeway: settings.Leeway,
		Concurrency: settings.RenewConcurrency, OnUnknown: auth.RetryNow, CallbackURL: callbackURL(base, devProviderName), Listens: settings.Addr,
	}, nil
}

// existingDevClient is devClient, or nil if the embedded provider has never run in the data dir.
func existingDevClient(settings Settings, base string) (*provider.Config, error) {
	if _, err := os.Stat(filepath.Join(settings.DataDir, devSecretFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return devClient(settings, base)
}

// openDevProvider opens the embedded provider if it is on, else it returns nil. Keyturn speaks HTTP with it, as with any other,
// at its own listener.
func (s *site) openDevProvider(ctx context.Context, settings Settings, client *provider.Config, base string, log *slog.Logger) (http.Handler, error) {
	if client == nil {
		return nil, nil
	}
	p, err := devprovider.Open(ctx, devprovider.Config{
		Issuer: client.Issuer, ClientID: client.ClientID, ClientSecret: client.ClientSecret.Reveal(), RedirectURIs: []string{client.CallbackURL},
		PostLogoutRedirectURIs: []string{base + "/"}, TokenLifetime: settings.DevTokenLifetime, ReuseInterval: settings.DevReuseInterval,
		Dir: settings.DataDir, Log: log, SignInPage: devSignInPage, ErrorPage: devErrorPage, SignedOutPage: devSignedOutPage,
	})
	if err != nil {
		return nil, fmt.Errorf("embedded provider: %w", onFullDisk(settings.DataDir, err))
	}
	s.closers = append(s.closers, p.Close)
	if host, _, _ := net.SplitHostPort(settings.Addr); !provider.Loopback(host) {
		log.WarnContext(ctx, "the embedded provider is for development: anybody who reaches this address can sign in as anybody; "+
			"set a provider, or --addr localhost:8080", "address", settings.Addr)
	}
	return p.Handler(), nil
}

// devClientSecret is made once and kept: the embedded provider must know its client again after a restart.
func devClientSecret(dir string) (auth.Secret, error) {
	path := filepath.Join(dir, devSecretFile)
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := keyfile.Create(path, []byte(rand.Text())); err != nil {
			return "", err
		}
		content, err = os.ReadFile(path)
	}
	if err != nil {
		return "", err
	}
	if secret := strings.TrimSpace(string(content)); secret != "" {
		return auth.Secret(secret), nil
	}
	return "", fmt.Errorf("%s is empty; remove it", path)
}

func devSignInPage(w http.ResponseWriter, r *http.Request, page devprovider.SignInPage) {
	view := views.DevSignInPage{Action: page.Action, AuthRequestID: page.AuthRequestID, ClientName: page.ClientName}
	for _, person := range page.People {
		view.People = append(view.People, views.DevPerson{Name: person.Name, Label: person.Label, Email: person.Email})
	}
	templ.Handler(views.DevSignIn(view)).ServeHTTP(w, r)
}

func devErrorPage(w http.ResponseWriter, r *http.Request, status int, title, detail string) {
	templ.Handler(views.DevError(views.Problem{Title: title, Detail: detail}), templ.WithStatus(status)).ServeHTTP(w, r)
}

func devSignedOutPage(w http.ResponseWriter, r *http.Request) {
	templ.Handler(views.DevSignedOut()).ServeHTTP(w, r)
}
