package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"strings"
	"testing"
)

// keyFile writes a private key that its owner alone may read, and returns the public half.
func keyFile(t *testing.T) (path string, public *ecdsa.PublicKey) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	path = tempFile(t, "client.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, &private.PublicKey
}

// wrongEntry is a provider's entry in the file, and how it is refused: by the name of what is wrong, and what that is.
type wrongEntry struct{ what, entry, place, want string }

// ofWork is how an entry begins in which nothing is wrong.
const ofWork = "name: work, client_id: x, issuer: 'https://i.example', "

func wrongEntries(t *testing.T, list []wrongEntry) {
	t.Helper()
	for _, c := range list {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			_, got := parseFile(t, "providers:\n  - {"+c.entry+"}\n")
			if !strings.Contains(got, c.place+" (line 2 of FILE)") || !strings.Contains(got, c.want) || !strings.Contains(got, "allowed:") ||
				strings.Contains(got, "\n") || strings.Contains(got, "hush") {
				t.Errorf("got  %s\nwant %s … %s", got, c.place, c.want)
			}
		})
	}
}

func TestMistakesWithTheClientsCredentialsAreNamed(t *testing.T) {
	t.Parallel()
	key, _ := keyFile(t)
	open, _ := keyFile(t)
	if err := os.Chmod(open, 0o640); err != nil {
		t.Fatal(err)
	}
	wrong := tempFile(t, "wrong.pem", "hush")
	if err := os.Chmod(wrong, 0o600); err != nil {
		t.Fatal(err)
	}
	wrongEntries(t, []wrongEntry{
		{"missing", ofWork + "client_key_file: /nowhere/k.pem", "client_key_file", "cannot be read"},
		{"open to a group", ofWork + "client_key_file: " + open, "client_key_file", "is open to others than its owner (mode 0640)"},
		{"a secret from a folder", ofWork + "client_secret_file: /", "client_secret_file", "is no regular file"},
		{"no key", ofWork + "client_key_file: " + wrong, "client_key_file", "holds no private key in PEM form"},
		{"a key and a secret", ofWork + "client_secret: s, client_key_file: " + key, "client_key_file", "contradicts the client secret"},
		{"a key and no authentication", ofWork + "client_auth: none, client_key_file: " + key, "client_auth", "contradicts the client key"},
		{"a key and Basic", ofWork + "client_auth: client_secret_basic, client_key_file: " + key, "client_auth", "needs a client secret"},
		{"no key for private_key_jwt", ofWork + "client_auth: private_key_jwt, client_secret: s", "client_auth", "needs client_key_file"},
		{"the id of no key", ofWork + "client_key_id: k1", "client_key_id", "there is no client_key_file"},
		{"a brand's", "type: github, client_id: x, client_key_file: " + key, "client_key_file", "is not used by type github"},
		{"no URI", ofWork + "resource: [api]", "resource", "is not a resource"},
		{"a resource with a fragment", ofWork + "resource: 'https://a.example/#x'", "resource", "is not a resource"},
		{"reserved token parameter", ofWork + "token_params: {refresh_token: hush}", "token_params.refresh_token", "is set by Keyturn itself"},
	})
	_, err := parseWith(nil, []string{"KEYTURN_ISSUER=https://i.example", "KEYTURN_CLIENT_ID=x", "KEYTURN_CLIENT_KEY_FILE=" + open})
	if err == nil || !strings.HasPrefix(err.Error(), "--client-key-file (KEYTURN_CLIENT_KEY_FILE): ") {
		t.Errorf("the generic provider: %v", err)
	}
}

func TestResourcesAndTokenParamsOfTheFile(t *testing.T) {
	t.Parallel()
	key, _ := keyFile(t)
	s, problem := parseFile(t, "providers:\n  - {name: work, client_id: x, issuer: 'https://i.example', client_key_file: "+key+", client_key_id: k1, "+
		"resource: [https://a.example/, 'urn:b'], token_params: {organization: acme}}\n")
	if problem != "" {
		t.Fatal(problem)
	}
	p := s.Providers[0]
	if strings.Join(p.Resource, " ") != "https://a.example/ urn:b" || p.TokenParams["organization"] != "acme" || p.ClientKey.key == nil || p.ClientKey.id != "k1" {
		t.Errorf("%+v", p)
	}
}
