package main

import (
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"keyturn/auth/provider/scripted"
)

// mostHeader is what an answer's headers may hold in all, in bytes: nginx takes 4096 unless it is told to take more.
const mostHeader = 3500

// goesOn says where an answer sends a browser, by a header or by the page.
func (a answer) goesOn(t *testing.T) string {
	t.Helper()
	size := 0
	for name, values := range a.header {
		for _, value := range values {
			size += len(name + ": " + value + "\r\n")
		}
	}
	if size > mostHeader {
		t.Errorf("%d bytes of headers", size)
	}
	if refresh := regexp.MustCompile(`<meta http-equiv="refresh" content="0; url=([^"]*)"`).FindStringSubmatch(a.body); refresh != nil {
		return html.UnescapeString(refresh[1])
	}
	if location := a.header.Get("Location"); location != "" {
		return location
	}
	return a.header.Get("HX-Redirect")
}

func TestASignOutFitsThroughAProxyWithAnyIDToken(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, func(made *scripted.Provider) {
		made.Document = func(document map[string]any) { document["end_session_endpoint"] = made.URL + "/end" }
	})
	for _, size := range []int{0, 500, 1500, 2000, 2500, 3000, 5000} {
		idp.Change(func() {
			idp.Claims = func(claims map[string]any, _ bool) { claims["pad"] = strings.Repeat("p", size) }
		})
		for name, headers := range map[string][]string{
			"a browser":        {"Sec-Fetch-Mode", "navigate"},
			"an older browser": nil,
			"htmx":             {"HX-Request", "true"},
		} {
			alice := p.person()
			alice.do(t, "GET", "/auth/oidc", nil)
			a := alice.staying().do(t, "POST", "/auth/signout", url.Values{}, headers...)
			to, err := url.Parse(a.goesOn(t))
			if err != nil || to.Path != "/end" || to.Query().Get("state") == "" {
				t.Errorf("%s with %d bytes more is sent to %v: %v", name, size, to, err)
			} else if hint := to.Query().Has("id_token_hint"); hint != (size < 3000 && (name != "htmx" || size < 1500)) {
				t.Errorf("%s with %d bytes more: a hint is %v", name, size, hint)
			}
		}
	}
}

// What strangers send goes back to them, and must not make a proxy take the program for broken.
func TestWhatALongRequestIsSentOnToFitsThroughAProxy(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	long := "/dashboard?x=" + strings.Repeat("/", 2000)
	stranger := p.person().staying()
	begun := stranger.do(t, "GET", "/auth/initiate?"+url.Values{"iss": {idp.URL}, "target_link_uri": {long}}.Encode(), nil).goesOn(t)
	way := url.Values{"return_to": {long}}
	if begun != "/auth/oidc?"+way.Encode() {
		t.Errorf("an initiated sign-in goes on to %q", begun)
	}
	code := strings.Repeat("c", 6000)
	a := stranger.do(t, "POST", "/auth/oidc/callback", url.Values{"state": {"s"}, "code": {code}}, "Sec-Fetch-Site", "cross-site")
	if to := a.goesOn(t); to != fmt.Sprintf("/auth/oidc/callback?code=%s&state=s", code) {
		t.Errorf("an answer by POST goes on to %q: %d", to, a.status)
	}
	if a := p.person().do(t, "GET", begun, nil); a.status != http.StatusOK || a.url.RequestURI() != long {
		t.Errorf("it arrives at %s: %d", a.url, a.status)
	}
}

// proxied takes requests to a site to where it listens, as the proxy in front of it does.
type proxied struct{ site, addr string }

// RoundTrip implements http.RoundTripper.
func (p proxied) RoundTrip(r *http.Request) (*http.Response, error) {
	if r = r.Clone(r.Context()); r.URL.Host == p.site {
		r.Host, r.URL.Scheme, r.URL.Host = p.site, "http", p.addr
	}
	return http.DefaultTransport.RoundTrip(r)
}

func TestCookies(t *testing.T) {
	t.Parallel()
	_, plain := atScripted(t, nil)
	behind, addr := behindProxy(t, "https://keyturn.example.com")
	browsers := map[string]*person{"": plain.person(), "__Host-": behind.person()}
	browsers["__Host-"].Transport, browsers["__Host-"].base = proxied{"keyturn.example.com", addr}, "https://keyturn.example.com"
	for prefix, b := range browsers {
		a := b.do(t, "GET", "/", nil)
		if hsts := a.header.Get("Strict-Transport-Security"); prefix != "" && hsts != "max-age=31536000; includeSubDomains" {
			t.Errorf("over https: HSTS %q", hsts)
		}
		begun := b.staying().do(t, "GET", "/auth/oidc", nil)
		back := b.staying().do(t, "GET", begun.header.Get("Location"), nil).header.Get("Location")
		set := map[string]int{}
		for _, a := range []answer{
			begun, b.staying().do(t, "GET", back, nil), b.staying().do(t, "POST", "/auth/signout", url.Values{}), b.do(t, "GET", "/", nil),
		} {
			for _, c := range (&http.Response{Header: a.header}).Cookies() {
				set[c.Name]++
				if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Secure != (prefix != "") || c.Path != "/" || c.Domain != "" {
					t.Errorf("%s: %v", b.base, c)
				}
			}
		}
		if want := map[string]int{prefix + "keyturn_session": 3, prefix + "keyturn_leaving": 2}; !maps.Equal(set, want) {
			t.Errorf("%s sets %v, want %v", b.base, set, want)
		}
	}
}
