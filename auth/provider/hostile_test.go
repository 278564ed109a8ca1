package provider_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/auth/provider/scripted"
)

// payload replaces a part of the claims' own text: what a map cannot say.
func payload(old, with string) func(*scripted.Provider) {
	return func(idp *scripted.Provider) {
		signsWith(idp, ecKey(), jose.ES256, "k1")
		key, _ := scripted.Key(ecKey(), jose.ES256, "k1")
		idp.Claims = func(c map[string]any, _ bool) { c["exp"], c["iat"] = 4000000000, 1700000000 }
		idp.IDToken = func(signed string) string {
			changed := bytes.Replace(payloadOf(signed), []byte(old), []byte(with), 1)
			if bytes.Equal(changed, payloadOf(signed)) {
				panic("the claims have no " + old)
			}
			return scripted.SignWith(key, changed, nil)
		}
	}
}

// What the suite does not ask, and a hostile provider may try all the same.
func TestHostileIDTokensAreRefused(t *testing.T) {
	t.Parallel()
	var fetched atomic.Int32
	sink := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { fetched.Add(1) }))
	t.Cleanup(sink.Close)
	headers := func(header map[jose.HeaderKey]any) func(*scripted.Provider) {
		return func(idp *scripted.Provider) {
			forger := newECKey()
			key, public := scripted.Key(forger, jose.ES256, "evil")
			if header["jwk"] != nil {
				header["jwk"] = public
			}
			idp.IDToken = func(signed string) string { return scripted.SignWith(key, payloadOf(signed), header) }
		}
	}
	for name, set := range map[string]func(*scripted.Provider){
		"no nonce":                     claims(func(c map[string]any) { delete(c, "nonce") }),
		"an overlong sub":              claims(func(c map[string]any) { c["sub"] = strings.Repeat("x", 256) }),
		"a sub with a NUL":             claims(func(c map[string]any) { c["sub"] = "alice\x00" }),
		"a sub that is a number":       claims(func(c map[string]any) { c["sub"] = 1 }),
		"no exp":                       claims(func(c map[string]any) { delete(c, "exp") }),
		"exp is a word":                claims(func(c map[string]any) { c["exp"] = "soon" }),
		"exp is a string":              claims(func(c map[string]any) { c["exp"] = fmt.Sprint(time.Now().Add(time.Hour).Unix()) }),
		"exp is beyond all calendars":  payload(`"exp":4000000000`, `"exp":1e300`),
		"exp is no float at all":       payload(`"exp":4000000000`, `"exp":1e400`),
		"expired":                      claims(func(c map[string]any) { c["exp"] = time.Now().Add(-time.Minute).Unix() }),
		"issued in the future":         claims(func(c map[string]any) { c["iat"] = time.Now().Add(time.Hour).Unix() }),
		"iat is a string":              claims(func(c map[string]any) { c["iat"] = fmt.Sprint(time.Now().Unix()) }),
		"not yet valid":                claims(func(c map[string]any) { c["nbf"] = time.Now().Add(time.Hour).Unix() }),
		"another azp":                  claims(func(c map[string]any) { c["azp"] = "other" }),
		"an empty azp":                 claims(func(c map[string]any) { c["azp"] = "" }),
		"an azp that is null":          claims(func(c map[string]any) { c["azp"] = nil }),
		"an empty nonce":               claims(func(c map[string]any) { c["nonce"] = "" }),
		"an empty at_hash":             claims(func(c map[string]any) { c["at_hash"] = "" }),
		"an at_hash that is null":      claims(func(c map[string]any) { c["at_hash"] = nil }),
		"an at_hash that is a number":  claims(func(c map[string]any) { c["at_hash"] = 7 }),
		"an at_hash that is a list":    claims(func(c map[string]any) { c["at_hash"] = []any{c["at_hash"]} }),
		"an empty aud":                 claims(func(c map[string]any) { c["aud"] = "" }),
		"an empty iss":                 claims(func(c map[string]any) { c["iss"] = "" }),
		"nbf is a word":                claims(func(c map[string]any) { c["nbf"] = "soon" }),
		"several audiences and no azp": claims(func(c map[string]any) { c["aud"] = append(make([]string, 10_000), scripted.ClientID) }),
		"sub twice":                    payload(`"sub":"alice"`, `"sub":"alice","sub":"mallory"`),
		"sub in other letters":         payload(`"sub":"alice"`, `"sub":"alice","SUB":"mallory"`),
		"sid in other letters":         claims(func(c map[string]any) { c["sid"], c["SID"] = "s1", "s2" }),
		"sub with a long s":            payload(`"sub":"alice"`, `"ſub":"alice"`),
		"claims that are a list":       func(idp *scripted.Provider) { payload("{", "[{")(idp) },
		"claims of other JSON": func(idp *scripted.Provider) {
			payload(`"sub":"alice"`, `"sub":"alice","deep":`+strings.Repeat("[", 20_000))(idp)
		},
		"an empty one":       idToken(func(string) string { return "." }),
		"HS256 with the key": hs256WithPublicKey,
		"a critical extension": func(idp *scripted.Provider) {
			signsWith(idp, ecKey(), jose.ES256, "k1")
			key, _ := scripted.Key(ecKey(), jose.ES256, "k1")
			idp.IDToken = func(signed string) string {
				return scripted.SignWith(key, payloadOf(signed), map[jose.HeaderKey]any{"crit": []string{"exp"}, "exp": 1})
			}
		},
		"JSON serialization":   idToken(func(signed string) string { return jsonSerialized(t, signed, 1) }),
		"two signatures":       idToken(func(signed string) string { return jsonSerialized(t, signed, 2) }),
		"a key in the header":  headers(map[jose.HeaderKey]any{"jwk": true}),
		"a key set elsewhere":  headers(map[jose.HeaderKey]any{"jku": sink.URL + "/keys"}),
		"a certificate there":  headers(map[jose.HeaderKey]any{"x5u": sink.URL + "/cert"}),
		"a key for encryption": keyedWith(func(k *jose.JSONWebKey) { k.Use = "enc" }),
		"a key for another":    keyedWith(func(k *jose.JSONWebKey) { k.Algorithm = "ES384" }),
		"a key of another id":  keyedWith(func(k *jose.JSONWebKey) { k.KeyID = "other" }),
		"a weak RSA key":       func(idp *scripted.Provider) { signsWith(idp, newRSAKey(1024), jose.RS256, "r1") },
		"an RSA key with e=1":  exponentOne,
		"an oct key": func(idp *scripted.Provider) {
			secret := []byte(strings.Repeat("k", 32))
			idp.Rotate(hmacKey(secret), jose.JSONWebKey{Key: secret, KeyID: "k1"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idp := scripted.New(t)
			set(idp)
			mustRefuse(t, idp, "invalid_id_token")
		})
	}
	t.Cleanup(func() {
		if fetched.Load() != 0 {
			t.Error("a URL of a token's header was fetched")
		}
	})
}

// RFC 8725 section 3.11.
func TestATokenOfAnotherKindIsNoIDToken(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	for typ, taken := range map[string]bool{
		"": true, "JWT": true, "jwt": true, "application/jwt": true, "ID": true, "id_token": true, "JOSE": true, "id_token+jwt": true,
		"at+jwt": false, "AT+JWT": false, "application/at+jwt": false, "logout+jwt": false, "secevent+jwt": false, "anything+jwt": false, "+jwt": false,
	} {
		idp.Change(func() {
			idp.IDToken = func(signed string) string { return idp.SignPayload(typ, payloadOf(signed)) }
		})
		p := newOIDC(t, idp, nil)
		done, err := signIn(t, p, nil)
		var refusal *provider.SignInError
		if refused := errors.As(err, &refusal) && refusal.Code == "invalid_id_token"; refused == taken || (err == nil) != taken {
			t.Errorf("a sign-in with %q: %v", typ, err)
		}
		if (done.Identity.Subject != "") != taken {
			t.Errorf("%q signs in %+v", typ, done.Identity)
		}
	}
}

// Keys that cannot be read are no reason to call an id token forged.
func TestKeysOutOfReachAtSignIn(t *testing.T) {
	t.Parallel()
	key := `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},`
	for name, answer := range map[string]http.HandlerFunc{
		"down":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"no keys": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"empty":   func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"keys":[]}`) },
		"ten thousand keys": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"keys":[`+strings.TrimSuffix(strings.Repeat(key, 10_000), ",")+`]}`)
		},
		"silent for longer than renew-timeout": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(8 * time.Second):
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idp := scripted.New(t)
			idp.Keys = answer
			mustRefuse(t, idp, auth.CodeKeysUnavailable)
		})
	}
}

// Where keys are not fetched again so soon, nobody knows whether a token is forged, and it is not said to be.
func TestATokenIsNotCalledForgedForWantOfAFetch(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	now := time.Now()
	p := newOIDCAt(t, idp, func() time.Time { return now }, nil)
	if _, err := signIn(t, p, nil); err != nil {
		t.Fatal(err)
	}
	next, _ := scripted.Key(newECKey(), jose.ES256, "k2")
	_, published := scripted.Key(ecKey(), jose.ES256, "k1")
	idp.Rotate(next, published)
	var failed *provider.SignInError
	code := "invalid_id_token"
	for n := range 5 {
		before := idp.Calls("/keys")
		_, err := signIn(t, p, nil)
		if idp.Calls("/keys") == before {
			code = auth.CodeKeysUnavailable
		}
		if !errors.As(err, &failed) || failed.Code != code || failed.Unused.Refresh == "" {
			t.Errorf("sign-in %d: %v, want %s and tokens to revoke", n, err, code)
		}
	}
	if code != auth.CodeKeysUnavailable {
		t.Error("the keys were fetched each time")
	}
	var err error
	for range 5 {
		_, err = p.VerifyLogout(t.Context(), idp.SignAs("logout+jwt", idp.LogoutClaims("s1", "alice")))
	}
	if !errors.Is(err, auth.ErrKeysUnavailable) {
		t.Errorf("logout token: %v", err)
	}
}

// hs256WithPublicKey signs with what everybody knows: the provider's public key, as a secret.
func hs256WithPublicKey(idp *scripted.Provider) {
	idp.Document = func(d map[string]any) { d["id_token_signing_alg_values_supported"] = []string{"HS256", "RS256"} }
	signsWith(idp, rsaKey(), jose.RS256, "r1")
	public, err := x509.MarshalPKIXPublicKey(rsaKey().Public())
	if err != nil {
		panic(err)
	}
	idp.IDToken = func(signed string) string { return scripted.SignWith(hmacKey(public), payloadOf(signed), nil) }
}

// keyedWith publishes the right key with something wrong about it.
func keyedWith(spoil func(*jose.JSONWebKey)) func(*scripted.Provider) {
	return func(idp *scripted.Provider) {
		key, public := scripted.Key(ecKey(), jose.ES256, "k1")
		spoil(&public)
		idp.Rotate(key, public)
	}
}

// exponentOne publishes a key under which a padded message is its own signature.
func exponentOne(idp *scripted.Provider) {
	key, _ := scripted.Key(rsaKey(), jose.RS256, "r1")
	weak := rsaKey().PublicKey
	weak.E = 1
	published, err := json.Marshal(map[string]any{"kty": "RSA", "kid": "r1", "n": base64url(weak.N.Bytes()), "e": base64url(big.NewInt(1).Bytes())})
	if err != nil {
		panic(err)
	}
	idp.Rotate(key)
	idp.Keys = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"keys":[%s]}`, published) }
}

// jsonSerialized is a token in the serialization with which a JWT is none (RFC 7519 section 1).
func jsonSerialized(t *testing.T, signed string, signatures int) string {
	parts := strings.Split(signed, ".")
	one := map[string]any{"protected": parts[0], "signature": parts[2]}
	whole := map[string]any{"payload": parts[1], "protected": parts[0], "signature": parts[2]}
	if signatures > 1 {
		whole = map[string]any{"payload": parts[1], "signatures": []any{one, one}}
	}
	text, err := json.Marshal(whole)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

// A token with a key id that nobody knows is a reason to look for a new key, not to do so a thousand times.
func TestUnknownKeyIDsAreNoWayToMakeManyRequests(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	p := newOIDC(t, idp, nil)
	if _, err := signIn(t, p, nil); err != nil {
		t.Fatal(err)
	}
	for n := range 1000 {
		key, _ := scripted.Key(ecKey(), jose.ES256, fmt.Sprint("k", n+2))
		token := auth.Secret(scripted.SignWith(key, []byte(`{}`), nil))
		if err := p.CheckSignature(t.Context(), token); !errors.Is(err, provider.ErrNoKeyFits) && !errors.Is(err, provider.ErrKeysResting) {
			t.Fatalf("%d: %v", n, err)
		}
	}
	if calls := idp.Calls("/keys"); calls > 5 {
		t.Errorf("keys fetched %d times", calls)
	}
	if _, err := signIn(t, p, nil); err != nil {
		t.Errorf("the key that is known: %v", err)
	}
}

// Anybody may send logout tokens, as many as they like. People who sign in after the provider took a new key are let in all the same.
func TestForgedLogoutTokensCostNoSignInItsKeys(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	p := newOIDC(t, idp, nil)
	if _, err := signIn(t, p, nil); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := p.VerifyLogout(t.Context(), scripted.Forge(jose.ES256, newECKey(), idp.LogoutClaims("s1", "alice"))); err == nil {
			t.Fatal("a forged logout token is taken")
		}
		forged := auth.Secret(scripted.Forge(jose.ES256, newECKey(), map[string]any{"sub": "alice"}))
		if err := p.CheckSignature(t.Context(), forged); err == nil {
			t.Fatal("a forged signature is taken")
		}
	}
	if calls := idp.Calls("/keys"); calls > 5 {
		t.Errorf("keys fetched %d times for strangers", calls)
	}
	signsWith(idp, newECKey(), jose.ES256, "k2")
	if _, err := signIn(t, p, nil); err != nil {
		t.Errorf("after a new key: %v", err)
	}
}

// The provider has withdrawn a key, perhaps because it was stolen: it is believed no more after an hour.
func TestAWithdrawnKeyIsForgotten(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	var later atomic.Int64
	p := newOIDCAt(t, idp, func() time.Time { return time.Now().Add(time.Duration(later.Load())) }, nil)
	if _, err := signIn(t, p, nil); err != nil {
		t.Fatal(err)
	}
	stolen := auth.Secret(idp.Sign(map[string]any{"sub": "alice"}))
	signsWith(idp, newECKey(), jose.ES256, "k2")
	if err := p.CheckSignature(t.Context(), stolen); err != nil {
		t.Errorf("at once: %v", err)
	}
	idp.Keys = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
	later.Store(int64(61 * time.Minute))
	if err := p.CheckSignature(t.Context(), stolen); err != nil {
		t.Errorf("while the keys are out of reach: %v", err)
	}
	idp.Change(func() { idp.Keys = nil })
	later.Add(int64(time.Second)) // they are not asked for again at once
	if err := p.CheckSignature(t.Context(), stolen); !errors.Is(err, provider.ErrNoKeyFits) {
		t.Errorf("after an hour: %v", err)
	}
}

// The header of an encrypted token names how its key is wrapped, which is no signature.
func TestAnEncryptedIDTokenNamesTheRemedy(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	idp.IDToken = func(string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RSA-OAEP","enc":"A128GCM"}`)) + ".a2V5.aXY.dGV4dA.dGFn"
	}
	_, err := signIn(t, newOIDC(t, idp, nil), nil)
	var failed *provider.SignInError
	if !errors.As(err, &failed) || failed.Detail != "id token is encrypted: register the client there without id_token_encrypted_response_alg" {
		t.Errorf("%v", err)
	}
}

// A client that is registered for HS256 signs nobody in: the log says what to do about it.
func TestAnIDTokenSignedWithASecretNamesTheRemedy(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	idp.IDToken = func(signed string) string {
		return scripted.SignWith(hmacKey([]byte(strings.Repeat(scripted.ClientSecret, 4))), payloadOf(signed), nil)
	}
	_, err := signIn(t, newOIDC(t, idp, nil), nil)
	var failed *provider.SignInError
	want := "id token is signed with HS256, which proves nothing: register the client there for ES256 or RS256 (id_token_signed_response_alg)"
	if !errors.As(err, &failed) || failed.Code != "invalid_id_token" || failed.Detail != want {
		t.Errorf("%v", err)
	}
}

// A key that is there and passed over is for the provider's operator to mend, whom "no key fits" sends elsewhere.
func TestAKeyThatIsPassedOverIsNamed(t *testing.T) {
	t.Parallel()
	for want, set := range map[string]func(*scripted.Provider){
		`: the key "r1", which it names, has 1024 bits, of which RSA needs 2048`: func(idp *scripted.Provider) {
			signsWith(idp, newRSAKey(1024), jose.RS256, "r1")
		},
		`: the key "k1", which it names, has the exponent 2`: keyedWith(func(k *jose.JSONWebKey) {
			weak := rsaKey().PublicKey
			weak.E = 2
			k.Key = &weak
		}),
		`: the key "k1", which it names, has the use "enc", and not "sig"`:       keyedWith(func(k *jose.JSONWebKey) { k.Use = "enc" }),
		`: the key "k1", which it names, is for "ES384", and not for ES256`:      keyedWith(func(k *jose.JSONWebKey) { k.Algorithm = "ES384" }),
		`: the key "k1", which it names, is of another kind than those of ES256`: keyedWith(func(k *jose.JSONWebKey) { k.Key = rsaKey().Public() }),
		"": keyedWith(func(k *jose.JSONWebKey) { k.KeyID = "other" }),
	} {
		idp := scripted.New(t)
		set(idp)
		_, err := signIn(t, newOIDC(t, idp, nil), nil)
		var failed *provider.SignInError
		if !errors.As(err, &failed) || !strings.HasSuffix(failed.Detail, "none of the provider's keys made the signature"+want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
