package main

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth/provider/scripted"
)

// refusedNow checks that an answer is a 429 that says when to come back.
func refusedNow(t *testing.T, a answer) {
	t.Helper()
	if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); a.status != http.StatusTooManyRequests || err != nil || seconds < 1 {
		t.Errorf("%d, Retry-After %q: %s", a.status, a.header.Get("Retry-After"), a.body)
	}
}

func TestLimitsOfASession(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil, "--limit-renew=3/h", "--limit-reveal=2/h", "--limit-sign-in=2/h")
	alice, bob := p.person(), p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	bob.do(t, "GET", "/auth/oidc", nil)
	for range 2 {
		alice.do(t, "POST", "/api/renew-token", nil)
	}
	if a := alice.do(t, "POST", "/api/trigger-renew-token?query=update-token-data", nil); a.status != 200 {
		t.Errorf("the third: %d %s", a.status, a.body)
	}
	a := alice.do(t, "POST", "/api/renew-token", nil)
	refusedNow(t, a)
	if code := a.json(t)["error"].(map[string]any)["code"]; code != "too_many_requests" {
		t.Errorf("a program is told %v", code)
	}
	beside := alice.do(t, "POST", "/api/trigger-renew-token?query=update-token-data", nil, "HX-Request", "true")
	if refusedNow(t, beside); beside.header.Get("HX-Retarget") != "#result" || !strings.HasPrefix(beside.body, `<p id="result" class="result bad">`) {
		t.Errorf("the answer to a click goes to %q: %s", beside.header.Get("HX-Retarget"), beside.body)
	}
	form := alice.do(t, "POST", "/api/trigger-renew-token?query=update-token-data", nil, "Accept", "text/html")
	refusedNow(t, form)
	if !strings.Contains(form.body, "<html") || !strings.Contains(form.body, "Try again in") {
		t.Errorf("the button without JavaScript shows: %s", form.body)
	}
	if a := bob.do(t, "POST", "/api/renew-token", nil); a.status != 200 {
		t.Errorf("somebody else: %d", a.status)
	}
	if g := alice.generation(t); g != 4 {
		t.Errorf("generation %v: to look is not limited, and what was refused changed nothing", g)
	}
	const reveal = "/dashboard/tokens/access/reveal"
	for range 2 {
		alice.do(t, "POST", reveal, nil)
	}
	page := alice.do(t, "POST", reveal, nil, "Accept", "text/html")
	refusedNow(t, page)
	if !strings.Contains(page.body, "<html") || !strings.Contains(page.body, "Try again in") {
		t.Errorf("a person is shown: %s", page.body)
	}
	for _, path := range []string{"/dashboard/userinfo", "/dashboard/tokens/access/introspect"} {
		refusedNow(t, alice.do(t, "POST", path, nil))
	}
	for range 2 {
		alice.staying().do(t, "GET", "/auth/oidc", nil)
	}
	refusedNow(t, alice.staying().do(t, "GET", "/auth/oidc", nil))
}

// An address may do ten times as much as a session. Which one a request comes from is for trusted proxies to say.
func TestLimitsOfAnAddress(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	args := []string{
		"KEYTURN_ISSUER=" + idp.URL, "KEYTURN_CLIENT_ID=" + scripted.ClientID, "KEYTURN_CLIENT_SECRET=" + scripted.ClientSecret,
		"--limit-sign-in=1/h",
	}
	behind, open := startProgram(t, append(args, "--trusted-proxies=127.0.0.0/8,::1,192.0.2.0/24")...), startProgram(t, args...)
	begin := func(p *program, forwarded string) answer {
		return p.person().staying().do(t, "GET", "/auth/oidc", nil, "X-Forwarded-For", forwarded)
	}
	for range 10 {
		if a := begin(behind, "198.51.100.7"); a.status != http.StatusSeeOther {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	for _, same := range []string{"198.51.100.7", "203.0.113.9, 198.51.100.7", "198.51.100.7, 192.0.2.1", "::ffff:198.51.100.7",
		"198.51.100.7:4711", "[::ffff:198.51.100.7]:4711"} {
		refusedNow(t, begin(behind, same))
	}
	refusedNow(t, behind.person().staying().do(t, "GET", "/auth/oidc", nil, "X-Forwarded-For", "203.0.113.9", "X-Forwarded-For", "198.51.100.7:4711"))
	for _, path := range []string{"/auth/initiate", "/auth/oidc/callback"} {
		for _, method := range []string{"GET", "POST"} {
			refusedNow(t, behind.person().do(t, method, path, nil, "X-Forwarded-For", "198.51.100.7"))
		}
	}
	for _, other := range []string{"198.51.100.8", "198.51.100.7, 203.0.113.9", "2001:db8::1"} {
		if a := begin(behind, other); a.status != http.StatusSeeOther {
			t.Errorf("%s: %d", other, a.status)
		}
	}
	for range 9 {
		begin(behind, "2001:db8::2") // a home has a network, not one address
	}
	refusedNow(t, begin(behind, "2001:db8::3"))
	for range 10 {
		begin(behind, "junk") // what a proxy says that is no address switches the limit off for nobody
	}
	refusedNow(t, begin(behind, "more junk"))
	for range 12 {
		if a := begin(open, "198.51.100.7"); a.status != http.StatusSeeOther {
			t.Fatalf("without a trusted proxy the header counts: %d", a.status)
		}
	}
	if n := strings.Count(open.log.String(), "--trusted-proxies (KEYTURN_TRUSTED_PROXIES) does not name it"); n != 1 {
		t.Errorf("the undeclared proxy is told of %d times", n)
	}
}

// An address has a bound of its own also for what only sessions may ask for.
func TestLimitsOfAnAddressWithManySessions(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil, "--limit-renew=1/h", "--limit-reveal=1/h", "--trusted-proxies=127.0.0.0/8,::1")
	for n := range 11 {
		b := p.person()
		b.do(t, "GET", "/auth/oidc", nil)
		for _, path := range []string{"/api/renew-token", "/dashboard/tokens/access/reveal"} {
			a := b.do(t, "POST", path, nil, "X-Forwarded-For", "198.51.100.7")
			if n == 10 {
				refusedNow(t, a)
			} else if a.status != http.StatusOK {
				t.Errorf("%s by session %d: %d %s", path, n+1, a.status, a.body)
			}
		}
	}
}

// Logout tokens are bounded as well when they come all at once, and nobody can judge them yet.
func TestLogoutTokensThatComeAtOnceAreLimited(t *testing.T) {
	t.Parallel()
	silent := make(chan struct{})
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		endsSessions(idp)
		idp.Keys = func(w http.ResponseWriter, _ *http.Request) {
			<-silent
			w.WriteHeader(http.StatusBadGateway)
		}
	}, "--limit-sign-in=1/h", "--trusted-proxies=127.0.0.0/8,::1")
	token := idp.SignAs("logout+jwt", idp.LogoutClaims("", "alice"))
	var all sync.WaitGroup
	var refused atomic.Int32
	release := sync.OnceFunc(func() { close(silent) })
	defer release()
	for range 30 {
		all.Go(func() {
			a := p.person().do(t, "POST", "/auth/oidc/backchannel-logout", url.Values{"logout_token": {token}}, "X-Forwarded-For", "203.0.113.9")
			if a.status == http.StatusTooManyRequests && refused.Add(1) == 20 {
				release()
			}
		})
	}
	all.Wait()
	if n := refused.Load(); n != 20 {
		t.Errorf("%d of 30 are refused unseen, want 20", n)
	}
}

// All of a provider's logout tokens come from one address, many at once perhaps: only those that are refused are bounded.
func TestLogoutTokensThatAreRefusedAreLimited(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, endsSessions, "--limit-sign-in=1/h", "--trusted-proxies=127.0.0.0/8,::1")
	from := func(address, token string) answer {
		return p.person().do(t, "POST", "/auth/oidc/backchannel-logout", url.Values{"logout_token": {token}}, "X-Forwarded-For", address)
	}
	good := func() string { return idp.SignAs("logout+jwt", idp.LogoutClaims("", "alice")) }
	const atProvider, stranger = "198.51.100.7", "203.0.113.9"
	for n := range 12 {
		if a := from(atProvider, good()); a.status != http.StatusOK {
			t.Fatalf("the provider's logout token %d: %d %s", n+1, a.status, a.body)
		}
	}
	for n := range 10 {
		if a := from(stranger, "junk"); a.status != http.StatusBadRequest {
			t.Fatalf("the stranger's %d: %d %s", n+1, a.status, a.body)
		}
	}
	refusedNow(t, from(stranger, "junk"))
	if a := from(atProvider, good()); a.status != http.StatusOK {
		t.Errorf("the provider's after the stranger's: %d %s", a.status, a.body)
	}
	again := good()
	from(atProvider, again)
	for range 10 {
		from(atProvider, again) // somebody has got hold of it
	}
	refusedNow(t, from(atProvider, again))
	if a := p.person().staying().do(t, "GET", "/auth/oidc", nil, "X-Forwarded-For", stranger); a.status != http.StatusSeeOther {
		t.Errorf("a sign-in from an address of refused logout tokens: %d", a.status)
	}
	if a := from("198.51.100.8", good()); a.status != http.StatusOK {
		t.Errorf("from another address: %d %s", a.status, a.body)
	}
}

func TestTheAddressOfASignInIsTheOneBehindTrustedProxies(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil, "--trusted-proxies=127.0.0.1,::1")
	alice := p.person()
	alice.do(t, "GET", callback(t, alice, "/auth/oidc"), nil, "X-Forwarded-For", "10.0.0.1, 203.0.113.77")
	if a := alice.do(t, "GET", "/dashboard/sessions", nil); !strings.Contains(a.body, "203.0.113.77") || strings.Contains(a.body, "10.0.0.1") {
		t.Errorf("the session's address is another: %s", a.body)
	}
}

func TestThePersonsOldestSessionEnds(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil, "--sessions-per-person=2")
	var people []*person
	for range 3 {
		people = append(people, p.person())
		people[len(people)-1].do(t, "GET", "/auth/oidc", nil)
	}
	if a := people[0].do(t, "GET", "/api/session", nil); a.status != http.StatusUnauthorized {
		t.Errorf("the oldest: %d", a.status)
	}
	for n, b := range people[1:] {
		if g := b.generation(t); g != 1 {
			t.Errorf("session %d: generation %v", n+2, g)
		}
	}
	eventually(t, "its refresh token is revoked", func() bool { return len(idp.Revoked()) == 1 })

	people[2].do(t, "GET", "/auth/oidc", nil) // again: there are no more than before
	for n, b := range people[1:] {
		if a := b.do(t, "GET", "/api/session", nil); a.status != http.StatusOK {
			t.Errorf("session %d after signing in again in the last one: %d", n+2, a.status)
		}
	}
	if n := len(idp.Revoked()); n != 1 {
		t.Errorf("signing in again in the same browser revoked %d refresh tokens", n-1)
	}
}

func TestOpenEventStreamsAreBounded(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil, "--event-streams=20")
	var people [11]*person
	for n := range people {
		people[n] = p.person()
		people[n].do(t, "GET", "/auth/oidc", nil)
	}
	alice, last := people[0], people[10]
	_, end := alice.watch(t)
	alice.watch(t)
	many := alice.do(t, "GET", "/events", nil)
	if refusedNow(t, many); many.json(t)["error"].(map[string]any)["code"] != "too_many_requests" {
		t.Errorf("a program is told %s", many.body)
	}
	for n, b := range people[1:10] {
		for range 2 {
			if status, _ := b.watch(t); status != http.StatusOK {
				t.Errorf("a stream of session %d: %d", n+2, status)
			}
		}
	}
	if status, _ := last.watch(t); status != http.StatusTooManyRequests {
		t.Errorf("a stream beyond those that all may have: %d", status)
	}
	end()
	for _, b := range []*person{last, alice} {
		eventually(t, "a stream that ended makes room", func() bool {
			status, end := b.watch(t)
			end()
			return status == http.StatusOK
		})
	}
}

// watch opens a stream of events that nobody reads, until end.
func (b *person) watch(t *testing.T) (status int, end func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	request, err := http.NewRequestWithContext(ctx, "GET", b.base+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := b.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	end = func() { cancel(); response.Body.Close() }
	t.Cleanup(end)
	return response.StatusCode, end
}
