package main

import (
	"fmt"
	"strings"

	"keyturn/auth"
	"keyturn/auth/keyfile"
	"keyturn/auth/tokenendpoint"
)

// clientKey is the private key that a client authenticates with. It prints without it.
type clientKey struct {
	file string // path; empty: none
	id   string // kid; empty: what a JSON Web Key says
	key  *tokenendpoint.Key
}

// clientAuth takes the methods of OpenID Connect Core section 9 that Keyturn knows.
func clientAuth(target *tokenendpoint.AuthMethod) field {
	return oneOf(target, tokenendpoint.ClientSecretBasic, tokenendpoint.ClientSecretPost, tokenendpoint.PrivateKeyJWT,
		tokenendpoint.NoAuthentication)
}

// completeClientAuth reads the key and refuses what does not go together.
func (p *ProviderSettings) completeClientAuth(where func(key string) string) error {
	public, keyed := p.ClientSecret == "" && p.ClientKey.file == "", p.ClientKey.file != ""
	switch {
	case keyed && p.Type != typeOIDC:
		return fmt.Errorf("%s: is not used by type %s; allowed: with type oidc", where("client_key_file"), p.Type)
	case p.ClientAuth == tokenendpoint.PrivateKeyJWT && !keyed:
		return fmt.Errorf("%s: \"private_key_jwt\" needs client_key_file; allowed: another method, or a key file", where("client_auth"))
	case keyed && p.ClientSecret != "":
		return fmt.Errorf("%s: contradicts the client secret; allowed: one of them", where("client_key_file"))
	case !keyed && p.ClientKey.id != "":
		return fmt.Errorf("%s: names a key, but there is no client_key_file; allowed: both, or neither", where("client_key_id"))
	case public && p.GrantType == auth.GrantClientCredentials:
		return fmt.Errorf("%s: \"client_credentials\" needs a client secret; allowed: refresh_token, or a client secret",
			where("grant_type"))
	case p.ClientSecret == "" && strings.HasPrefix(string(p.ClientAuth), "client_secret"):
		return fmt.Errorf("%s: %q needs a client secret; allowed: none, or a client secret",
			where("client_auth"), p.ClientAuth)
	case keyed && p.ClientAuth == tokenendpoint.NoAuthentication:
		return fmt.Errorf("%s: \"none\" contradicts the client key; allowed: private_key_jwt, or no client_key_file", where("client_auth"))
	case !public && p.ClientAuth == tokenendpoint.NoAuthentication:
		return fmt.Errorf("%s: \"none\" contradicts the client secret; allowed: client_secret_basic, client_secret_post, "+
			"or no client secret", where("client_auth"))
	case !keyed:
		return nil
	}
	key, err := readClientKey(p.ClientKey.file, p.ClientKey.id)
	if err != nil {
		return value{text: p.ClientKey.file, where: where("client_key_file")}.refused(err)
	}
	p.ClientKey.key = key
	return nil
}

// readClientKey reads a private key from a file that is its owner's only.
func readClientKey(path, id string) (*tokenendpoint.Key, error) {
	const allowed = "; allowed: a private RSA (2048 bits or more), EC or Ed25519 key in PEM form or as a JSON Web Key, in a file " +
		"that only its owner may read"
	content, _, err := keyfile.ReadPrivate(path)
	if err != nil {
		return nil, unusableFile(err, allowed)
	}
	key, err := tokenendpoint.ParseKey(content, id)
	if err != nil {
		return nil, unusableFile(err, allowed)
	}
	return key, nil
}
