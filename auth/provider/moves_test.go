package provider_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/auth/provider/scripted"
)

// clock is the time, and what a test adds to it.
type clock struct{ later atomic.Int64 }

func (c *clock) now() time.Time              { return time.Now().Add(time.Duration(c.later.Load())) }
func (c *clock) advance(by time.Duration)    { c.later.Add(int64(by)) }
func metadataCalls(p *scripted.Provider) int { return p.Calls("/.well-known/openid-configuration") }

// changing is a provider that takes another signing key once it is told to. Its keys are elsewhere then, or are of an algorithm that
// it has not announced before.
func changing(t *testing.T, moves, resigns bool) (idp *scripted.Provider, change func()) {
	t.Helper()
	idp = scripted.New(t)
	var changed atomic.Bool
	at := func() string {
		if moves && changed.Load() {
			return "at=elsewhere"
		}
		return "at=home"
	}
	signsWith(idp, newECKey(), jose.ES256, "k1")
	next, published := scripted.Key(rsaKey(), jose.RS256, "k2")
	idp.Document = func(document map[string]any) {
		algs := []string{"ES256", "RS256"}
		if resigns {
			algs = algs[:1]
			if changed.Load() {
				algs = []string{"RS256"}
			}
		}
		document["jwks_uri"], document["id_token_signing_alg_values_supported"] = idp.URL+"/keys?"+at(), algs
	}
	return idp, func() {
		idp.Rotate(next, published)
		changed.Store(true)
		idp.Change(func() {
			idp.Keys = func(w http.ResponseWriter, r *http.Request) {
				if r.URL.RawQuery != at() {
					w.WriteHeader(http.StatusNotFound)
					return
				}
				_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{published}})
			}
		})
	}
}

// Strangers have metadata read seldom. A logout token for which it may be out of date is not called wrong meanwhile: then the provider
// would not send it again.
func TestALogoutTokenOfANewAlgorithmIsNotRefusedUnseen(t *testing.T) {
	t.Parallel()
	var clock clock
	idp, change := changing(t, false, true)
	p := newOIDCAt(t, idp, clock.now, nil)
	if _, err := signIn(t, p, nil); err != nil {
		t.Fatal(err)
	}
	change()
	token := func() string {
		claims := idp.LogoutClaims("s1", "alice")
		claims["iat"], claims["exp"] = clock.now().Unix(), clock.now().Add(time.Minute).Unix()
		return idp.SignAs("logout+jwt", claims)
	}
	clock.advance(35 * time.Second)
	if _, err := p.VerifyLogout(t.Context(), token()); !errors.Is(err, auth.ErrKeysUnavailable) {
		t.Errorf("while the metadata is not read again: %v", err)
	}
	clock.advance(30 * time.Second)
	if _, err := p.VerifyLogout(t.Context(), token()); err != nil {
		t.Errorf("when it is: %v", err)
	}
}

// Nothing tells that a provider's keys are elsewhere, or that it signs in another way, but a token that cannot be checked. The check
// that finds out comes to its end: the code of a sign-in is spent by then.
func TestACheckFollowsAProviderThatSignsInAnotherWay(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct{ moves, resigns bool }{
		"keys elsewhere": {moves: true}, "another algorithm": {resigns: true}, "both": {true, true},
	} {
		for kind, check := range map[string]func(t *testing.T, idp *scripted.Provider, p *provider.OIDC, before auth.SignedIn) error{
			"sign-in": func(t *testing.T, _ *scripted.Provider, p *provider.OIDC, _ auth.SignedIn) error {
				_, err := signIn(t, p, nil)
				return err
			},
			"renewal": func(t *testing.T, _ *scripted.Provider, p *provider.OIDC, before auth.SignedIn) error {
				tokens := before.Answer.TokenSet(auth.TokenSet{}, time.Hour)
				answer, err := p.Renew(t.Context(), tokens, true)
				if err != nil {
					return err
				}
				g := &auth.Grant{Identity: before.Identity, Tokens: answer.TokenSet(tokens, time.Hour)}
				_, err = p.VerifyIDToken(t.Context(), g, answer.ID, true)
				return err
			},
			"logout token": func(t *testing.T, idp *scripted.Provider, p *provider.OIDC, _ auth.SignedIn) error {
				_, err := p.VerifyLogout(t.Context(), idp.SignAs("logout+jwt", idp.LogoutClaims("s1", "alice")))
				return err
			},
			"signature": func(t *testing.T, idp *scripted.Provider, p *provider.OIDC, _ auth.SignedIn) error {
				return p.CheckSignature(t.Context(), auth.Secret(idp.Sign(map[string]any{"sub": "alice"})))
			},
		} {
			t.Run(what+", "+kind, func(t *testing.T) {
				t.Parallel()
				var watch clock
				idp, change := changing(t, c.moves, c.resigns)
				p := newOIDCAt(t, idp, watch.now, nil)
				before, err := signIn(t, p, nil)
				if err != nil {
					t.Fatal(err)
				}
				change()
				watch.advance(time.Minute)
				if err := check(t, idp, p, before); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// Who can send tokens can have the metadata read a few times, and keeps nobody else from having it read.
func TestStrangersHaveMetadataReadSeldomAndForEverybody(t *testing.T) {
	t.Parallel()
	var watch clock
	idp, change := changing(t, true, true)
	p := newOIDCAt(t, idp, watch.now, nil)
	if _, err := signIn(t, p, nil); err != nil {
		t.Fatal(err)
	}
	forged := func() {
		for n := range 20 {
			key, alg := any(newECKey()), jose.ES256
			if n%2 == 0 {
				key, alg = rsaKey(), jose.PS256
			}
			_, _ = p.VerifyLogout(t.Context(), scripted.Forge(alg, key, idp.LogoutClaims("s1", "alice")))
		}
	}
	watch.advance(50 * time.Second)
	if forged(); metadataCalls(idp) != 1 {
		t.Errorf("read %d times within a minute", metadataCalls(idp))
	}
	watch.advance(10 * time.Second)
	if forged(); metadataCalls(idp) != 2 {
		t.Errorf("read %d times after a minute", metadataCalls(idp))
	}
	change()
	if _, err := signIn(t, p, nil); err != nil || metadataCalls(idp) != 3 {
		t.Errorf("a sign-in just after strangers: %v; read %d times", err, metadataCalls(idp))
	}
}

// What nothing notices is found out with time: an end of session that has moved. The old metadata serves until there is newer one.
func TestOldMetadataIsReadAgainBesideItsUse(t *testing.T) {
	t.Parallel()
	var watch clock
	var moved, broken atomic.Bool
	hold := make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	idp := scripted.New(t)
	t.Cleanup(release)
	idp.Document = func(document map[string]any) {
		document["end_session_endpoint"] = "https://old.example/end"
		if moved.Load() {
			document["end_session_endpoint"] = "https://new.example/end"
			<-hold
		}
		if broken.Load() {
			document["issuer"] = "https://other.example"
		}
	}
	p := newOIDCAt(t, idp, watch.now, nil)
	endsAt := func(host string) bool {
		u, err := url.Parse(p.EndSessionURL(t.Context(), "", "http://rp.example/", "s"))
		return err == nil && u.Host == host
	}
	if !endsAt("old.example") || metadataCalls(idp) != 1 {
		t.Fatal("it does not begin")
	}
	moved.Store(true)
	broken.Store(true)
	for _, later := range []time.Duration{59 * time.Minute, 2 * time.Minute} {
		watch.advance(later)
		for range 20 {
			if !endsAt("old.example") {
				t.Error("what was known is forgotten")
			}
		}
	}
	for deadline := time.Now().Add(10 * time.Second); metadataCalls(idp) < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not read again after an hour")
		}
	}
	release()
	for range 20 {
		if !endsAt("old.example") || metadataCalls(idp) != 2 {
			t.Fatalf("what cannot be used took the place of what there was, or was read %d times", metadataCalls(idp))
		}
	}
	broken.Store(false)
	for deadline := time.Now().Add(10 * time.Second); !endsAt("new.example"); time.Sleep(time.Millisecond) {
		watch.advance(10 * time.Second) // the failed read may have ended just now
		if time.Now().After(deadline) {
			t.Fatal("the new end of session is not found")
		}
	}
}
