package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// ownAnswers are the brands whose answers are not those of OAuth 2.0, and what else they say, by host and path.
func ownAnswers() map[string]string {
	const oauth1 = "oauth_token=rt&oauth_token_secret=rs&oauth_callback_confirmed=true"
	return map[string]string{
		"steamcommunity.com/openid/login": "ns:http://specs.openid.net/auth/2.0\nis_valid:true\n",
		"api.steampowered.com/ISteamUser/GetPlayerSummaries/v0002/": `{"response":{"players":[{"steamid":"76561197960435530",` +
			`"realname":"Alice Liddell"}]}}`,
		"www.tumblr.com/oauth/request_token": oauth1, "www.tumblr.com/oauth/access_token": oauth1,
		"api.tumblr.com/v2/user/info":         `{"response":{"user":{"name":"Alice Liddell"}}}`,
		"api.twitter.com/oauth/request_token": oauth1, "api.twitter.com/oauth/access_token": oauth1,
		"api.twitter.com/1.1/account/verify_credentials.json": `{"id_str":"2244","name":"Alice Liddell","screen_name":"alice",` +
			`"description":"","profile_image_url":"","location":""}`,
		"api.twitter.com/2/users/me":                 `{"data":{"id":"2244","name":"Alice Liddell","username":"alice","profile_image_url":""}}`,
		"ws.audioscrobbler.com/2.0/?auth.getSession": `<lfm status="ok"><session><name>alice</name><key>a1</key></session></lfm>`,
		"ws.audioscrobbler.com/2.0/?user.getinfo": `<lfm status="ok"><user><name>alice</name><realname>Alice Liddell</realname>` +
			`<image>1</image><image>2</image><image>3</image><image>4</image></user></lfm>`,
		"acme.myshopify.com/admin/oauth/access_token":    `{"access_token":"a1","scope":"read_customers"}`,
		"acme.myshopify.com/admin/api/2019-04/shop.json": `{"shop":{"id":7,"name":"Alice Liddell"}}`,
	}
}

// calledBack is the state in the callback of a request for a request token (RFC 5849 section 2.1), which the answer gives as the token,
// so that the browser has it.
var calledBack = regexp.MustCompile(`oauth_callback="[^"]*state%3D([A-Z0-9]+)"`)

// atOwnAnswers starts a Keyturn that reaches the brands of ownAnswers, all at one server, by the proxy of its environment.
func atOwnAnswers(t *testing.T) *program {
	t.Helper()
	said, hosts := ownAnswers(), map[string]bool{}
	for at := range said {
		host, _, _ := strings.Cut(at, "/")
		hosts[host] = true
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: slices.Collect(maps.Keys(hosts)),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	brands := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := r.Host + r.URL.Path
		if method := r.URL.Query().Get("method"); method != "" {
			at += "?" + method
		}
		body, ok := said[at]
		if !ok {
			t.Errorf("nobody answers at %s", at)
		}
		if found := calledBack.FindStringSubmatch(r.Header.Get("Authorization")); found != nil {
			body = strings.Replace(body, "oauth_token=rt", "oauth_token="+found[1], 1)
		}
		fmt.Fprint(w, body)
	}))
	brands.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	brands.StartTLS()
	t.Cleanup(brands.Close)
	proxied := httptest.NewServer(&tunnels{to: brands.Listener.Addr().String()})
	t.Cleanup(proxied.Close)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	file := tempFile(t, "keyturn.yaml", "providers:\n  - {type: steam, client_secret: hush}\n"+
		"  - {type: shopify, shop: acme, client_id: x, client_secret: hush}\n  - {type: lastfm, client_id: x, client_secret: hush}\n"+
		"  - {type: tumblr, client_id: x, client_secret: hush}\n  - {type: twitter, client_id: x, client_secret: hush}\n"+
		"  - {type: twitterv2, client_id: x, client_secret: hush}\n")
	return startProgram(t, "--config", file, "HTTPS_PROXY="+proxied.URL, "SSL_CERT_FILE="+roots)
}

// steamSays is Steam's assertion of who signed in (OpenID 2.0 section 10.1).
func steamSays(to *url.URL) url.Values {
	return url.Values{
		"openid.ns": {"http://specs.openid.net/auth/2.0"}, "openid.mode": {"id_res"}, "openid.sig": {"s"}, "openid.assoc_handle": {"1"},
		"openid.signed": {"claimed_id,return_to,response_nonce"}, "openid.response_nonce": {"n"},
		"openid.return_to": {to.Query().Get("openid.return_to")}, "openid.claimed_id": {"https://steamcommunity.com/openid/id/76561197960435530"},
	}
}

// shopifySays is Shopify's answer, which it signs whole.
func shopifySays(to *url.URL) url.Values {
	answer := url.Values{
		"code": {"c"}, "state": {stateOf(to)}, "shop": {"acme.myshopify.com"}, "timestamp": {"1700000000"}, "host": {"abc"}, "new": {"1"},
	}
	var said []string
	for _, name := range slices.Sorted(maps.Keys(answer)) {
		said = append(said, name+"="+answer.Get(name))
	}
	mac := hmac.New(sha256.New, []byte("hush"))
	mac.Write([]byte(strings.Join(said, "&")))
	answer.Set("hmac", hex.EncodeToString(mac.Sum(nil)))
	return answer
}

func oauth1Says(to *url.URL) url.Values {
	return url.Values{"oauth_token": {stateOf(to)}, "oauth_verifier": {"v"}}
}

func lastfmSays(*url.URL) url.Values { return url.Values{"token": {"t"}} }

// stateOf is the state that an authorization request carries, in whatever way.
func stateOf(to *url.URL) string {
	query := to.Query()
	if back, err := url.Parse(query.Get("openid.return_to") + query.Get("cb")); err == nil && back.RawQuery != "" {
		query = back.Query()
	}
	return query.Get("state") + query.Get("oauth_token")
}

func TestBrandsThatAnswerInTheirOwnWords(t *testing.T) {
	t.Parallel()
	p := atOwnAnswers(t)
	for brand, c := range map[string]struct {
		says      func(to *url.URL) url.Values
		own       string     // a parameter that only this brand's answer has
		cancelled url.Values // what it says of somebody who did not want to; nil: nothing of its own
	}{
		"steam":     {steamSays, "openid.sig", url.Values{"openid.mode": {"cancel"}}},
		"shopify":   {shopifySays, "shop", nil},
		"lastfm":    {lastfmSays, "token", nil},
		"tumblr":    {oauth1Says, "oauth_verifier", url.Values{"denied": {"rt"}}},
		"twitter":   {oauth1Says, "oauth_verifier", url.Values{"denied": {"rt"}}},
		"twitterv2": {oauth1Says, "oauth_verifier", url.Values{"denied": {"rt"}}},
	} {
		t.Run(brand, func(t *testing.T) {
			t.Parallel()
			alice, back := p.person(), "/auth/"+brand+"/callback"
			begin := func() (to *url.URL, state url.Values) {
				to = parsedURL(t, alice.staying().do(t, "GET", "/auth/"+brand, nil).header.Get("Location"))
				return to, url.Values{"state": {stateOf(to)}}
			}
			signsIn := func(way string, a answer) {
				t.Helper()
				if a.url.Path != "/dashboard" || !strings.Contains(a.body, "Alice Liddell") {
					t.Errorf("%s the sign-in ends at %s: %d %.2000s", way, a.url.Path, a.status, p.log)
				}
			}
			to, answer := begin()
			maps.Copy(answer, c.says(to))
			twice := alice.do(t, "GET", back+"?"+answer.Encode()+"&"+c.own+"=x", nil)
			if twice.status != http.StatusBadRequest || !strings.Contains(twice.body, c.own+" twice") {
				t.Errorf("%s twice: %d %s", c.own, twice.status, twice.body)
			}
			tooMuch := url.Values{"state": answer["state"], c.own: {strings.Repeat("x", 20<<10)}}
			long := alice.do(t, "GET", back+"?"+tooMuch.Encode(), nil)
			if long.status != http.StatusBadRequest || !strings.Contains(long.body, "too long") {
				t.Errorf("a long %s: %d %s", c.own, long.status, long.body)
			}
			// A cross-site POST comes without the session, and is sent to the same place with all that it said.
			posted := p.person().staying().do(t, "POST", back, answer, "Sec-Fetch-Site", "cross-site")
			signsIn("by form_post", alice.do(t, "GET", posted.header.Get("Location"), nil))
			to, answer = begin()
			maps.Copy(answer, c.says(to))
			signsIn("by query", alice.do(t, "GET", back+"?once_more=1&once_more=1&"+answer.Encode(), nil))
			if c.cancelled == nil {
				return
			}
			_, answer = begin()
			maps.Copy(answer, c.cancelled)
			alice.do(t, "GET", back+"?"+answer.Encode(), nil)
			eventually(t, "the log tells that it was cancelled", func() bool {
				return strings.Contains(p.log.String(), "provider="+brand+" code=access_denied")
			})
		})
	}
}

// Where a provider gives no token none is handed out, and none is shown.
func TestABrandWithoutTokens(t *testing.T) {
	t.Parallel()
	p := atOwnAnswers(t)
	alice := p.person()
	to := parsedURL(t, alice.staying().do(t, "GET", "/auth/steam", nil).header.Get("Location"))
	answer := steamSays(to)
	answer.Set("state", stateOf(to))
	page := alice.do(t, "GET", "/auth/steam/callback?"+answer.Encode(), nil).body
	if !strings.Contains(page, "Alice Liddell") || !strings.Contains(page, "Steam signs people in and gives no access token") ||
		strings.Contains(page, "Access token\n") || strings.Contains(page, `class="result bad"`) || !strings.Contains(page, `<h2 id="token-title">Sign-in</h2>`) {
		t.Errorf("the dashboard: %s", page)
	}
	for _, route := range []string{"/api/renew-token", "/api/trigger-renew-token", "/api/trigger-renew-token?query=update-token-data"} {
		a := alice.do(t, "POST", route, nil)
		if failed, _ := a.json(t)["error"].(map[string]any); a.status != http.StatusNotFound || failed["code"] != "no_token" || strings.Contains(a.body, "access_token") {
			t.Errorf("%s: %d %s", route, a.status, a.body)
		}
	}
	if failed, _ := alice.token(t)["error"].(map[string]any); failed["code"] != "no_token" {
		t.Errorf("/api/session: %v", failed)
	}
	if a := alice.do(t, "GET", "/dashboard/tokens/access", nil); !strings.Contains(a.body, "The provider gave no access token.") || strings.Contains(a.body, "/reveal") {
		t.Errorf("the inspector: %d %s", a.status, a.body)
	}
	if a := alice.do(t, "POST", "/dashboard/tokens/access/reveal", nil, "Accept", "text/plain"); a.status != http.StatusNotFound {
		t.Errorf("revealed: %d %s", a.status, a.body)
	}
}

// What another provider's answer would say is dropped.
func TestOwnWordsAreTheBrandsOnly(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	alice := p.person()
	const others = "&denied=1&openid.mode=cancel&shop=x&shop=y&token=t"
	if a := alice.do(t, "GET", callback(t, alice, "/auth/oidc")+others, nil); a.url.Path != "/dashboard" {
		t.Errorf("the sign-in ends at %s: %d", a.url.Path, a.status)
	}
	posted := p.person().staying().do(t, "POST", "/auth/oidc/callback", url.Values{"code": {"c"}, "state": {"s"}, "shop": {"x"}, "token": {"t"}})
	if to := posted.header.Get("Location"); to != "/auth/oidc/callback?code=c&state=s" {
		t.Errorf("a form_post is sent on to %s", to)
	}
}
