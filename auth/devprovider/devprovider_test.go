package devprovider

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth"
)

func TestSigningIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	tokens := w.signIn()
	id := claims(t, tokens["id_token"])
	if tokens["expires_in"] != 120.0 || id["sub"] != "alice" || id["nonce"] != "n" || id["at_hash"] == nil || id["name"] != "Alice Liddell" || id["iss"] != w.config.Issuer {
		t.Errorf("%v, %v", tokens["expires_in"], id)
	}
	if status := w.userinfo(tokens["access_token"]); status != 200 {
		t.Errorf("userinfo: %d", status)
	}
	if status := w.userinfo("nonsense"); status != http.StatusUnauthorized {
		t.Errorf("userinfo with nonsense: %d", status)
	}
}

func TestACodeWorksOnceAndWithItsVerifier(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	code := w.code()
	status, tokens := w.token(exchange(code))
	if status != 200 {
		t.Fatal(status)
	}
	other := w.signIn()
	if status, answer := w.token(exchange(code)); status != 400 || answer["error"] != "invalid_grant" {
		t.Errorf("used again: %d %v", status, answer)
	}
	w.refused(tokens["refresh_token"])
	if w.userinfo(tokens["access_token"]) != http.StatusUnauthorized || w.userinfo(other["access_token"]) != 200 {
		t.Error("a code that is used again does not end what it brought, or more")
	}
	wrong := exchange(w.code())
	wrong.Set("code_verifier", strings.Repeat("x", 50))
	if status, _ := w.token(wrong); status != 400 {
		t.Errorf("with a wrong verifier: %d", status)
	}
}

func TestAuthorizationRequestsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	for name, c := range map[string]struct {
		edit func(url.Values)
		code string
	}{
		"no PKCE":     {func(q url.Values) { q.Del("code_challenge"); q.Del("code_challenge_method") }, "invalid_request"},
		"plain PKCE":  {func(q url.Values) { q.Set("code_challenge_method", "plain") }, "invalid_request"},
		"prompt=none": {func(q url.Values) { q.Set("prompt", "none") }, "login_required"},
		"short PKCE":  {func(q url.Values) { q.Set("code_challenge", strings.Repeat("x", 42)) }, "invalid_request"},
		"long PKCE":   {func(q url.Values) { q.Set("code_challenge", strings.Repeat("x", 129)) }, "invalid_request"},
		"form_post":   {func(q url.Values) { q.Set("response_mode", "form_post") }, "invalid_request"},
		"fragment":    {func(q url.Values) { q.Set("response_mode", "fragment") }, "invalid_request"},
	} {
		response, body := w.call("GET", authorization(c.edit), nil, nil)
		u, err := url.Parse(response.Header.Get("Location"))
		if err != nil || u.Query().Get("error") != c.code || u.Query().Get("state") != "s" || !strings.HasPrefix(u.String(), redirectURI) {
			t.Errorf("%s: %d to %q, %s", name, response.StatusCode, u, body)
		}
	}
	if response, _ := w.call("GET", authorization(func(q url.Values) { q.Set("redirect_uri", "https://evil.example/") }), nil, nil); response.StatusCode != 400 {
		t.Errorf("another redirect_uri: %d to %q", response.StatusCode, response.Header.Get("Location"))
	}
}

// Where browsers come, a refusal is a page like the others, which say that the provider is for development.
func TestRefusalsToBrowsersArePages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	w.config.ErrorPage = func(rw http.ResponseWriter, _ *http.Request, status int, title, detail string) {
		plain(rw, status, `our page: {{.}}`, title+" "+detail)
	}
	w.open()
	for request, says := range map[string]string{
		"GET /authorize": "client_id",
		"GET " + authorization(func(q url.Values) { q.Set("client_id", "another") }):                  "client",
		"GET " + authorization(func(q url.Values) { q.Set("redirect_uri", "https://evil.example/") }): "redirect_uri",
		"GET /authorize/callback":             "was finished already",
		"GET /authorize/callback?id=old":      "was finished already",
		"POST /authorize/callback?id=old":     "was finished already",
		"GET /end_session?id_token_hint=junk": "id_token_hint invalid.” Start again",
		"GET /end_session?client_id=another":  "unknown client",
		"GET /end_session?client_id=keyturn&post_logout_redirect_uri=https://evil.example/": "post_logout_redirect_uri",
	} {
		method, path, _ := strings.Cut(request, " ")
		response, body := w.call(method, path, nil, nil)
		isPage := strings.HasPrefix(response.Header.Get("Content-Type"), "text/html") && strings.HasPrefix(body, "our page: ")
		if response.StatusCode/100 != 4 || !isPage || !strings.Contains(body, says) || strings.Contains(body, "ErrorType") {
			t.Errorf("%s: %d %s", request, response.StatusCode, body)
		}
	}
	w.code() // what is no refusal goes its way
}

func TestPathsLeadNowhereElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	for path, to := range map[string]string{"": "/", "//login": "/login", "/x/../signed-out": "/signed-out"} {
		if response, _ := w.call("GET", w.config.Issuer+path, nil, nil); response.Header.Get("Location") != "/dev-provider"+to {
			t.Errorf("%q: %d to %q", path, response.StatusCode, response.Header.Get("Location"))
		}
	}
	if response, body := w.call("GET", "/", nil, nil); response.StatusCode != http.StatusNotFound || !strings.Contains(body, "dev provider") {
		t.Errorf("%d %s", response.StatusCode, body)
	}
}

func TestReuseOutsideTheIntervalRevokesTheFamily(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	first := w.signIn()
	_, second := w.refresh(first["refresh_token"])
	if second["refresh_token"] == first["refresh_token"] || w.userinfo(second["access_token"]) != 200 {
		t.Fatalf("%v", second)
	}
	w.refused(first["refresh_token"])
	w.refused(second["refresh_token"])
	if status := w.userinfo(second["access_token"]); status != http.StatusUnauthorized {
		t.Errorf("the family's access token: %d", status)
	}
	if status, _ := w.refresh(w.signIn()["refresh_token"]); status != 200 {
		t.Errorf("another family: %d", status)
	}
}

func TestReuseInsideTheIntervalBringsTheSameSuccessor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Minute)
	first := w.signIn()
	_, second := w.refresh(first["refresh_token"])
	if _, again := w.refresh(first["refresh_token"]); again["refresh_token"] != second["refresh_token"] || again["access_token"] == second["access_token"] {
		t.Errorf("%v", again)
	}
	_, third := w.refresh(second["refresh_token"])
	w.refused(first["refresh_token"]) // no longer the newest one's predecessor
	w.refused(third["refresh_token"])
}

// Whoever compares the card with the inspector sees one scope.
func TestTheAccessTokenHasTheScopeOfItsAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Minute)
	first := w.signIn()
	_, second := w.refresh(first["refresh_token"])
	for _, answer := range []map[string]any{first, second} {
		jwt, ok := auth.ParseJWT(auth.Secret(answer["access_token"].(string)))
		if scope := answer["scope"]; !ok || scope != "openid profile email offline_access" || jwt.Claims["scope"] != scope {
			t.Errorf("the answer has the scope %v, the token %v", scope, jwt.Claims["scope"])
		}
	}
}

func TestTwentyAtOnce(t *testing.T) {
	t.Parallel()
	for interval, want := range map[time.Duration]int32{0: 1, time.Minute: 20} {
		w := newWorld(t, interval)
		first := w.signIn()["refresh_token"].(string)
		var good atomic.Int32
		var successors sync.Map
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				status, tokens := w.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first}})
				if status == 200 {
					good.Add(1)
					successors.Store(tokens["refresh_token"], true)
				}
			})
		}
		all.Wait()
		different := 0
		successors.Range(func(token, _ any) bool {
			different++
			if interval == 0 {
				w.refused(token)
			}
			return true
		})
		if good.Load() != want || different != 1 {
			t.Errorf("interval %v: %d succeeded with %d successors, want %d with 1", interval, good.Load(), different, want)
		}
	}
}

func TestRevocationAndIntrospection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	tokens := w.signIn()
	active := func(token any) bool {
		_, body := w.call("POST", "/oauth/introspect", url.Values{"token": {token.(string)}}, basic)
		return strings.Contains(body, `"active":true`)
	}
	if !active(tokens["access_token"]) || !active(tokens["refresh_token"]) {
		t.Error("a good token is not active")
	}
	before := tokens["refresh_token"]
	_, tokens = w.refresh(before)
	if active(before) || !active(tokens["refresh_token"]) {
		t.Error("of two refresh tokens not the newer one is active")
	}
	if response, body := w.call("POST", "/oauth/introspect", url.Values{"token": {tokens["refresh_token"].(string)}}, nil); response.StatusCode != 401 {
		t.Errorf("asked by nobody: %d %s", response.StatusCode, body)
	}
	for _, token := range []string{"unknown", tokens["refresh_token"].(string)} {
		if response, body := w.call("POST", "/revoke", url.Values{"token": {token}, "token_type_hint": {"refresh_token"}}, basic); response.StatusCode != 200 {
			t.Errorf("revoke: %d %s", response.StatusCode, body)
		}
	}
	w.refused(tokens["refresh_token"])
	if active(tokens["access_token"]) || active(tokens["refresh_token"]) || w.userinfo(tokens["access_token"]) != http.StatusUnauthorized {
		t.Error("the access token outlives the revocation")
	}
}

func TestEndOfSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	query := url.Values{"id_token_hint": {w.signIn()["id_token"].(string)}, "post_logout_redirect_uri": {"http://rp.example/"}, "state": {"x"}}
	if response, body := w.call("GET", "/end_session?"+query.Encode(), nil, nil); response.Header.Get("Location") != "http://rp.example/?state=x" {
		t.Errorf("%d to %q: %s", response.StatusCode, response.Header.Get("Location"), body)
	}
	response, _ := w.call("GET", "/end_session", nil, nil)
	if page, _ := w.call("GET", w.server.URL+response.Header.Get("Location"), nil, nil); page.StatusCode != 200 {
		t.Errorf("without a redirect: %d at %q", page.StatusCode, response.Header.Get("Location"))
	}
}

func TestClientAuthentication(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	form := url.Values{"grant_type": {"client_credentials"}, "audience": {"https://api.example/"}, "scope": {"read"}}
	status, tokens := w.token(form)
	if got := claims(t, tokens["access_token"])["aud"]; status != 200 || got.([]any)[0] != "https://api.example/" {
		t.Errorf("%d, aud %v", status, got)
	}
	post := url.Values{"client_id": {"keyturn"}, "client_secret": {secret}, "grant_type": {"refresh_token"}, "refresh_token": {w.signIn()["refresh_token"].(string)}}
	if response, body := w.call("POST", "/oauth/token", post, nil); response.StatusCode != 200 {
		t.Errorf("client_secret_post: %d %s", response.StatusCode, body)
	}
	if response, body := w.call("POST", "/oauth/token", exchange(w.code()), func(r *http.Request) { r.SetBasicAuth("keyturn", "wrong") }); response.StatusCode != 401 || !strings.Contains(body, "invalid_client") {
		t.Errorf("a wrong secret: %d %s", response.StatusCode, body)
	}
}

// RFC 6749 sections 3.2 and 5.2.
func TestTheEndpointsOfClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	for _, path := range []string{"/oauth/token", "/oauth/introspect", "/revoke"} {
		form := url.Values{"grant_type": {"client_credentials"}, "token": {"x"}}
		if response, body := w.call("GET", path+"?"+form.Encode(), nil, basic); response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != "POST" {
			t.Errorf("GET %s: %d %s", path, response.StatusCode, body)
		}
		for name, edit := range map[string]func(*http.Request){"a wrong secret": func(r *http.Request) { r.SetBasicAuth("keyturn", "wrong") }, "nobody": nil} {
			response, body := w.call("POST", path, form, edit)
			var answer map[string]any
			if err := json.Unmarshal([]byte(body), &answer); err != nil || response.StatusCode != 401 || answer["error"] != "invalid_client" ||
				!strings.HasPrefix(response.Header.Get("WWW-Authenticate"), "Basic ") {
				t.Errorf("%s at %s: %d %s, %v", name, path, response.StatusCode, body, response.Header)
			}
		}
	}
	if response, body := w.call("POST", "/oauth/introspect", url.Values{"token": {"unknown"}}, basic); response.StatusCode != 200 || !strings.Contains(body, `"active":false`) {
		t.Errorf("an unknown token: %d %s", response.StatusCode, body)
	}
}

func TestARestartKeepsEverythingAndTheFilesGiveNothingAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	tokens := w.signIn()
	if err := w.p.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	if status := w.userinfo(tokens["access_token"]); status != 200 {
		t.Errorf("the access token: %d", status)
	}
	if status, _ := w.refresh(tokens["refresh_token"]); status != 200 {
		t.Errorf("the refresh token: %d", status)
	}
	files, err := filepath.Glob(filepath.Join(w.config.Dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	places := map[string]string{"the log": w.log.String()}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		places[name] = string(content)
		if info, err := os.Stat(name); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	for place, content := range places {
		for _, token := range w.issued {
			if strings.Contains(content, token) {
				t.Errorf("%s holds a token", place)
			}
		}
	}
}

func TestUnknownPeopleAndOldSignIns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	for name, form := range map[string]url.Values{"unknown person": {"user": {"mallory"}}, "unknown sign-in": {"user": {"alice"}, "authRequestID": {"x"}}} {
		if response, _ := w.call("POST", "/login", form, nil); response.StatusCode != 400 {
			t.Errorf("%s: %d", name, response.StatusCode)
		}
	}
	response, body := w.call("POST", "/login", url.Values{"user": {"alice"}}, func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") })
	if response.StatusCode != http.StatusForbidden || !strings.Contains(body, "The dev provider refuses") {
		t.Errorf("from another site: %d %s", response.StatusCode, body)
	}
	if response, _ := w.call("PUT", "/login", nil, nil); response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") == "" {
		t.Errorf("PUT: %d", response.StatusCode)
	}
}
