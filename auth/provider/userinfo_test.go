package provider_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
)

// Claims are shown and handed out: what is in them of tokens, in whatever depth, is no claim. A session is the id token's to name.
func TestClaimsAreAboutThePersonOnly(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	idp.UserInfo = func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"sub": "alice", "sid": "theirs", "access_token": token, "deep": map[string]any{"token": token, "kept": ""},
			"list": []any{token, "kept", []any{token, map[string]any{"token": token}}}, "of " + token: "kept",
			"picture": "https://cdn.example/a.png?access_token=" + token, "nickname": "Bearer " + token,
		})
	}
	done, err := signIn(t, newOIDC(t, idp, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	claims := done.Identity.Claims
	told, err := json.Marshal(map[string]any{"deep": claims["deep"], "list": claims["list"]})
	if err != nil || string(told) != `{"deep":{"kept":""},"list":[null,"kept",[null,{}]]}` || claims["sid"] != nil {
		t.Errorf("%s of %v, %v", told, claims, err)
	}
	if all, err := json.Marshal(done.Identity); err != nil || strings.Contains(string(all), done.Answer.Access.Reveal()) ||
		done.Identity.Email == "" {
		t.Errorf("the access token is among them: %s, %v", all, err)
	}
}

// OpenID Connect Core 5.3.2. What is wrong with a signed answer costs its claims, and not the sign-in.
func TestSignedUserInfoIsForUs(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	for name, c := range map[string]struct {
		claims map[string]any
		used   bool
	}{
		"neither iss nor aud":            {map[string]any{}, true},
		"ours":                           {map[string]any{"iss": idp.URL, "aud": scripted.ClientID, "exp": ago(-time.Minute)}, true},
		"for others as well":             {map[string]any{"aud": []string{"other", scripted.ClientID}}, true},
		"expired by a clock that is off": {map[string]any{"exp": ago(time.Minute)}, true},
		"expired":                        {map[string]any{"exp": ago(time.Hour)}, false},
		"exp is a word":                  {map[string]any{"exp": "soon"}, false},
		"another issuer":                 {map[string]any{"iss": "https://evil.example"}, false},
		"an empty issuer":                {map[string]any{"iss": ""}, false},
		"another client":                 {map[string]any{"aud": "other"}, false},
		"other clients":                  {map[string]any{"aud": []string{"other", "third"}}, false},
		"no client":                      {map[string]any{"aud": nil}, false},
	} {
		c.claims["sub"], c.claims["locale"] = "alice", "de"
		signed := idp.Sign(c.claims)
		idp.Change(func() {
			idp.UserInfo = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/jwt; charset=utf-8")
				_, _ = w.Write([]byte(signed))
			}
		})
		done, err := signIn(t, newOIDC(t, idp, nil), nil)
		if used := done.Identity.Claims["locale"] == "de"; err != nil || done.Identity.Name != "Alice" || used != c.used {
			t.Errorf("%s: its claims are used: %v, %v", name, used, err)
		}
	}
}

// A token may stand where an answer is cut, too.
func TestNoPartOfATokenIsInWhatIsShownOfUserInfo(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	p := newOIDC(t, idp, nil)
	const token = "0123456789/abcdefghijklmnop"
	for _, before := range []int{0, 64<<10 - 20} {
		idp.Change(func() {
			idp.UserInfo = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/plain; of="+token)
				w.Header().Set("WWW-Authenticate", "Bearer of="+token)
				_, _ = w.Write([]byte(strings.Repeat(" ", before) + token))
			}
		})
		shown, err := p.UserInfo(t.Context(), auth.TokenSet{Access: token})
		if all := shown.Body + shown.Type + shown.Challenge; err != nil || strings.Contains(all, token[:4]) || shown.Cut != (before > 0) {
			t.Errorf("after %d bytes: %q, %v", before, strings.TrimSpace(all), err)
		}
	}
}

// What a refusal says of a person is no claim.
func TestWhatUserInfoSaysWithAnErrorIsNotUsed(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusForbidden, http.StatusInternalServerError} {
		idp := scripted.New(t)
		claims(func(c map[string]any) { delete(c, "name") })(idp)
		idp.UserInfo = func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"sub":"alice","name":"Mallory"}`))
		}
		done, err := signIn(t, newOIDC(t, idp, nil), nil)
		if err != nil || done.Identity.Subject != "alice" || done.Identity.Name != "" || done.Identity.Claims["name"] != nil {
			t.Errorf("with status %d: %+v, %v", status, done.Identity, err)
		}
	}
}
