package main

import (
	"context"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth/provider/scripted"
)

func TestSigningOutWhileRevocationIsDown(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	down.Store(true)
	var tries atomic.Int32
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Revocation = func(w http.ResponseWriter) bool {
			tries.Add(1)
			if down.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return down.Load()
		}
	})
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	alice.do(t, "POST", "/auth/signout", url.Values{})
	if alice.signedIn(t) {
		t.Error("still signed in")
	}
	eventually(t, "the revocation is tried again", func() bool { return tries.Load() > 1 })
	down.Store(false)
	eventually(t, "it succeeds", func() bool { return len(idp.Revoked()) > 0 && idp.Revoked()[0] == idp.Issued()[1] })
}

func TestARevocationThatIsRefusedIsNotRepeated(t *testing.T) {
	t.Parallel()
	var tries atomic.Int32
	_, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Revocation = func(w http.ResponseWriter) bool { tries.Add(1); w.WriteHeader(http.StatusBadRequest); return true }
	})
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	alice.do(t, "POST", "/auth/signout", url.Values{})
	eventually(t, "the log says so", func() bool { return strings.Contains(p.log.String(), "could not be revoked") })
	if tries.Load() != 1 {
		t.Errorf("%d tries", tries.Load())
	}
}

func TestASlowRevocationDelaysNoSignOut(t *testing.T) {
	t.Parallel()
	release := make(chan bool)
	_, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Revocation = func(http.ResponseWriter) bool { <-release; return false }
	})
	t.Cleanup(func() { close(release) })
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	began := time.Now()
	if a := alice.staying().do(t, "POST", "/auth/signout", url.Values{}); a.status != http.StatusSeeOther {
		t.Errorf("%d", a.status)
	}
	// Keyturn gives the revocation up after 10 s: a sign-out that waits for it takes longer.
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the sign-out took %v", took)
	}
	if alice.signedIn(t) {
		t.Error("still signed in")
	}
}

// The name is that of the OpenID Foundation's test module (OpenID Connect Core section 4).
func TestThirdPartyInitiatedLogin(t *testing.T) {
	t.Parallel()
	hints := make(chan string, 20)
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Asked = func(path string, params url.Values) {
			if path == "/authorize" {
				hints <- params.Get("login_hint")
			}
		}
	})
	t.Run("oidcc-client-test-3rd-party-init-login", func(t *testing.T) {
		t.Parallel()
		for method, target := range map[string]string{"GET": p.base + "/dashboard?x=1", "POST": "/dashboard?x=1"} {
			params := url.Values{"iss": {idp.URL}, "login_hint": {"alice@example.com"}, "target_link_uri": {target}}
			path, form := "/auth/initiate", params
			if method == "GET" {
				path, form = path+"?"+params.Encode(), nil
			}
			alice := p.person()
			a := alice.do(t, method, path, form, "Sec-Fetch-Site", "cross-site", "Origin", "https://portal.example")
			if a.url.RequestURI() != "/dashboard?x=1" || !alice.signedIn(t) {
				t.Errorf("%s: at %s (%d)", method, a.url, a.status)
			}
			select {
			case hint := <-hints:
				if hint != "alice@example.com" {
					t.Errorf("%s: login_hint %q", method, hint)
				}
			default:
				t.Errorf("%s: the provider was not asked", method)
			}
		}
	})
	t.Run("the session of a browser that has one is left alone", func(t *testing.T) {
		t.Parallel()
		a := p.person().staying().do(t, "POST", "/auth/initiate", url.Values{"iss": {idp.URL}}, "Sec-Fetch-Site", "cross-site")
		if a.status != http.StatusSeeOther || a.header.Get("Location") != "/auth/oidc" || len(a.header.Values("Set-Cookie")) != 0 {
			t.Errorf("%d to %q, %v", a.status, a.header.Get("Location"), a.header)
		}
	})
	t.Run("issuers that are not configured", func(t *testing.T) {
		t.Parallel()
		for _, query := range []string{"", "?iss=", "?iss=https://evil.example", "?iss=" + url.QueryEscape(idp.URL+"/"), "?iss=" + idp.URL + "&iss=x"} {
			a := p.person().staying().do(t, "GET", "/auth/initiate"+query, nil)
			if a.status != http.StatusBadRequest || a.header.Get("Location") != "" {
				t.Errorf("%q: %d to %q", query, a.status, a.header.Get("Location"))
			}
		}
	})
	t.Run("targets elsewhere", func(t *testing.T) {
		t.Parallel()
		for _, target := range []string{"https://evil.example/", "//evil.example", p.base + ".evil.example/", p.base + "@evil.example/", p.base + "//evil.example", "javascript:alert(1)"} {
			a := p.person().staying().do(t, "GET", "/auth/initiate?"+url.Values{"iss": {idp.URL}, "target_link_uri": {target}}.Encode(), nil)
			if a.header.Get("Location") != "/auth/oidc" {
				t.Errorf("%s leads to %q", target, a.header.Get("Location"))
			}
		}
	})
}

// private_key_jwt from the settings to the provider, with the built program.
func TestAClientWithAKey(t *testing.T) {
	t.Parallel()
	path, public := keyFile(t)
	idp := scripted.New(t)
	idp.Authenticate = scripted.Assertion(public, "ES256", idp.URL+"/token")
	p := startProgram(t, "KEYTURN_ISSUER="+idp.URL, "KEYTURN_CLIENT_ID="+scripted.ClientID, "KEYTURN_CLIENT_KEY_FILE="+path)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	if a := alice.do(t, "POST", "/api/renew-token", nil); a.status != http.StatusOK || a.json(t)["outcome"] != "rotated" {
		t.Fatalf("%d %s\n%s", a.status, a.body, p.log)
	}
	alice.do(t, "POST", "/auth/signout", url.Values{})
	eventually(t, "the refresh token is revoked", func() bool { return len(idp.Revoked()) == 1 })
}

func TestASessionInUseDoesNotIdleAway(t *testing.T) {
	t.Parallel()
	p := startProgram(t, "--session-idle=6s")
	alice := p.person()
	alice.signIn(t, "alice")
	for began := time.Now(); time.Since(began) < 8*time.Second; time.Sleep(300 * time.Millisecond) {
		if a := alice.do(t, "GET", "/api/session", nil); a.status != http.StatusOK {
			t.Fatalf("%d after %v of use: %s", a.status, time.Since(began), a.body)
		}
	}
	time.Sleep(6500 * time.Millisecond)
	if a := alice.do(t, "GET", "/api/session", nil); a.status != http.StatusUnauthorized {
		t.Errorf("%d after more than the idle limit: %s", a.status, a.body)
	}
}

// What a provider has given for a sign-in that comes to nothing is revoked, but where somebody stays signed in with that provider: to
// many providers the two sign-ins are one grant.
func TestTokensOfARefusedSignInAreRevoked(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	refuse := func(on bool) {
		idp.Change(func() {
			idp.Claims = func(claims map[string]any, _ bool) {
				if on {
					claims["aud"] = "somebody"
				}
			}
		})
	}
	refuse(true)
	if a := p.person().do(t, "GET", "/auth/oidc", nil); a.status != http.StatusBadRequest {
		t.Fatalf("a sign-in for another client: %d", a.status)
	}
	eventually(t, "its refresh token is revoked", func() bool {
		return slices.Equal(idp.Revoked(), []string{idp.Issued()[1]})
	})
	refuse(false)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	refuse(true)
	if a := alice.do(t, "GET", "/auth/oidc", nil); a.status != http.StatusBadRequest {
		t.Fatalf("another sign-in for another client: %d", a.status)
	}
	refuse(false)
	alice.do(t, "POST", "/api/renew-token", nil)
	if g := alice.generation(t); g != 2 || len(idp.Revoked()) != 1 {
		t.Errorf("generation %v, %d tokens revoked", g, len(idp.Revoked()))
	}
}

// A revocation that comes later than the sign-in that follows could end that one's grant.
func TestTokensOfARefusedSignInAreRevokedAtOnceOrNotAtAll(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Revocation = func(w http.ResponseWriter) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		idp.Claims = func(claims map[string]any, _ bool) { claims["aud"] = "somebody" }
	})
	alice := p.person()
	if a := alice.do(t, "GET", "/auth/oidc", nil); a.status != http.StatusBadRequest || idp.Calls("/revoke") != 1 {
		t.Fatalf("a sign-in for another client: %d, %d revocations", a.status, idp.Calls("/revoke"))
	}
	idp.Change(func() { idp.Claims, idp.Revocation = nil, nil })
	alice.do(t, "GET", "/auth/oidc", nil)
	time.Sleep(3 * time.Second) // another try would come after one
	if n := len(idp.Revoked()); n != 0 || alice.generation(t) != 1 {
		t.Errorf("%d tokens were revoked later", n)
	}
}

// Where the provider has no end of session the browser is told, once, that it has signed out here.
func TestSigningOutIsSaidWhereTheProviderHasNoEnd(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	const said = "You are signed out here."
	if a := alice.do(t, "POST", "/auth/signout", url.Values{}); a.url.Path != "/" || !strings.Contains(a.body, said) || strings.Contains(a.body, "at your provider.") {
		t.Errorf("at %s: %s", a.url, a.body)
	}
	if a := alice.do(t, "GET", "/", nil); strings.Contains(a.body, said) {
		t.Error("it is said twice")
	}
}

// Who clicks once more, while the first click waits for the provider or is on its way there, comes to the provider's end of session, too.
func TestSigningOutTwiceLeadsToTheProvider(t *testing.T) {
	t.Parallel()
	revoking, held := make(chan bool, 9), make(chan bool)
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Document = func(document map[string]any) { document["end_session_endpoint"] = idp.URL + "/end" }
		idp.Revocation = func(http.ResponseWriter) bool {
			revoking <- true
			<-held
			return false
		}
	})
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	cookie := alice.cookie(t)
	there := make(chan string, 1)
	out := func(b *person, header ...string) string {
		return b.do(t, "POST", "/auth/signout", url.Values{}, header...).header.Get("Location")
	}
	go func() { there <- out(p.person().staying(), "Cookie", cookie) }()
	<-revoking
	second := out(alice.staying())
	close(held)
	for _, to := range []string{<-there, second} {
		if !strings.HasPrefix(to, idp.URL+"/end?") {
			t.Errorf("sent to %q", to)
		}
	}
	if third := out(alice.staying()); third != second {
		t.Errorf("without a session: sent to %q, not to %q", third, second)
	}
	alice.do(t, "GET", "/auth/oidc", nil) // which is not what it went away from
	execute(t, filepath.Join(p.dir, "keyturn.db"), `DELETE FROM sessions`)
	if to := out(alice.staying()); to != "/" {
		t.Errorf("from a session that ended elsewhere: sent to %q", to)
	}
}

// A sign-out that is broken off, or fails, is in no sign-in's way.
func TestSigningInAfterASignOutThatCameToNothing(t *testing.T) {
	t.Parallel()
	for name, stopped := range map[string]bool{"stopped": true, "failed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			revoking, held := make(chan bool, 9), make(chan bool)
			defer close(held)
			idp, p := atScripted(t, func(idp *scripted.Provider) {
				idp.Revocation = func(http.ResponseWriter) bool {
					revoking <- true
					<-held
					return false
				}
			})
			alice, database := p.person(), filepath.Join(p.dir, "keyturn.db")
			alice.do(t, "GET", "/auth/oidc", nil)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			if stopped {
				go func() { <-revoking; stop() }()
			} else {
				execute(t, database, `CREATE TRIGGER stuck BEFORE DELETE ON grants BEGIN SELECT RAISE(ABORT, 'stuck'); END`)
			}
			if a, err := alice.staying().try(ctx, "POST", "/auth/signout", url.Values{}); stopped == (err == nil) || !stopped && a.status != http.StatusServiceUnavailable {
				t.Errorf("the sign-out: %d, %v", a.status, err)
			}
			if !stopped {
				execute(t, database, `DROP TRIGGER stuck`)
			}
			idp.Change(func() { idp.Subject = "bob" })
			alice.do(t, "GET", "/auth/oidc", nil)
			if a := alice.do(t, "GET", "/api/session", nil); !strings.Contains(a.body, `"bob"`) {
				t.Errorf("signed in: %d %s", a.status, a.body)
			}
		})
	}
}
