package fositetest

import (
	"bufio"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v3"
	josejwt "github.com/go-jose/go-jose/v3/jwt"
)

// keyturn builds and starts the program of the module above, and returns its address.
func keyturn(t *testing.T, environment ...string) (base string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "keyturn")
	build := exec.Command("go", "build", "-o", path, ".")
	build.Dir = ".."
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	program := exec.Command(path, "--addr", "localhost:0", "--data-dir", filepath.Join(dir, "data"))
	program.Env = append(environment, "PATH="+os.Getenv("PATH"), "HOME="+dir, "KEYTURN_CLIENT_ID="+clientID)
	program.Stderr = os.Stderr
	output, err := program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Process.Kill(); _ = program.Wait() })
	for lines := bufio.NewScanner(output); lines.Scan(); {
		if found := regexp.MustCompile(`open (http\S+)`).FindStringSubmatch(lines.Text()); found != nil {
			go func() { _, _ = io.Copy(io.Discard, output) }()
			return found[1]
		}
	}
	t.Fatal("keyturn did not start")
	return ""
}

// browser is a person's browser, as far as HTTP goes.
type browser struct {
	http.Client
	base string
}

func newBrowser(base string) *browser {
	jar, _ := cookiejar.New(nil)
	return &browser{http.Client{Jar: jar, Timeout: time.Minute}, base}
}

func (b *browser) do(t *testing.T, method, path string, form url.Values) (status int, at *url.URL, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, b.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := b.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Request.URL, string(text)
}

// renew renews now, and fails the test unless that rotates.
func (b *browser) renew(t *testing.T) (generation float64) {
	t.Helper()
	status, _, body := b.do(t, "POST", "/api/renew-token", nil)
	var answer map[string]any
	if json.Unmarshal([]byte(body), &answer) != nil || status != http.StatusOK || answer["outcome"] != "rotated" {
		t.Fatalf("renewal: %d %s", status, body)
	}
	return answer["generation"].(float64)
}

func (b *browser) signedIn(t *testing.T) bool {
	t.Helper()
	status, _, _ := b.do(t, "GET", "/api/session", nil)
	return status == http.StatusOK
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func TestWithFosite(t *testing.T) {
	t.Parallel()
	public, private := clientKey(t)
	keyFile := filepath.Join(t.TempDir(), "client.jwk")
	if err := os.WriteFile(keyFile, private, 0o600); err != nil {
		t.Fatal(err)
	}
	for method, environment := range map[string]string{
		"client_secret_basic": "KEYTURN_CLIENT_SECRET=" + clientSecret, "private_key_jwt": "KEYTURN_CLIENT_KEY_FILE=" + keyFile,
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			p := newIDP(t)
			base := keyturn(t, "KEYTURN_ISSUER="+p.URL, environment)
			p.register(t, base, method, public)
			alice := newBrowser(base)
			if status, at, body := alice.do(t, "GET", "/auth/oidc", nil); status != http.StatusOK || at.Path != "/dashboard" || !strings.Contains(body, "Alice of fosite") {
				t.Fatalf("the sign-in ends at %s (%d): %s", at, status, body)
			}
			for n := range 3 {
				if generation := alice.renew(t); generation != float64(n+2) {
					t.Errorf("generation %v after %d renewals", generation, n+1)
				}
			}
			var together sync.WaitGroup
			for range 10 {
				together.Go(func() { alice.renew(t) })
			}
			together.Wait()
			refreshes, calls := p.given()
			if len(refreshes) != calls+1 || p.alive(refreshes[0]) || !p.alive(refreshes[calls]) {
				t.Errorf("%d refresh tokens by %d renewals; the first lives: %v, the last: %v",
					len(refreshes), calls, p.alive(refreshes[0]), p.alive(refreshes[len(refreshes)-1]))
			}
			if status, at, _ := alice.do(t, "POST", "/auth/signout", url.Values{}); status != http.StatusOK || at.Path != "/" || alice.signedIn(t) {
				t.Errorf("after the sign-out at %s (%d), signed in: %v", at, status, alice.signedIn(t))
			}
			eventually(t, "the refresh token is revoked", func() bool { return !p.alive(refreshes[calls]) })
		})
	}
}

// fosite has no logout of its own: the token is made by another library than in Keyturn's own tests, with fosite's key.
func TestBackChannelLogoutWithFosite(t *testing.T) {
	t.Parallel()
	p := newIDP(t)
	base := keyturn(t, "KEYTURN_ISSUER="+p.URL, "KEYTURN_CLIENT_SECRET="+clientSecret)
	p.register(t, base, "client_secret_basic", nil)
	alice := newBrowser(base)
	alice.do(t, "GET", "/auth/oidc", nil)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: p.key, KeyID: "k1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{
		"iss": p.URL, "aud": clientID, "sid": "s1", "jti": "1", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	}
	tell := func(edit map[string]any) int {
		t.Helper()
		edited := maps.Clone(claims)
		maps.Copy(edited, edit)
		token, err := josejwt.Signed(signer).Claims(edited).CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		status, _, _ := newBrowser(base).do(t, "POST", "/auth/oidc/backchannel-logout", url.Values{"logout_token": {token}})
		return status
	}
	if status := tell(map[string]any{"nonce": "n"}); status != http.StatusBadRequest || !alice.signedIn(t) {
		t.Errorf("with a nonce: %d, signed in: %v", status, alice.signedIn(t))
	}
	if status := tell(nil); status != http.StatusOK || alice.signedIn(t) {
		t.Errorf("%d, signed in: %v", status, alice.signedIn(t))
	}
	refreshes, _ := p.given()
	eventually(t, "the refresh token is revoked", func() bool { return !p.alive(refreshes[0]) })
}
