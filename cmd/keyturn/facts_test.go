package main

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"keyturn/auth/provider/scripted"
)

// Whoever leaves a page alone is signed out by the idle limit, long before the session's end.
func TestTheDashboardSaysWhenASessionEnds(t *testing.T) {
	t.Parallel()
	const or = `<small class="none">or after `
	for want, args := range map[string][]string{
		"</time>" + or + "8 h unused<":   nil,
		"</time>" + or + "1 min unused<": {"--session-idle=1m"},
		"</time></dd></dl>":              {"--session-idle=2h", "--session-lifetime=2h"},
	} {
		_, p := atScripted(t, nil, args...)
		if a := p.person().do(t, "GET", "/auth/oidc", nil); !strings.Contains(a.body, want) {
			t.Errorf("with %v: no %q in %s", args, want, a.body)
		}
	}
}

// An expiry that no provider has told of is not shown as a fact.
func TestTheCardSaysWhatItsExpiryIsOf(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	const assumed, capped = "assumed: the provider does not say", "24 h at most: its own exp is later"
	for name, c := range map[string]struct {
		says    bool          // the answer says for how long
		expires time.Duration // of a JWT; 0: the token is opaque
		want    string
	}{
		"nothing says":               {false, 0, assumed},
		"the token says":             {false, time.Hour, ""},
		"the answer says":            {true, 0, ""},
		"a month, says the token":    {false, 30 * 24 * time.Hour, capped},
		"an hour, and the token too": {true, time.Hour, ""},
	} {
		idp.Change(func() {
			idp.Access = nil
			if c.expires > 0 {
				idp.Access = func() string {
					return idp.Sign(map[string]any{"exp": time.Now().Add(c.expires).Unix(), "name": name})
				}
			}
			idp.Tokens = func(tokens map[string]any, _ bool) {
				if !c.says {
					delete(tokens, "expires_in")
				}
			}
		})
		page := p.person().do(t, "GET", "/auth/oidc", nil).body
		if !strings.Contains(page, `id="token-card"`) {
			t.Fatalf("%s: %s", name, page)
		}
		for _, note := range []string{assumed, capped} {
			if strings.Contains(page, note) != (note == c.want) {
				t.Errorf("%s: %q is said: %v", name, note, note != c.want)
			}
		}
	}
}

// Two accounts of one name are told apart, also by whoever signs one of them out.
func TestTheDashboardSaysWhoseItIs(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	page := func(name, email string) string {
		idp.Change(func() { idp.Claims = func(c map[string]any, _ bool) { c["name"], c["email"] = name, email } })
		return p.person().do(t, "GET", "/auth/oidc", nil).body
	}
	for _, email := range []string{"ann@work.example", "ann@home.example"} {
		shown := page("Ann Fake", email)
		for _, want := range []string{"<bdi>" + email + "</bdi>", `class="quiet" title="Ann Fake, ` + email + `">Sign out`} {
			if !strings.Contains(shown, want) {
				t.Errorf("no %q in %s", want, shown)
			}
		}
	}
	if shown := page("Ada\u202eevil", "a\u2066b@work.example"); !strings.Contains(shown, ">Adaevil</bdi>") || !strings.Contains(shown, "<bdi>ab@work.example</bdi>") {
		t.Errorf("it is turned around: %s", shown)
	}
	if shown := page("", "ann@work.example"); strings.Contains(shown, "<dt>Email</dt>") {
		t.Errorf("it is said twice: %s", shown)
	}
}

// Whoever signs sessions out with the keyboard goes on with the next one, and hears which of them each button ends.
func TestTheNextSessionInheritsTheFocus(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	for range 8 {
		p.person().do(t, "GET", "/auth/oidc", nil, "User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0")
	}
	b := openTab(t, look{})
	b.atScripted(t, p)
	b.becomes(t, "there are nine sessions", `document.querySelectorAll(".sessions li").length === 9`)
	b.becomes(t, "each button has what it ends in its name", `[...document.querySelectorAll(".sessions button")].every((button) => {
		const name = button.getAttribute("aria-labelledby").split(" ").map((id) => document.getElementById(id)).map((e) => e.getAttribute("aria-label") ?? e.textContent).join(" ");
		return /^Sign out Firefox 120 on Linux signed in today \d\d:\d\d:\d\d$/.test(name.replace(/\s+/g, " ").trim());
	})`)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`document.querySelector(".more-sessions").open = true; window.ids = [...document.querySelectorAll(".sessions button")].map((button) => button.id)`))
	for _, c := range []struct{ out, next int }{{3, 4}, {4, 5}, {7, 6}} {
		ask(t, b, chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`document.getElementById(ids[%d]).focus()`, c.out)))
		b.press(t)
		b.becomes(t, "another one has the focus", fmt.Sprintf(`!document.getElementById(ids[%d]) && document.activeElement.id === ids[%d]`, c.out, c.next))
	}
}

// On demand nothing is tried again before somebody asks, but where a gateway leaves it open what the provider has done.
func TestOnDemandNoTryIsPromisedThatWaitsForARequest(t *testing.T) {
	t.Parallel()
	for status, promise := range map[int]string{
		http.StatusServiceUnavailable: "Keyturn tries again at the first request from <time",
		http.StatusBadGateway:         "Keyturn tries again <time",
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			idp, p := atScripted(t, func(idp *scripted.Provider) { idp.Lifetime = 10 * time.Second }, "--renew-mode=on-demand")
			alice := p.person()
			alice.do(t, "GET", "/auth/oidc", nil)
			idp.Change(func() {
				idp.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
					w.Header().Set("Retry-After", "115")
					w.WriteHeader(status)
					return true
				}
			})
			if a := alice.do(t, "POST", "/api/trigger-renew-token?query=update-token-data", nil, "HX-Request", "true"); !strings.Contains(a.body, promise) {
				t.Errorf("%d %s", a.status, a.body)
			}
			if page := strings.Join(strings.Fields(alice.do(t, "GET", "/dashboard", nil).body), " "); !strings.Contains(page, promise) {
				t.Errorf("%s", page)
			}
			if why, _ := alice.token(t)["error"].(map[string]any); why["next_try_at"] == nil {
				t.Errorf("%v", why)
			}
		})
	}
}

func TestWordsOfWaysBackAndOfWaits(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, func(idp *scripted.Provider) { idp.Lifetime = 10 * time.Second })
	alice := p.person()
	if a := alice.do(t, "GET", "/auth/signout", nil, "Accept", "text/html"); a.status != http.StatusMethodNotAllowed || strings.Contains(a.body, "header") || !strings.Contains(a.body, "Go back to the start page") {
		t.Errorf("%d %s", a.status, a.body)
	}
	alice.do(t, "GET", "/auth/oidc", nil)
	idp.Change(func() {
		idp.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
			w.Header().Set("Retry-After", "115")
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
	})
	if a := alice.do(t, "POST", "/api/trigger-renew-token?query=update-token-data", nil, "HX-Request", "true"); !regexp.MustCompile(`Keyturn tries again <time [^>]+>in 1 min 5\d s</time>\.`).MatchString(a.body) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// A form that asks for a renewal only if one is due hides no failure that stands.
func TestAFormThatFindsNothingToDoShowsWhatStands(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	idp.Change(func() {
		idp.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
			w.WriteHeader(503)
			return true
		}
	})
	const path = "/api/trigger-renew-token"
	alice.do(t, "POST", path+"?query=update-token-data", url.Values{}, "Accept", "text/html")
	if a := alice.do(t, "POST", path, url.Values{}, "Accept", "text/html"); !strings.Contains(a.body, "Not renewed.") || strings.Contains(a.body, "No renewal was needed") {
		t.Errorf("%s", a.body)
	}
}
