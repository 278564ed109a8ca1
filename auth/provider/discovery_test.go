package provider

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
)

// Endpoints move. A call that finds nobody is reason to ask where they are by now.
func TestMetadataIsAskedForAgainWhenAnEndpointHasMoved(t *testing.T) {
	t.Parallel()
	var gone, broken atomic.Bool
	idp := scripted.New(t)
	idp.Token = func(w http.ResponseWriter, r *http.Request, _ func() map[string]any) bool {
		if r.URL.Query().Get("at") == "home" && gone.Load() {
			w.WriteHeader(http.StatusNotFound)
		} else {
			_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "a", "token_type": "Bearer"})
		}
		return true
	}
	idp.Document = func(document map[string]any) {
		at := "home"
		if gone.Load() {
			at = "elsewhere"
		}
		document["token_endpoint"] = idp.URL + "/token?at=" + at
		if broken.Load() {
			document["issuer"] = "https://other.example"
		}
	}
	p, err := NewOIDC(Config{
		Name: "work", Type: "oidc", Issuer: idp.URL, ClientID: scripted.ClientID, ClientSecret: scripted.ClientSecret, GrantType: auth.GrantRefreshToken,
	}, Options{RenewTimeout: 5 * time.Second, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	renew := func() bool {
		_, err := p.Renew(t.Context(), auth.TokenSet{Refresh: "r"}, true)
		return err == nil
	}
	longAgo := func() {
		p.discovery.mu.Lock()
		defer p.discovery.mu.Unlock()
		p.discovery.asked = time.Now().Add(-time.Hour)
	}
	asked := func() int { return idp.Calls("/.well-known/openid-configuration") }
	if !renew() || asked() != 1 {
		t.Fatal("it does not begin")
	}
	gone.Store(true)
	if renew() || asked() != 1 {
		t.Errorf("asked %d times within a moment", asked())
	}
	longAgo()
	broken.Store(true)
	renew()
	for deadline := time.Now().Add(10 * time.Second); asked() < 2 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	if p.discovery.known() == nil {
		t.Error("worse metadata took the place of what there was")
	}
	broken.Store(false)
	for deadline := time.Now().Add(10 * time.Second); !renew(); time.Sleep(20 * time.Millisecond) {
		longAgo()
		if time.Now().After(deadline) {
			t.Fatal("the new endpoint is not found")
		}
	}
}

// A page that is made before the metadata is known waits a moment for it, since it has to name where a sign-out ends. A provider that
// hangs makes one page slow, not each.
func TestAPageWaitsAMomentForMetadata(t *testing.T) {
	t.Parallel()
	const elsewhere = "https://elsewhere.example"
	var now atomic.Int64
	answers := make(chan struct{}, 10)
	idp := scripted.New(t)
	idp.Document = func(document map[string]any) {
		document["end_session_endpoint"] = elsewhere + "/end"
		<-answers
	}
	t.Cleanup(func() { close(answers) })
	begin := func() *OIDC {
		p, err := NewOIDC(Config{Name: "work", Type: "oidc", Issuer: idp.URL, ClientID: scripted.ClientID}, Options{
			RenewTimeout: 5 * time.Second, Now: func() time.Time { return time.Unix(now.Load(), 0) },
		})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	names := func(p *OIDC) (known bool, took time.Duration) {
		began := time.Now()
		return slices.Contains(p.Origins(t.Context()), elsewhere), time.Since(began)
	}
	for tries := 1; ; tries++ { // a machine may be too busy for a moment
		answers <- struct{}{}
		if known, _ := names(begin()); known {
			break
		}
		if tries == 3 {
			t.Fatal("no page waited")
		}
	}
	p := begin()
	if known, took := names(p); known || took < pageWait || took > 10*pageWait {
		t.Errorf("a provider that hangs: %v, after %v", known, took)
	}
	for range 3 {
		if known, took := names(p); known || took >= pageWait {
			t.Errorf("the next page: %v, after %v", known, took)
		}
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	now.Add(int64(discoveryAgain / time.Second))
	_ = p.Origins(gone)
	if _, took := names(p); took < pageWait {
		t.Error("who left kept another page from waiting")
	}
	answers <- struct{}{}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if known, _ := names(p); known {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("what came later is not used")
		}
	}
}

// What is encrypted at one end is at the other: an issuer's metadata cannot have Keyturn send secrets, or a browser a code, in the clear;
// nor to what is more than an endpoint (RFC 6749 section 3.1).
func TestEndpointsInTheClearAreNotCalled(t *testing.T) {
	t.Parallel()
	const issuer = "https://id.example"
	for _, c := range []struct {
		at, issuer string
		fits       bool
	}{
		{"https://id.example/x", issuer, true}, {"http://id.example/x", issuer, false},
		{"https://id.example/x", "http://id.example", true}, {"http://id.example/x", "http://id.example", true},
		{"https://id.example/x#f", issuer, false}, {"https://id.example/x#", issuer, false},
	} {
		m := metadata{AuthorizationURL: c.at, TokenURL: c.at, JWKSURL: c.at}
		if err := m.check(c.issuer); (err == nil) != c.fits {
			t.Errorf("endpoints like %s of %s: %v", c.at, c.issuer, err)
		}
		m = metadata{AuthorizationURL: issuer, TokenURL: issuer, JWKSURL: issuer, UserInfoURL: c.at, RevocationURL: c.at}
		if err := m.check(c.issuer); err != nil || (m.UserInfoURL != "") != c.fits || (m.RevocationURL != "") != c.fits {
			t.Errorf("what can be done without, at %s of %s: %q, %v", c.at, c.issuer, m.UserInfoURL, err)
		}
	}
}
