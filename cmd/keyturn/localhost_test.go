package main

import (
	"strings"
	"testing"

	"keyturn/auth/provider/scripted"
)

// No resolver has to know such a name, and no proxy of the environment can lead to it.
func TestAProviderAtANameBelowLocalhostIsReached(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	listening := idp.URL
	idp.URL = strings.Replace(listening, "127.0.0.1", "ID.keyturn-2.localhost", 1)
	p := startProgram(t, "HTTP_PROXY=http://127.0.0.1:1", "KEYTURN_ISSUER="+idp.URL,
		"KEYTURN_CLIENT_ID="+scripted.ClientID, "KEYTURN_CLIENT_SECRET="+scripted.ClientSecret)
	alice := p.person()
	begun := alice.staying().do(t, "GET", "/auth/oidc", nil)
	to, named := strings.CutPrefix(begun.header.Get("Location"), idp.URL)
	if !named {
		t.Fatalf("the sign-in begins with %d, at %q: %s", begun.status, begun.header.Get("Location"), p.log)
	}
	// The browser of this test has no names of its own.
	if a := alice.do(t, "GET", listening+to, nil); a.url.Path != "/dashboard" {
		t.Fatalf("the sign-in ends at %s: %s\n%s", a.url, a.body, p.log)
	}
	if a := alice.do(t, "POST", "/api/renew-token", nil); a.json(t)["outcome"] != "rotated" {
		t.Errorf("the renewal: %s", a.body)
	}
}
