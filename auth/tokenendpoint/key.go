package tokenendpoint

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"keyturn/auth"
)

const (
	// assertionLifetime is short, because an assertion is made for one call (RFC 7523 section 3, point 4).
	assertionLifetime = time.Minute
	assertionType     = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// MinRSABits is how long RSA keys have to be (RFC 7518 section 3.3).
const MinRSABits = 2048

// errNoAlgorithm says that the provider takes no signature that the key can make.
var errNoAlgorithm = errors.New("the client key can make none of the signatures that the provider takes")

// Key is the private key that a client signs its assertions with. Printing it shows no part of it. It is safe for
// concurrent use.
type Key struct {
	private any
	id      string
	algs    []jose.SignatureAlgorithm // that the key can make, the preferred one first
}

// ParseKey reads a private key: PEM (PKCS #8, PKCS #1 or SEC 1) or one JSON Web Key. id goes into the header as kid; when it
// is empty a JSON Web Key's own does. The error says what is wrong and holds nothing of the content.
func ParseKey(content []byte, id string) (*Key, error) {
	key := &Key{id: id}
	if text := strings.TrimSpace(string(content)); strings.HasPrefix(text, "{") {
		var jwk jose.JSONWebKey
		if jwk.UnmarshalJSON([]byte(text)) != nil || !jwk.Valid() {
			return nil, errors.New("is not a usable JSON Web Key")
		}
		key.private = jwk.Key
		if id == "" {
			key.id = jwk.KeyID
		}
		if jwk.Algorithm != "" {
			key.algs = []jose.SignatureAlgorithm{jose.SignatureAlgorithm(jwk.Algorithm)}
		}
	} else {
		private, err := parsePEM(content)
		if err != nil {
			return nil, err
		}
		key.private = private
	}
	able, err := algorithms(key.private)
	if err != nil {
		return nil, err
	}
	if len(key.algs) == 0 {
		key.algs = able
	} else if !slices.Contains(able, key.algs[0]) {
		return nil, errors.New("names an algorithm that is not for this kind of key")
	}
	return key, nil
}

func parsePEM(content []byte) (any, error) {
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			return nil, errors.New("holds no private key in PEM form, and is no JSON Web Key")
		}
		var private any
		var err error
		switch {
		case strings.Contains(block.Type, "ENCRYPTED") || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			return nil, errors.New("is encrypted, and there is nobody to ask for the password")
		case block.Type == "PRIVATE KEY":
			private, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case block.Type == "RSA PRIVATE KEY":
			private, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case block.Type == "EC PRIVATE KEY":
			private, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			continue // EC PARAMETERS and certificates stand beside keys
		}
		if err != nil {
			return nil, errors.New("holds a private key that cannot be read")
		}
		return private, nil
	}
}

// algorithms are the signatures (RFC 7518 section 3.1) that a private key can make.
func algorithms(private any) ([]jose.SignatureAlgorithm, error) {
	switch k := private.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() < MinRSABits {
			return nil, fmt.Errorf("is an RSA key of fewer than %d bits", MinRSABits)
		}
		return []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.RS384, jose.PS384, jose.RS512, jose.PS512}, nil
	case *ecdsa.PrivateKey:
		byBits := map[int]jose.SignatureAlgorithm{256: jose.ES256, 384: jose.ES384, 521: jose.ES512}
		if alg, ok := byBits[k.Curve.Params().BitSize]; ok {
			return []jose.SignatureAlgorithm{alg}, nil
		}
		return nil, errors.New("is on a curve that no signature algorithm is for")
	case ed25519.PrivateKey:
		return []jose.SignatureAlgorithm{jose.EdDSA}, nil
	default:
		return nil, errors.New("is not a private RSA, EC or Ed25519 key")
	}
}

// assert makes an assertion that is good for one call (RFC 7523 section 3). announced are the signatures that the endpoint
// takes; none announced means any.
func (k *Key) assert(clientID, audience string, announced []string, now time.Time) (auth.Secret, error) {
	fits := slices.IndexFunc(k.algs, func(alg jose.SignatureAlgorithm) bool {
		return len(announced) == 0 || slices.Contains(announced, string(alg))
	})
	if fits < 0 {
		return "", errNoAlgorithm
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: k.algs[fits], Key: jose.JSONWebKey{Key: k.private, KeyID: k.id}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", errors.New("the client key cannot sign")
	}
	text, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": clientID, "sub": clientID, "aud": audience, "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(assertionLifetime).Unix(),
	}).Serialize()
	if err != nil {
		return "", errors.New("the client key cannot sign")
	}
	return auth.Secret(text), nil
}

// audience names the provider in an assertion for endpoint: by the token endpoint's URL, which RFC 7523 section 3 proposes, or by its
// issuer, as the method is; or by endpoint's own URL if that is on another host. So no host ever gets an assertion that is good at
// another one.
func (c *Client) audience(endpoint string) string {
	token, err := url.Parse(c.TokenURL)
	called, err2 := url.Parse(endpoint)
	if err != nil || err2 != nil || token.Scheme != called.Scheme || token.Host != called.Host {
		return endpoint
	}
	if c.AuthMethod == PrivateKeyJWTForIssuer {
		return c.Issuer
	}
	return c.TokenURL
}

// String implements fmt.Stringer with the key's id only.
func (k *Key) String() string { return "client key " + k.id }

// GoString implements fmt.GoStringer with what String shows.
func (k *Key) GoString() string { return k.String() }
