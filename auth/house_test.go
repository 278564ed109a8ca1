package auth_test

import (
	"database/sql"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/authtest"
	"keyturn/auth/provider"
	"keyturn/auth/provider/scripted"
	"keyturn/auth/vault"
	"keyturn/auth/vault/keyset"
	"keyturn/auth/vault/spool"
	"keyturn/auth/vault/sqlite"
	"keyturn/auth/vault/vaulttest"
)

// house is a Rotator over a real vault and a scripted provider, with one grant signed in.
type house struct {
	idp     *scripted.Provider
	db      *sqlite.DB
	rotator *auth.Rotator
	grants  *auth.Grants
	grant   *auth.Grant
	log     *authtest.Buffer
	config  auth.RotatorConfig
	set     *provider.Set
}

// issuedShape is what the scripted provider's tokens look like.
var issuedShape = regexp.MustCompile(`(access|refresh)-\d+-[A-Z2-7]+|eyJ`)

func TestMain(m *testing.M) { os.Exit(authtest.Run(m, 16)) }

type options struct {
	lifetime  time.Duration
	timeout   time.Duration
	onUnknown auth.OnUnknown
	maxAge    time.Duration
	leeway    time.Duration
	callbacks *auth.Callbacks
	most      int              // renewals at once
	spread    bool             // as in the background
	now       func() time.Time // of everything but the provider; nil: time.Now
	vault     func(auth.Vault) auth.Vault
	idp       func(*scripted.Provider)
}

func newHouse(t *testing.T, o options) *house {
	t.Helper()
	h := &house{idp: scripted.New(t), log: &authtest.Buffer{}}
	if o.lifetime != 0 {
		h.idp.Lifetime = o.lifetime
	}
	if o.idp != nil {
		o.idp(h.idp)
	}
	if o.timeout == 0 {
		o.timeout = 5 * time.Second
	}
	if o.onUnknown == "" {
		o.onUnknown = auth.RetryNow
	}
	if o.leeway == 0 {
		o.leeway = time.Minute
	}
	if o.maxAge == 0 {
		o.maxAge = 30 * time.Minute
	}
	if o.callbacks == nil {
		callbacks := auth.DefaultCallbacks()
		o.callbacks = &callbacks
	}
	log := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if o.now == nil {
		o.now = time.Now
	}
	if o.vault == nil {
		o.vault = func(v auth.Vault) auth.Vault { return v }
	}
	h.db = openVault(t, filepath.Join(t.TempDir(), "keyturn.db"), o.now, log)
	config := provider.Config{
		Name: "work", Type: "oidc", Label: "Work", Issuer: h.idp.URL, ClientID: scripted.ClientID, ClientSecret: scripted.ClientSecret,
		Scopes: []string{"openid", "offline_access"}, GrantType: auth.GrantRefreshToken, MaxAge: o.maxAge, Leeway: o.leeway,
		OnUnknown: o.onUnknown, Concurrency: o.most, Spread: o.spread, CallbackURL: scripted.CallbackURL,
	}
	set, err := provider.New([]provider.Config{config}, provider.Options{RenewTimeout: o.timeout, Now: o.now, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	v := o.vault(h.db)
	h.grants = auth.NewGrants(v, set, *o.callbacks, &auth.Events{}, o.now, log)
	unstored, err := spool.Open(filepath.Join(t.TempDir(), "spool"), h.db.Sealer)
	if err != nil {
		t.Fatal(err)
	}
	h.config = auth.RotatorConfig{
		Vault: v, Spool: unstored, Providers: set, Grants: h.grants, Callbacks: *o.callbacks, Events: &auth.Events{}, RenewTimeout: o.timeout, Now: o.now, Log: log,
	}
	h.rotator = auth.NewRotator(h.config)
	h.set = set
	h.grant = h.signIn(t)
	t.Cleanup(func() {
		if found := issuedShape.FindString(h.log.String()); found != "" || !issuedShape.MatchString(strings.Join(h.idp.Issued(), " ")) {
			t.Errorf("the log holds a token: %s", found)
		}
	})
	return h
}

func openVault(t *testing.T, path string, now func() time.Time, log *slog.Logger) *sqlite.DB {
	t.Helper()
	if err := keyset.Create(path + ".keys"); err != nil {
		t.Fatal(err)
	}
	keys, err := keyset.Open(path + ".keys")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.Open(t.Context(), sqlite.Options{Path: path, Sealer: vault.Sealer{Keys: keys}, Now: now, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// signIn goes the whole way over HTTP, and leaves a live session.
func (h *house) signIn(t *testing.T) *auth.Grant {
	t.Helper()
	p, _ := h.set.Get("work")
	session, err := p.Begin(t.Context(), "state", "", "")
	if err != nil {
		t.Fatal(err)
	}
	target, _ := session.GetAuthURL()
	signedIn, err := p.Finish(t.Context(), session, scripted.Callback(t, target))
	if err != nil {
		t.Fatal(err)
	}
	g, err := h.grants.Begin(t.Context(), signedIn)
	if err != nil {
		t.Fatal(err)
	}
	vaulttest.SignIn(t, h.db.Sessions(), g, g.ID, h.config.Now().Add(24*time.Hour))
	return g
}

// crowd signs n more in, quickly.
func (h *house) crowd(t *testing.T, n int) (ids []string) {
	t.Helper()
	for range n {
		tokens, now := h.idp.Mint(), h.config.Now()
		g, err := h.grants.Begin(t.Context(), auth.SignedIn{
			Identity: auth.Identity{Provider: "work", Issuer: h.idp.URL, Subject: "alice"},
			Answer: auth.Answer{
				Access: auth.Secret(tokens["access_token"].(string)), Refresh: auth.Secret(tokens["refresh_token"].(string)),
				Lifetime: h.idp.Lifetime, RequestedAt: now, Type: "Bearer",
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		vaulttest.SignIn(t, h.db.Sessions(), g, g.ID, now.Add(24*time.Hour))
		ids = append(ids, g.ID)
	}
	return ids
}

func (h *house) renew(t *testing.T) auth.Result {
	t.Helper()
	return h.renewBy(t, auth.TriggerManual)
}

func (h *house) renewBy(t *testing.T, trigger auth.Trigger) auth.Result {
	t.Helper()
	result, err := h.rotator.Renew(t.Context(), h.grant.ID, trigger, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func (h *house) stored(t *testing.T) *auth.Grant {
	t.Helper()
	g, err := h.db.Get(t.Context(), h.grant.ID)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// diesAndStarts makes a new rotator, and frees the leases of the old one, as the engine does when a process has died.
func (h *house) diesAndStarts(t *testing.T, config auth.RotatorConfig) {
	t.Helper()
	h.execute(t, `UPDATE grants SET lease_owner = '', lease_until = 0`)
	h.rotator = auth.NewRotator(config)
}

// execute changes the database beside the vault.
func (h *house) execute(t *testing.T, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+h.db.Path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

func (h *house) expect(t *testing.T, result auth.Result, outcome auth.Outcome, generation int64) {
	t.Helper()
	if result.Outcome != outcome || result.Grant.Generation != generation {
		t.Fatalf("%s (%s), generation %d; want %s, generation %d",
			result.Outcome, result.Failure.Code, result.Grant.Generation, outcome, generation)
	}
	if stored := h.stored(t); stored.Generation != generation || stored.Tokens.Access != result.Grant.Tokens.Access {
		t.Fatalf("stored is generation %d with %v, answered %v", stored.Generation, stored.Tokens.Access, result.Grant.Tokens.Access)
	}
}

// slow makes every renewal take its time at the provider.
func slow(d time.Duration) func(*scripted.Provider) {
	return func(p *scripted.Provider) {
		p.Token = func(http.ResponseWriter, *http.Request, func() map[string]any) bool { time.Sleep(d); return false }
	}
}

func waitUntilExpired(t *testing.T, h *house) {
	t.Helper()
	if wait := time.Until(h.stored(t).Tokens.ExpiresAt); wait > 0 {
		time.Sleep(wait)
	}
}
