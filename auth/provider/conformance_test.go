package provider_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/auth/provider/scripted"
)

// rsaKey and ecKey are made once: to make an RSA key takes its time.
var (
	rsaKey = sync.OnceValue(func() *rsa.PrivateKey { return newRSAKey(2048) })
	ecKey  = sync.OnceValue(newECKey)
)

func newRSAKey(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return key
}

func newECKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

// signsWith has the provider sign with a key and publish its public half, and others.
func signsWith(idp *scripted.Provider, private crypto.Signer, alg jose.SignatureAlgorithm, id string, others ...jose.JSONWebKey) {
	key, public := scripted.Key(private, alg, id)
	idp.Rotate(key, append(others, public)...)
}

// claims edits the claims of every id token.
func claims(edit func(c map[string]any)) func(*scripted.Provider) {
	return func(idp *scripted.Provider) { idp.Claims = func(c map[string]any, _ bool) { edit(c) } }
}

// idToken edits every id token after it was signed.
func idToken(edit func(signed string) string) func(*scripted.Provider) {
	return func(idp *scripted.Provider) { idp.IDToken = edit }
}

// mustRefuse signs in and expects that nothing comes of it: no identity, no call of userinfo with a token that came with a bad
// answer, and no grant left over at the provider.
func mustRefuse(t *testing.T, idp *scripted.Provider, code string) {
	t.Helper()
	done, err := signIn(t, newOIDC(t, idp, nil), nil)
	var refusal *provider.SignInError
	if !errors.As(err, &refusal) || refusal.Code != code || done.Answer.Access != "" || done.Identity.Subject != "" {
		t.Errorf("error %v, want %s", err, code)
	}
	if calls := idp.Calls("/userinfo"); code != "invalid_userinfo" && calls != 0 {
		t.Errorf("userinfo was called %d times", calls)
	}
	if issued := idp.Issued(); len(issued) > 0 && (refusal == nil || refusal.Unused.Refresh.Reveal() != issued[1]) {
		t.Error("it is not said that there are tokens to revoke")
	}
}

// The OpenID Foundation's test modules for relying parties in which the relying party must refuse (conformance suite,
// oidcc-client-test-plan). Ours is stricter where the suite lets a relying party skip a signature.
func TestConformanceRefusals(t *testing.T) {
	t.Parallel()
	for module, set := range map[string]func(*scripted.Provider){
		"oidcc-client-test-nonce-invalid":  claims(func(c map[string]any) { c["nonce"] = "other" }),
		"oidcc-client-test-invalid-iss":    claims(func(c map[string]any) { c["iss"] = "https://evil.example" }),
		"oidcc-client-test-invalid-aud":    claims(func(c map[string]any) { c["aud"] = "other" }),
		"oidcc-client-test-missing-aud":    claims(func(c map[string]any) { delete(c, "aud") }),
		"oidcc-client-test-missing-iat":    claims(func(c map[string]any) { delete(c, "iat") }),
		"oidcc-client-test-missing-sub":    claims(func(c map[string]any) { delete(c, "sub") }),
		"oidcc-client-test-invalid-athash": claims(func(c map[string]any) { c["at_hash"] = "AAAAAAAAAAAAAAAAAAAAAA" }),
		"oidcc-client-test-idtoken-sig-none": func(idp *scripted.Provider) {
			idp.Document = func(d map[string]any) { d["id_token_signing_alg_values_supported"] = []string{"none", "ES256"} }
			idp.IDToken = func(signed string) string { return joined(`{"alg":"none"}`, strings.Split(signed, ".")[1], "") }
		},
		"oidcc-client-test-invalid-sig-rs256": func(idp *scripted.Provider) {
			signsWith(idp, rsaKey(), jose.RS256, "r1")
			idp.IDToken = spoilSignature
		},
		"oidcc-client-test-invalid-sig-es256": idToken(spoilSignature),
		"oidcc-client-test-invalid-sig-hs256": func(idp *scripted.Provider) {
			idp.Document = func(d map[string]any) { d["id_token_signing_alg_values_supported"] = []string{"HS256", "ES256"} }
			idp.IDToken = func(signed string) string {
				return spoilSignature(scripted.SignWith(hmacKey([]byte(strings.Repeat(scripted.ClientSecret, 4))), payloadOf(signed), nil))
			}
		},
		"oidcc-client-test-kid-absent-multiple-jwks/none of them": func(idp *scripted.Provider) {
			_, other := scripted.Key(newECKey(), jose.ES256, "k2")
			key, _ := scripted.Key(newECKey(), jose.ES256, "")
			_, third := scripted.Key(newECKey(), jose.ES256, "k3")
			idp.Rotate(key, other, third)
		},
	} {
		t.Run(module, func(t *testing.T) {
			t.Parallel()
			idp := scripted.New(t)
			set(idp)
			mustRefuse(t, idp, "invalid_id_token")
		})
	}
	t.Run("oidcc-client-test-userinfo-invalid-sub", func(t *testing.T) {
		t.Parallel()
		for _, said := range []string{`{"sub":"mallory"}`, `{"sub":null}`, `{"sub":7}`, `{"sub":["alice"]}`, `{"sub":""}`} {
			idp := scripted.New(t)
			idp.UserInfo = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(said)) }
			mustRefuse(t, idp, "invalid_userinfo")
		}
	})
	t.Run("userinfo names nobody", func(t *testing.T) {
		t.Parallel()
		for _, said := range []string{`{}`, `{"name":"Mallory"}`} {
			idp := scripted.New(t)
			idp.UserInfo = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(said)) }
			if done, err := signIn(t, newOIDC(t, idp, nil), nil); err != nil || done.Identity.Subject != "alice" || done.Identity.Name == "Mallory" {
				t.Errorf("%s: %+v, %v", said, done.Identity, err)
			}
		}
	})
	t.Run("oidcc-client-test-discovery-issuer-mismatch", func(t *testing.T) {
		t.Parallel()
		for _, issuer := range []string{"https://evil.example", "", "/", "HTTP"} {
			idp := scripted.New(t)
			idp.Document = func(d map[string]any) {
				d["issuer"] = map[string]any{"": nil, "/": idp.URL + "/", "HTTP": strings.ToUpper(idp.URL)}[issuer]
				if strings.HasPrefix(issuer, "https:") {
					d["issuer"] = issuer
				}
			}
			mustRefuse(t, idp, auth.CodeMetadata)
			if calls := idp.Calls("/authorize"); calls != 0 {
				t.Errorf("%q: the browser was sent there", issuer)
			}
		}
	})
}

// The modules in which it must go on.
func TestConformance(t *testing.T) {
	t.Parallel()
	for module, set := range map[string]func(*scripted.Provider){
		"oidcc-client-test":                   func(*scripted.Provider) {},
		"oidcc-client-test-idtoken-sig-rs256": func(idp *scripted.Provider) { signsWith(idp, rsaKey(), jose.RS256, "r1") },
		"oidcc-client-test-kid-absent-single-jwks": func(idp *scripted.Provider) {
			signsWith(idp, ecKey(), jose.ES256, "")
		},
		"oidcc-client-test-kid-absent-multiple-jwks": func(idp *scripted.Provider) {
			_, other := scripted.Key(newECKey(), jose.ES256, "k2")
			_, third := scripted.Key(rsaKey(), jose.RS256, "r1")
			signsWith(idp, ecKey(), jose.ES256, "", other, third)
		},
		"oidcc-client-test-userinfo-bearer-header": func(idp *scripted.Provider) {
			idp.UserInfo = func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer access-") || r.URL.RawQuery != "" || r.ContentLength > 0 {
					t.Errorf("userinfo is asked with %v, %q", r.Header, r.URL.RawQuery)
				}
				_, _ = w.Write([]byte(`{"sub":"alice"}`))
			}
		},
		"oidcc-client-test-discovery-openid-config": func(idp *scripted.Provider) {
			idp.Document = func(d map[string]any) { d["token_endpoint"] = idp.URL + "/token?tenant=1" }
		},
		"oidcc-client-test-discovery-jwks-uri-keys": func(idp *scripted.Provider) {
			idp.Document = func(d map[string]any) { d["jwks_uri"] = idp.URL + "/keys?run=2" }
		},
	} {
		t.Run(module, func(t *testing.T) {
			t.Parallel()
			idp := scripted.New(t)
			set(idp)
			done, err := signIn(t, newOIDC(t, idp, nil), nil)
			if err != nil || done.Identity.Subject != "alice" || idp.Calls("/userinfo") != 1 || idp.Calls("/keys") != 1 || idp.Calls("/token") != 1 {
				t.Errorf("%+v, %v; userinfo %d, keys %d, token %d", done.Identity, err, idp.Calls("/userinfo"), idp.Calls("/keys"), idp.Calls("/token"))
			}
		})
	}
	t.Run("oidcc-client-test-scope-userinfo-claims", func(t *testing.T) {
		t.Parallel()
		idp := scripted.New(t)
		want := "openid profile email address phone"
		idp.Authorization = func(_, request url.Values) {
			if got := request.Get("scope"); got != want {
				t.Errorf("asked for %q", got)
			}
		}
		idp.UserInfo = func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"sub":"alice","phone_number":"+49 30 1","address":{"country":"DE"}}`))
		}
		done, err := signIn(t, newOIDC(t, idp, func(c *provider.Config) { c.Scopes = strings.Fields(want) }), nil)
		if err != nil || done.Identity.Claims["phone_number"] != "+49 30 1" || done.Identity.Claims["address"] == nil {
			t.Errorf("%v, %v", done.Identity.Claims, err)
		}
	})
	t.Run("oidcc-client-test-signing-key-rotation", func(t *testing.T) {
		t.Parallel()
		idp := scripted.New(t)
		p := newOIDC(t, idp, nil)
		for n := range 3 {
			if _, err := signIn(t, p, nil); err != nil || idp.Calls("/keys") != n+1 {
				t.Fatalf("sign-in %d: %v, keys fetched %d times", n+1, err, idp.Calls("/keys"))
			}
			signsWith(idp, newECKey(), jose.ES256, "next-"+string(rune('a'+n)))
		}
	})
	t.Run("oidcc-client-test-signing-key-rotation-just-before-signing", func(t *testing.T) {
		t.Parallel()
		idp := scripted.New(t)
		p := newOIDC(t, idp, nil)
		if _, err := signIn(t, p, nil); err != nil {
			t.Fatal(err)
		}
		_, err := signIn(t, p, func(url.Values) { signsWith(idp, newECKey(), jose.ES256, "new") })
		if err != nil || idp.Calls("/keys") != 2 {
			t.Errorf("%v, keys fetched %d times", err, idp.Calls("/keys"))
		}
	})
}

func spoilSignature(signed string) string {
	parts := strings.Split(signed, ".")
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		panic(err)
	}
	signature[0] ^= 1
	return parts[0] + "." + parts[1] + "." + base64url(signature)
}

// joined is a compact JWS of a header in plain text.
func joined(header, payload, signature string) string {
	return base64url([]byte(header)) + "." + payload + "." + signature
}

// payloadOf is the payload of a compact JWS.
func payloadOf(signed string) []byte {
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(signed, ".")[1])
	if err != nil {
		panic(err)
	}
	return payload
}

func base64url(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

func hmacKey(secret []byte) jose.SigningKey {
	return jose.SigningKey{Algorithm: jose.HS256, Key: secret}
}

// renewed signs in, with claims that first has edited, renews, and returns what the check of the new id token says.
func renewed(t *testing.T, first, set func(c map[string]any)) error {
	t.Helper()
	idp := scripted.New(t)
	if first != nil {
		claims(first)(idp)
	}
	p := newOIDC(t, idp, nil)
	done, err := signIn(t, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	idp.Claims = func(c map[string]any, _ bool) { set(c) }
	before := done.Answer.TokenSet(auth.TokenSet{}, time.Hour)
	answer, err := p.Renew(t.Context(), before, true)
	if err != nil || answer.Refresh == "" || answer.Refresh == before.Refresh {
		t.Fatalf("%+v, %v", answer, err)
	}
	g := &auth.Grant{Identity: done.Identity, Tokens: answer.TokenSet(before, time.Hour)}
	_, err = p.VerifyIDToken(t.Context(), g, answer.ID, true)
	calls := idp.Calls("/keys")
	if _, unasked := p.VerifyIDToken(t.Context(), g, answer.ID, false); fmt.Sprint(unasked) != fmt.Sprint(err) {
		t.Errorf("with the keys that are here: %v, else %v", unasked, err)
	}
	other := newOIDC(t, idp, nil)
	if _, unasked := other.VerifyIDToken(t.Context(), g, answer.ID, false); !errors.Is(unasked, auth.ErrKeysUnavailable) {
		t.Errorf("without any keys: %v", unasked)
	}
	if now := idp.Calls("/keys"); now != calls {
		t.Errorf("keys were fetched %d times without being asked to", now-calls)
	}
	if idp.Calls("/userinfo") != 1 {
		t.Errorf("userinfo was called %d times", idp.Calls("/userinfo"))
	}
	return err
}

// oidcc-client-refreshtoken-test-plan, and OpenID Connect Core 12.2. What the whole program makes of them is tested there.
func TestConformanceOfRenewals(t *testing.T) {
	t.Parallel()
	ours := func(c map[string]any) { c["azp"] = scripted.ClientID }
	for module, c := range map[string]struct {
		first func(c map[string]any) // at sign-in
		set   func(c map[string]any)
		ends  bool // as another identity
		fails bool // the id token only
	}{
		"oidcc-client-test-refresh-token":                {set: func(map[string]any) {}},
		"oidcc-client-test-refresh-token-invalid-issuer": {set: func(c map[string]any) { c["iss"] = "https://evil.example" }, ends: true},
		"oidcc-client-test-refresh-token-invalid-sub":    {set: func(c map[string]any) { c["sub"] = "mallory" }, ends: true},
		"the same audience as a list":                    {set: func(c map[string]any) { c["aud"] = []string{scripted.ClientID} }},
		"no iss":                                         {set: func(c map[string]any) { delete(c, "iss") }, fails: true},
		"no sub":                                         {set: func(c map[string]any) { delete(c, "sub") }, fails: true},
		"a nonce of its own":                             {set: func(c map[string]any) { c["nonce"] = "other" }, fails: true},
		"an azp that was not there":                      {set: ours, fails: true},
		"the azp that was there":                         {first: ours, set: ours},
		"another time of sign-in": {
			first: func(c map[string]any) { c["auth_time"] = 1700000000 }, set: func(c map[string]any) { c["auth_time"] = 1700000001 }, fails: true,
		},
		"an audience more": {first: ours, set: func(c map[string]any) {
			c["aud"], c["azp"] = []string{scripted.ClientID, "other"}, scripted.ClientID
		}, fails: true},
		"older than the one before": {set: func(c map[string]any) { c["iat"] = time.Now().Add(-time.Hour).Unix() }, fails: true},
		"a wrong at_hash":           {set: func(c map[string]any) { c["at_hash"] = "AAAAAAAAAAAAAAAAAAAAAA" }, fails: true},
	} {
		t.Run(module, func(t *testing.T) {
			t.Parallel()
			if err := renewed(t, c.first, c.set); errors.Is(err, auth.ErrOtherIdentity) != c.ends || (err != nil) != (c.ends || c.fails) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// OpenID Connect Core 3.1.3.7, item 13: who asks that the person was seen lately looks whether they were.
func TestHowLatelyThePersonWasSeen(t *testing.T) {
	t.Parallel()
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	for name, c := range map[string]struct {
		at    any
		taken bool
	}{
		"just now":                            {ago(0), true},
		"too long ago by a clock that is off": {ago(3 * time.Minute), true},
		"too long ago":                        {ago(time.Hour), false},
		"in a word":                           {"now", false},
		"not said":                            {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idp := scripted.New(t)
			if c.at != nil {
				claims(func(said map[string]any) { said["auth_time"] = c.at })(idp)
			}
			p := newOIDC(t, idp, func(config *provider.Config) { config.AuthParams = map[string]string{"max_age": "60"} })
			_, err := signIn(t, p, nil)
			var refusal *provider.SignInError
			if c.taken && err != nil || !c.taken && (!errors.As(err, &refusal) || refusal.Code != "invalid_id_token") {
				t.Errorf("error %v", err)
			}
		})
	}
}
