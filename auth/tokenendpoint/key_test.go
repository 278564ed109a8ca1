package tokenendpoint

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

func inPEM(kind string, der []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestClientKeysOfEveryForm(t *testing.T) {
	t.Parallel()
	large, _ := rsa.GenerateKey(rand.Reader, 2048)
	curve, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	public, edwards, _ := ed25519.GenerateKey(rand.Reader)
	sec1, sec1Err := x509.MarshalECPrivateKey(curve)
	pkcs8, pkcs8Err := x509.MarshalPKCS8PrivateKey(edwards)
	jwk, _ := jose.JSONWebKey{Key: large, KeyID: "own", Algorithm: "PS256"}.MarshalJSON()
	for name, c := range map[string]struct {
		content   []byte
		id        string
		announced []string
		public    any
		alg, kid  string
	}{
		"RSA in PKCS #1":               {inPEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(large), nil), "k1", nil, large.Public(), "RS256", "k1"},
		"RSA where PS256 is announced": {inPEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(large), nil), "", []string{"PS256"}, large.Public(), "PS256", ""},
		"EC beside its parameters":     {append(inPEM("EC PARAMETERS", []byte{1}, nil), inPEM("EC PRIVATE KEY", sec1, sec1Err)...), "", nil, curve.Public(), "ES384", ""},
		"Ed25519 in PKCS #8":           {inPEM("PRIVATE KEY", pkcs8, pkcs8Err), "", nil, public, "EdDSA", ""},
		"a JSON Web Key":               {jwk, "", nil, large.Public(), "PS256", "own"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, err := ParseKey(c.content, c.id)
			if err != nil {
				t.Fatal(err)
			}
			now := time.Now()
			seen := map[string]bool{}
			for range 3 {
				assertion, err := key.assert("me", "https://op.example/token", c.announced, now)
				if err != nil {
					t.Fatal(err)
				}
				token, err := jwt.ParseSigned(assertion.Reveal(), []jose.SignatureAlgorithm{jose.SignatureAlgorithm(c.alg)})
				if err != nil {
					t.Fatal(err)
				}
				var claims jwt.Claims
				if err := token.Claims(c.public, &claims); err != nil {
					t.Fatal(err)
				}
				if claims.Issuer != "me" || claims.Subject != "me" || !claims.Audience.Contains("https://op.example/token") || seen[claims.ID] ||
					claims.Expiry.Time().Sub(now) > time.Minute || token.Headers[0].KeyID != c.kid {
					t.Errorf("%+v, %+v", claims, token.Headers)
				}
				seen[claims.ID] = true
			}
			if text := fmt.Sprintf("%v %+v %#v", key, key, key); strings.Contains(text, "{") {
				t.Errorf("printed: %s", text)
			}
		})
	}
}

func TestKeysThatAreNoneAreRefused(t *testing.T) {
	t.Parallel()
	private, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	public, _ := jose.JSONWebKey{Key: private.Public()}.MarshalJSON()
	foreign, _ := jose.JSONWebKey{Key: private, Algorithm: "RS256"}.MarshalJSON()
	symmetric, _ := jose.JSONWebKey{Key: []byte("secret secret secret")}.MarshalJSON()
	weak, _ := rsa.GenerateKey(rand.Reader, 1024)
	weakOwn, _ := jose.JSONWebKey{Key: weak}.MarshalJSON()
	for name, content := range map[string][]byte{
		"a weak RSA key": inPEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(weak), nil), "a weak JSON Web Key": weakOwn,
		"nothing": nil, "words": []byte("hush"), "a public key": public, "a shared secret": symmetric, "another kind's algorithm": foreign,
		"broken":      inPEM("PRIVATE KEY", []byte("x"), nil),
		"encrypted":   inPEM("ENCRYPTED PRIVATE KEY", []byte("x"), nil),
		"broken JSON": []byte("{"),
	} {
		if _, err := ParseKey(content, ""); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func clientKey(t *testing.T) *Key {
	t.Helper()
	private, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, err := x509.MarshalECPrivateKey(private)
	key, err := ParseKey(inPEM("EC PRIVATE KEY", der, err), "")
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestAnAssertionIsForOneHost(t *testing.T) {
	t.Parallel()
	c := Client{TokenURL: "https://op.example/token"}
	for endpoint, want := range map[string]string{
		"https://op.example/token": "https://op.example/token", "https://op.example/revoke": "https://op.example/token",
		"https://evil.example/revoke": "https://evil.example/revoke", "http://op.example/revoke": "http://op.example/revoke",
	} {
		if got := c.audience(endpoint); got != want {
			t.Errorf("for %s: %s", endpoint, got)
		}
		named := Client{TokenURL: c.TokenURL, Issuer: "https://id.example", AuthMethod: PrivateKeyJWTForIssuer}
		if got := named.audience(endpoint); got != strings.ReplaceAll(want, c.TokenURL, named.Issuer) {
			t.Errorf("for %s of an issuer: %s", endpoint, got)
		}
	}
	key := clientKey(t)
	if _, err := key.assert("me", "you", []string{"RS256"}, time.Now()); err == nil {
		t.Error("an algorithm that the provider does not take is used")
	}
}
