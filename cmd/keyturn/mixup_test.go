package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"keyturn/auth/provider/scripted"
)

// atTwo starts a Keyturn that knows two providers, "a" and "b".
func atTwo(t *testing.T) (a, b *scripted.Provider, p *program) {
	t.Helper()
	a, b = scripted.New(t), scripted.New(t)
	var yaml strings.Builder
	yaml.WriteString("providers:\n")
	for name, idp := range map[string]*scripted.Provider{"a": a, "b": b} {
		fmt.Fprintf(&yaml, "  - {name: %s, issuer: %q, client_id: %s, client_secret: %q}\n", name, idp.URL, scripted.ClientID, scripted.ClientSecret)
	}
	config := filepath.Join(t.TempDir(), "keyturn.yaml")
	if err := os.WriteFile(config, []byte(yaml.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return a, b, startProgram(t, "--config="+config)
}

// RFC 9700 section 4.4: an answer that was begun at one provider does not reach the other, and its state is spent.
func TestAnAnswerCrossedBetweenTwoProviders(t *testing.T) {
	t.Parallel()
	a, b, p := atTwo(t)
	alice := p.person()
	back := callback(t, alice, "/auth/a")
	crossed := strings.Replace(back, "/auth/a/callback", "/auth/b/callback", 1)
	for _, target := range []string{crossed, back} {
		if got := alice.do(t, "GET", target, nil); got.status != http.StatusBadRequest {
			t.Errorf("%s: %d", target, got.status)
		}
	}
	if a.Calls("/token")+b.Calls("/token") != 0 || alice.do(t, "GET", "/api/session", nil).status != 401 {
		t.Error("the code was presented")
	}
}

func TestAnAnswerPresentsItsCodeOnce(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	alice := p.person()
	back := callback(t, alice, "/auth/oidc")
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() { _, _ = alice.staying().try(t.Context(), "GET", back, nil) })
	}
	all.Wait()
	if calls := idp.Calls("/token"); calls != 1 {
		t.Errorf("%d calls of the token endpoint", calls)
	}
	again := alice.do(t, "GET", back, nil)
	if again.status != http.StatusBadRequest || idp.Calls("/token") != 1 || alice.generation(t) != 1 || len(idp.Revoked()) != 0 {
		t.Errorf("replayed: %d, %d token calls, %d revoked", again.status, idp.Calls("/token"), len(idp.Revoked()))
	}
}

// None of these presents a code, nobody is signed in by them, and who is signed in stays so.
func TestAnswersThatAreNoSignIn(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	signedIn := p.person()
	signedIn.do(t, "GET", "/auth/oidc", nil)
	before := idp.Calls("/token")
	for name, edit := range map[string]func(q url.Values){
		"an error":                   func(q url.Values) { q.Del("code"); q.Set("error", "access_denied") },
		"both a code and an error":   func(q url.Values) { q.Set("error", "server_error") },
		"a code twice":               func(q url.Values) { q.Add("code", "other") },
		"a state twice":              func(q url.Values) { q.Add("state", q.Get("state")) },
		"an iss twice":               func(q url.Values) { q["iss"] = []string{idp.URL, idp.URL} },
		"another iss":                func(q url.Values) { q.Set("iss", "https://evil.example") },
		"no state":                   func(q url.Values) { q.Del("state") },
		"no code":                    func(q url.Values) { q.Del("code") },
		"an access token":            func(q url.Values) { q.Set("access_token", "theirs") },
		"an id token":                func(q url.Values) { q.Set("id_token", "e30.e30.") },
		"its parts in a fragment":    func(q url.Values) { clear(q) }, // which a browser keeps to itself
		"a code of 20 KB":            func(q url.Values) { q.Set("code", strings.Repeat("c", 20<<10)) },
		"a code of 64 KB":            func(q url.Values) { q.Set("code", strings.Repeat("c", 64<<10)) },
		"a verifier of its own only": func(q url.Values) { q.Del("code"); q.Set("code_verifier", strings.Repeat("v", 43)) },
	} {
		for _, method := range []string{"GET", "POST"} {
			for who, b := range map[string]*person{"a newcomer": p.person(), "who is signed in": signedIn} {
				q := parsedURL(t, callback(t, b, "/auth/oidc")).Query()
				edit(q)
				path, form := "/auth/oidc/callback?"+q.Encode(), url.Values(nil)
				if method == "POST" {
					path, form = "/auth/oidc/callback", q
				}
				if a := b.do(t, method, path, form); a.status/100 != 4 && a.status != http.StatusBadGateway || a.status == 404 {
					t.Errorf("%s, by %s of %s: %d %s", name, method, who, a.status, a.body)
				}
			}
		}
	}
	if calls := idp.Calls("/token") - before; calls != 0 {
		t.Errorf("%d codes were presented", calls)
	}
	if signedIn.generation(t) != 1 {
		t.Error("who was signed in is not any more")
	}
}

// oidcc-client-test-form-post-error, and the answer itself by form_post: the cross-site POST comes without the cookie.
func TestFormPostOfAnError(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	alice := p.person()
	q := parsedURL(t, callback(t, alice, "/auth/oidc")).Query()
	form := url.Values{"state": q["state"], "error": {"login_required"}, "error_description": {"not <b>seen</b>"}}
	bounced := p.person().staying().do(t, "POST", "/auth/oidc/callback", form, "Origin", "https://id.example", "Sec-Fetch-Site", "cross-site")
	page := alice.do(t, "GET", bounced.header.Get("Location"), nil)
	if bounced.status != http.StatusSeeOther || page.status != http.StatusBadRequest || !strings.Contains(page.body, "wants to see you first") || strings.Contains(page.body, "<b>seen") {
		t.Errorf("%d, then %d %s", bounced.status, page.status, page.body)
	}
	if idp.Calls("/token") != 0 {
		t.Error("the code was presented")
	}
}

// A provider that says it cannot do S256, or does not say so, is asked with it all the same (RFC 9700 section 2.1.1).
func TestPKCEIsNotGivenUp(t *testing.T) {
	t.Parallel()
	for _, methods := range [][]string{{"plain"}, {}} {
		_, p := atScripted(t, func(idp *scripted.Provider) {
			idp.Document = func(d map[string]any) { d["code_challenge_methods_supported"] = methods }
			idp.Authorization = func(_, request url.Values) {
				if request.Get("code_challenge_method") != "S256" || len(request.Get("code_challenge")) != 43 {
					t.Errorf("asked with %v", request)
				}
			}
		})
		if a := p.person().do(t, "GET", "/auth/oidc", nil); a.url.Path != "/dashboard" {
			t.Errorf("the sign-in ends at %s", a.url)
		}
	}
}

func TestForeignWordsAreShortPlainText(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	for _, code := range []string{"access_denied", "server_error", "login_required", "<script>alert(1)</script>", strings.Repeat("e", 5000)} {
		alice := p.person()
		q := parsedURL(t, callback(t, alice, "/auth/oidc")).Query()
		a := alice.do(t, "GET", "/auth/oidc/callback?"+url.Values{
			"state": q["state"], "error": {code}, "error_description": {"<script>alert(1)</script>\u202egnp.exe 🦊\r\n" + strings.Repeat("long ", 2000)},
		}.Encode(), nil)
		if a.status < 400 || strings.Contains(a.body, "<script>alert") || strings.Contains(a.body, "\u202e") || strings.Count(a.body, "long ") > 50 || strings.Contains(a.body, strings.Repeat("e", 100)) {
			t.Errorf("%.20s: %d %s", code, a.status, a.body)
		}
	}
	if strings.Count(p.log.String(), "long ") > 300 {
		t.Error("the log holds it whole")
	}
}
