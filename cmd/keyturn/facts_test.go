package main

import (
	"strings"
	"testing"
	"time"
)

// Whoever leaves a page alone is signed out by the idle limit, long before the session's end.
func TestTheDashboardSaysWhenASessionEnds(t *testing.T) {
	t.Parallel()
	const or = `<small class="none">or after `
	for want, args := range map[string][]string{
		"</time>" + or + "8 h unused<":   nil,
		"</time>" + or + "1 min unused<": {"--session-idle=1m"},
		"</time></dd></dl>":               {"--session-idle=2h", "--session-lifetime=2h"},
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
	if shown := page("", "ann@work.example"); strings.Contains(shown, "<dt>Email</dt>") {
		t.Errorf("it is said twice: %s", shown)
	}
}
