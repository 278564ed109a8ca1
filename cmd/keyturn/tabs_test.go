package main

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"keyturn/auth/provider/scripted"
)

func TestSeveralTabsSignIn(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	alice := p.person()
	var backs []string
	for range 6 {
		backs = append(backs, callback(t, alice, "/auth/oidc"))
	}
	if a := alice.do(t, "GET", backs[0], nil); a.status != http.StatusBadRequest {
		t.Errorf("the sixth oldest pending sign-in: %d", a.status)
	}
	for n, back := range backs[1:] {
		if a := alice.do(t, "GET", back, nil); a.status != 200 || a.url.Path != "/dashboard" {
			t.Errorf("tab %d: %d at %s", n+2, a.status, a.url)
		}
	}
}

// The second of two tabs that come back at once names the session as it was before the first signed in.
func TestTabsThatComeBackAtOnce(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	alice := p.person()
	first, second := callback(t, alice, "/auth/oidc"), callback(t, alice, "/auth/oidc")
	before := alice.cookie(t)
	alice.do(t, "GET", first, nil)
	late := p.person().staying()
	a := late.do(t, "GET", second, nil, "Cookie", before)
	again := a.header.Get("Location")
	if a.status != http.StatusSeeOther || len(a.header.Values("Set-Cookie")) != 0 {
		t.Errorf("with the session's former name: %d to %q, %v", a.status, again, a.header.Values("Set-Cookie"))
	}
	if done := alice.do(t, "GET", again, nil); done.url.Path != "/dashboard" {
		t.Errorf("the sign-in ends at %s (%d)", done.url, done.status)
	}
	times := 1
	for ; a.status == http.StatusSeeOther && times < 9; times++ {
		a = late.do(t, "GET", a.header.Get("Location"), nil, "Cookie", before)
	}
	if a.status != http.StatusBadRequest || times != 6 {
		t.Errorf("who has no other name is sent on %d times, and then %d", times-1, a.status)
	}
}

// slowUserInfo has sign-ins take a while after their code is spent, and tells of each.
func slowUserInfo(at chan<- bool) func(*scripted.Provider) {
	return func(idp *scripted.Provider) {
		idp.UserInfo = func(w http.ResponseWriter, _ *http.Request) {
			at <- true
			time.Sleep(300 * time.Millisecond)
			writeJSON(w, map[string]any{"sub": "alice"})
		}
	}
}

// While one tab comes back from its sign-in, another does something else. It has the session's former name.
func TestATabThatDoesSomethingWhileAnotherSignsIn(t *testing.T) {
	t.Parallel()
	at := make(chan bool, 9)
	idp, p := atScripted(t, slowUserInfo(at))
	for name, does := range map[string]struct {
		method, path string
		signedIn     bool
	}{
		"begins a sign-in": {"GET", "/auth/oidc", true},
		"signs out":        {"POST", "/auth/signout", false},
	} {
		alice := p.person()
		back := callback(t, alice, "/auth/oidc")
		var tabs sync.WaitGroup
		tabs.Go(func() { alice.staying().do(t, "GET", back, nil) })
		<-at
		var form url.Values
		if does.method == "POST" {
			form = url.Values{}
		}
		// Without an end: the second sign-in stays at the provider.
		second := &person{Client: &http.Client{Jar: alice.Jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
			if r.URL.Host == parsedURL(t, idp.URL).Host {
				return http.ErrUseLastResponse
			}
			return nil
		}}, base: p.base}
		second.do(t, does.method, does.path, form)
		tabs.Wait()
		if got := alice.signedIn(t); got != does.signedIn {
			t.Errorf("another tab %s: signed in %v", name, got)
		}
	}
	eventually(t, "the grant that was signed out is revoked", func() bool { return len(idp.Revoked()) == 1 })
}

// One answer signs in once, wherever it arrives: a code that comes to the provider twice ends the grant there.
func TestAnAnswerThatComesTwiceAtOnce(t *testing.T) {
	t.Parallel()
	takeTurn(t)
	idp := scripted.New(t)
	r := startReplicas(t, idp, "")
	for range 5 {
		alice := r.person().staying()
		back := callback(t, alice, "/auth/oidc")
		before := idp.Calls("/token")
		var both sync.WaitGroup
		for _, p := range r.programs[:2] {
			both.Go(func() {
				_, _ = p.person().staying().try(t.Context(), "GET", p.base+parsedURL(t, back).RequestURI(), nil, "Cookie", alice.cookie(t))
			})
		}
		both.Wait()
		if calls := idp.Calls("/token") - before; calls != 1 {
			t.Errorf("%d token calls with one code", calls)
		}
	}
}

// A sign-in that takes another's place is stored before what it replaces is revoked: cut off in between, the browser would have no session.
func TestASignInIsStoredBeforeTheFormerTokensAreRevoked(t *testing.T) {
	t.Parallel()
	revoking, held := make(chan bool, 9), make(chan bool)
	idp, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	idp.Change(func() {
		idp.Subject = "bob"
		idp.Revocation = func(http.ResponseWriter) bool {
			revoking <- true
			<-held
			return false
		}
	})
	back := callback(t, alice, "/auth/oidc")
	ctx, cutOff := context.WithCancel(t.Context())
	done := make(chan bool)
	go func() {
		_, _ = alice.staying().try(ctx, "GET", back, nil)
		close(done)
	}()
	<-revoking
	cutOff()
	<-done
	close(held)
	if n := p.count(t, "sessions JOIN grants ON id = sessions.grant_id WHERE sessions.subject = 'bob'"); n != 1 {
		t.Errorf("%d sessions are bob's", n)
	}
}

func TestAnAnswerThatSetsACookieIsNotKept(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	begun := p.person().staying().do(t, "GET", "/auth/oidc", nil)
	if kept := begun.header.Values("Cache-Control"); begun.header.Get("Set-Cookie") == "" || !slices.Equal(kept, []string{"no-store"}) {
		t.Errorf("%v", begun.header)
	}
}
