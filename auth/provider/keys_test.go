package provider_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
)

// A set that is empty for a moment replaces no good one, whoever chooses the moment to ask for it.
func TestAnEmptyKeySetReplacesNone(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	p := newOIDC(t, idp, nil)
	if _, err := signIn(t, p, nil); err != nil {
		t.Fatal(err)
	}
	idp.Keys = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"keys":[]}`) }
	before := idp.Calls("/keys")
	if _, err := p.VerifyLogout(t.Context(), scripted.Forge(jose.ES256, newECKey(), idp.LogoutClaims("s1", "alice"))); err == nil {
		t.Error("a forged logout token is taken")
	}
	if idp.Calls("/keys") == before {
		t.Fatal("the keys were not fetched")
	}
	if _, err := p.VerifyLogout(t.Context(), idp.SignAs("logout+jwt", idp.LogoutClaims("s1", "alice"))); err != nil {
		t.Errorf("a logout token: %v", err)
	}
	if _, err := signIn(t, p, nil); err != nil {
		t.Errorf("a sign-in: %v", err)
	}
}

// The key of a renewal's id token may come to be published a moment later. A token that nothing proves is taken in no case.
func TestAnIDTokenThatComesBeforeItsKey(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	now := time.Now()
	p := newOIDCAt(t, idp, func() time.Time { return now }, nil)
	done, err := signIn(t, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	g := &auth.Grant{Identity: done.Identity, Tokens: done.Answer.TokenSet(auth.TokenSet{}, time.Hour)}
	check := func(key jose.SigningKey, token auth.Secret) error {
		_, err := p.VerifyIDToken(t.Context(), g, auth.Secret(scripted.SignWith(key, payloadOf(token.Reveal()), nil)), true)
		return err
	}
	_, published := scripted.Key(ecKey(), jose.ES256, "k1")
	next, public := scripted.Key(newECKey(), jose.ES256, "k2")
	signsWith(idp, ecKey(), jose.ES256, "k1")
	if err := check(next, done.IDToken); !errors.Is(err, auth.ErrKeysUnavailable) {
		t.Errorf("before its key: %v", err)
	}
	forger, _ := scripted.Key(newECKey(), jose.ES256, "k1")
	if err := check(forger, done.IDToken); err == nil || errors.Is(err, auth.ErrKeysUnavailable) {
		t.Errorf("of a key that is there, forged: %v", err)
	}
	now = now.Add(2 * time.Minute)
	if err := check(next, done.IDToken); err == nil || errors.Is(err, auth.ErrKeysUnavailable) {
		t.Errorf("without its key two minutes later: %v", err)
	}
	idp.Rotate(next, published, public)
	now = now.Add(time.Minute)
	if err := check(next, done.IDToken); err != nil {
		t.Errorf("with its key: %v", err)
	}
}
