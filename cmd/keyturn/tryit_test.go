package main

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"keyturn/auth/provider/scripted"
)

func TestTryItShowsTheAnswerAsItIs(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	try := func() string {
		t.Helper()
		return alice.do(t, "POST", "/dashboard/userinfo", nil, "HX-Request", "true").body
	}
	if said := try(); !strings.Contains(said, "200 OK") || !strings.Contains(said, "&#34;locale&#34;: &#34;en&#34;") || !strings.Contains(said, idp.URL+"/userinfo") {
		t.Error(said)
	}
	idp.Change(func() {
		idp.UserInfo = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", `DPoP algs="ES256", Bearer realm="x", error="insufficient_scope", scope="profile", error_description="Not \"enough\" <b>"`)
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte("token was " + r.Header.Get("Authorization")))
		}
	})
	said := try()
	for _, text := range []string{"403 Forbidden", "does not allow this", "asks for the scope profile", "Not &#34;enough&#34; &lt;b&gt;", "WWW-Authenticate:", "[redacted]"} {
		if !strings.Contains(said, text) {
			t.Errorf("no %q in %s", text, said)
		}
	}
	idp.Change(func() {
		idp.UserInfo = func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, map[string]any{"locale": "en"}) }
	})
	if said := try(); !strings.Contains(said, "names no sub, as it must") || !strings.Contains(said, "&#34;locale&#34;") {
		t.Errorf("nobody's: %s", said)
	}
	mallory := `{"sub":"mallory","email":"mallory@example.com"}`
	for form, body := range map[string]string{"plain": mallory, "signed": base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(mallory)) + ".AAAA"} {
		idp.Change(func() { idp.UserInfo = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) } })
		said = try()
		if strings.Contains(said, "No answer") || strings.Contains(said, body[:20]) {
			t.Errorf("somebody else's, %s: %s", form, said)
		}
		for _, text := range []string{">Not shown<", "The provider&#39;s matter.", "about somebody else", ">in ", idp.URL + "/userinfo"} {
			if !strings.Contains(said, text) {
				t.Errorf("somebody else's, %s: no %q in %s", form, text, said)
			}
		}
	}
}

// A button that can only say that it cannot work is not there. Whether it can may not be known: then nobody waits for that.
func TestTryItIsOfferedUnlessThereIsNoEndpoint(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Document = func(document map[string]any) { delete(document, "userinfo_endpoint") }
	})
	alice := p.person()
	const none, button = "has no userinfo endpoint to try", `id="call-userinfo"`
	if page := alice.do(t, "GET", "/auth/oidc", nil).body; !strings.Contains(page, none) || strings.Contains(page, button) {
		t.Errorf("it is known that there is none: %s", page)
	}
	p.kill(t)
	idp.Close()
	p.again(t)
	if page := alice.do(t, "GET", "/dashboard", nil).body; strings.Contains(page, none) || !strings.Contains(page, button) {
		t.Errorf("it is not known: %s", page)
	}
}

// A dead token goes nowhere.
func TestTryItSendsNoTokenThatHasExpired(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Lifetime = time.Second
		idp.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
	})
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	eventually(t, "the token has expired", func() bool { return alice.token(t)["state"] == "expired" })
	before := idp.Calls("/userinfo")
	said := alice.do(t, "POST", "/dashboard/userinfo", nil, "HX-Request", "true").body
	if calls := idp.Calls("/userinfo") - before; calls != 0 || !strings.Contains(said, "has expired and could not be renewed") {
		t.Errorf("%d calls of userinfo: %s", calls, said)
	}
}

func TestTryItSaysWhyThereIsNoAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		want   []string
	}{
		"it hangs": {func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(15 * time.Second):
			}
		}, []string{"does not answer in time", ">after 10 s<"}},
		"it breaks off": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, []string{"closed the connection before its answer was whole", ">after "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idp, p := atScripted(t, nil)
			alice := p.person()
			alice.do(t, "GET", "/auth/oidc", nil)
			idp.Change(func() { idp.UserInfo = c.answer })
			said := alice.do(t, "POST", "/dashboard/userinfo", nil, "HX-Request", "true").body
			for _, text := range append(c.want, ">No answer<", "The provider&#39;s matter.", idp.URL+"/userinfo") {
				if !strings.Contains(said, text) {
					t.Errorf("no %q in %s", text, said)
				}
			}
		})
	}
	t.Run("the rest of it hangs", func(t *testing.T) {
		t.Parallel()
		idp, p := atScripted(t, nil)
		alice := p.person()
		alice.do(t, "GET", "/auth/oidc", nil)
		idp.Change(func() {
			idp.UserInfo = func(w http.ResponseWriter, r *http.Request) {
				_, _ = w.Write([]byte(`{"sub": "al`))
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}
		})
		if said := alice.do(t, "POST", "/dashboard/userinfo", nil, "HX-Request", "true").body; !strings.Contains(said, "after 11 bytes, did not come in time") {
			t.Error(said)
		}
	})
	t.Run("it cannot be reached", func(t *testing.T) {
		t.Parallel()
		idp, p := atScripted(t, nil)
		alice := p.person()
		alice.do(t, "GET", "/auth/oidc", nil)
		idp.Close()
		if said := alice.do(t, "POST", "/dashboard/userinfo", nil, "HX-Request", "true").body; !strings.Contains(said, "cannot be reached.") {
			t.Error(said)
		}
	})
}

// A long answer is shown as far as it goes, and can be read; those who do not see it are told that it is there, and not all that it says.
func TestTryItShowsALongAnswer(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	b := openTab(t, look{})
	b.atScripted(t, p)
	idp.Change(func() {
		idp.UserInfo = func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, map[string]any{"sub": "alice", "empty": map[string]any{}, "text": `a, "b": {c}`, "zz": strings.Repeat("z", 70<<10)})
		}
	})
	b.do(t, click(`#call-userinfo`), visible(`#try-it-answer pre`))
	b.becomes(t, "what is announced is short", `/^200 OK in \S+ m?s, more than 64 KB$/.test(document.getElementById("announce").textContent) && !document.querySelector("#try-it [aria-live]")`)
	body := b.text(t, `#try-it-answer pre`)
	if want := "{\n  \"empty\": {},\n  \"sub\": \"alice\",\n  \"text\": \"a, \\\"b\\\": {c}\",\n  \"zz\": \"zzz"; !strings.HasPrefix(body, want) {
		t.Errorf("it begins with %.200q", body)
	}
	if hint := b.text(t, `#try-it-answer .hint`); !strings.Contains(hint, "Cut here, after 64 KB") {
		t.Errorf("it says %q", hint)
	}
}
