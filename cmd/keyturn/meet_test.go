package main

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"keyturn/auth/provider/scripted"
)

func itoa(n int) string { return strconv.Itoa(n) }

func parsedURL(t testing.TB, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func runKeys(t testing.TB, p *program, command string, args ...string) (output string) {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command(path, append([]string{"keys", command, "--data-dir", p.dir}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("keys %s: %v\n%s", command, err, said)
	}
	return string(said)
}

func runExpectingFailure(t testing.TB, p *program, args ...string) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	output, err := exec.CommandContext(ctx, path, append([]string{"--addr", "localhost:0", "--data-dir", p.dir}, args...)...).CombinedOutput()
	if err == nil || ctx.Err() != nil {
		t.Fatalf("it started: %s", output)
	}
	return string(output)
}

// Any number of requests at the moment of expiry: one token call, everybody is answered as signed in, and the same
// again at the next expiry.
func TestRequestsThatMeetAtExpiry(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		requests int
		delay    time.Duration
	}{{2, 0}, {50, 0}, {500, 0}, {500, 3 * time.Second}} {
		t.Run(fmt.Sprintf("%d requests, answers after %v", c.requests, c.delay), func(t *testing.T) {
			t.Parallel()
			const lifetime = 2 * time.Second
			idp, p := atScripted(t, func(idp *scripted.Provider) {
				idp.Lifetime = lifetime
				idp.Token = func(http.ResponseWriter, *http.Request, func() map[string]any) bool {
					time.Sleep(c.delay)
					return false
				}
			}, "--renew-mode=on-demand", "--renew-timeout=60s")
			alice := p.person()
			alice.staying().signInScripted(t)
			for round := range 2 {
				if round > 0 {
					alice.do(t, "POST", "/api/renew-token", nil)
				}
				idp.Change(func() { idp.Lifetime = time.Hour }) // so that it is not due again while they ask
				before := idp.TokenCalls()
				time.Sleep(lifetime + 100*time.Millisecond)
				var all sync.WaitGroup
				for n := range c.requests {
					all.Go(func() {
						path := []string{"/api/session", "/dashboard", "/api/rotations"}[n%3]
						if a, err := alice.try(t.Context(), "GET", path, nil); err != nil || a.status != 200 || a.url.Path != path {
							t.Errorf("%s: %v, status %d", path, err, a.status)
						}
					})
				}
				all.Wait()
				if calls := idp.TokenCalls() - before; calls != 1 {
					t.Errorf("round %d: %d token calls, want 1", round, calls)
				}
				idp.Change(func() { idp.Lifetime = lifetime })
			}
			if most := idp.MostPresented(); most != 1 {
				t.Errorf("a refresh token was presented %d times", most)
			}
		})
	}
}

func TestTheFirstClientHangsUp(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Token = func(http.ResponseWriter, *http.Request, func() map[string]any) bool {
			time.Sleep(time.Second)
			return false
		}
	})
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	ctx, hangUp := context.WithCancel(t.Context())
	go func() {
		eventually(t, "the token call", func() bool { return idp.TokenCalls() == 1 })
		hangUp()
	}()
	if _, err := alice.try(ctx, "POST", "/api/renew-token", nil); err == nil {
		t.Fatal("the client did not hang up")
	}
	eventually(t, "generation 2", func() bool { return alice.generation(t) == 2 })
	if idp.TokenCalls() != 1 || idp.MostPresented() != 1 {
		t.Errorf("%d token calls, a refresh token presented %d times", idp.TokenCalls(), idp.MostPresented())
	}
}

func TestADueTokenIsRenewedByAnyRequest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		set  func(*scripted.Provider)
		args []string
	}{
		{"older than max-age", nil, []string{"--max-age=1s"}},
		{"less than leeway left", func(idp *scripted.Provider) { idp.Lifetime = 4 * time.Second }, []string{"--leeway=60s"}},
	} {
		for _, path := range []string{"/", "/dashboard", "/api/session", "/api/rotations"} {
			t.Run(c.name+" "+path, func(t *testing.T) {
				t.Parallel()
				idp, p := atScripted(t, c.set, append(c.args, "--renew-mode=on-demand")...)
				alice := p.person().staying()
				callback := alice.do(t, "GET", alice.do(t, "GET", "/auth/oidc", nil).header.Get("Location"), nil)
				alice.do(t, "GET", callback.header.Get("Location"), nil)
				time.Sleep(3200 * time.Millisecond)
				if idp.TokenCalls() != 0 {
					t.Fatalf("%d token calls before anybody asked", idp.TokenCalls())
				}
				alice.do(t, "GET", path, nil)
				eventually(t, "a token call", func() bool { return idp.TokenCalls() == 1 })
				rotations := alice.do(t, "GET", "/api/rotations", nil)
				eventually(t, "the renewal in the history", func() bool {
					rotations = alice.do(t, "GET", "/api/rotations", nil)
					return strings.Contains(rotations.body, `"trigger":"automatic"`)
				})
			})
		}
	}
}

// The provider down, answering 500, HTML, or nothing: pages keep working, the token is shown and used, the message says
// what is wrong, and it heals by itself.
func TestAnAilingProvider(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ail func(w http.ResponseWriter, r *http.Request)
		say string
	}{
		"500":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "has a problem of its own (status 500)"},
		"HTML": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hello")) }, "something that is no token answer"},
		"hang": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "does not answer in time"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idp, p := atScripted(t, func(idp *scripted.Provider) {
				idp.Token = func(w http.ResponseWriter, r *http.Request, _ func() map[string]any) bool { c.ail(w, r); return true }
			}, "--max-age=1s", "--renew-timeout=1s")
			alice := p.person()
			alice.do(t, "GET", "/auth/oidc", nil)
			old := alice.do(t, "POST", "/api/renew-token", nil)
			if got := old.json(t); old.status != 200 || got["outcome"] != "kept" || got["access_token"] == "" || got["error"].(map[string]any)["code"] == "" {
				t.Errorf("%d %s", old.status, old.body)
			}
			eventually(t, "the message", func() bool {
				token := alice.token(t)
				failure, _ := token["error"].(map[string]any)
				return failure != nil && strings.Contains(failure["message"].(string), c.say) && failure["party"] == "provider" && failure["next_try_at"] != nil
			})
			if page := alice.do(t, "GET", "/dashboard", nil); page.status != 200 || !strings.Contains(page.body, c.say) {
				t.Errorf("the dashboard (%d) does not say that it %s", page.status, c.say)
			}
			idp.Change(func() { idp.Token = nil })
			eventually(t, "it to heal", func() bool {
				token := alice.token(t)
				return token["generation"].(float64) > 1 && token["error"] == nil
			})
		})
	}
	t.Run("down, also at start", func(t *testing.T) {
		t.Parallel()
		idp, p := atScripted(t, nil, "--max-age=1s")
		alice := p.person()
		alice.do(t, "GET", "/auth/oidc", nil)
		p.kill(t)
		idp.Listener.Close()
		idp.CloseClientConnections()
		p.again(t)
		eventually(t, "the message", func() bool {
			failure, _ := alice.token(t)["error"].(map[string]any)
			return failure != nil && strings.Contains(failure["message"].(string), "cannot be reached")
		})
		if a := p.person().do(t, "GET", "/auth/oidc", nil); a.status != http.StatusBadGateway || !strings.Contains(a.body, "cannot be reached") {
			t.Errorf("a sign-in: %d %s", a.status, a.body)
		}
	})
}

func TestADeadTokenIsNotHandedOut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"refused":      {`{"error":"invalid_grant"}`, 401, "sign_in_required"},
		"misbehaviour": {`{"error":"server_error"}`, 502, "server_error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, p := atScripted(t, func(idp *scripted.Provider) {
				idp.Lifetime = 1 * time.Second
				idp.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
					w.WriteHeader(400)
					_, _ = w.Write([]byte(c.body))
					return true
				}
			})
			alice := p.person()
			alice.do(t, "GET", "/auth/oidc", nil)
			time.Sleep(1100 * time.Millisecond)
			a := alice.do(t, "POST", "/api/renew-token", nil)
			if a.status != c.status || strings.Contains(a.body, "access-") || a.json(t)["error"].(map[string]any)["code"] != c.code {
				t.Errorf("%d %s", a.status, a.body)
			}
			if again := a.header.Get("Retry-After"); (again != "") != (c.status == 502) {
				t.Errorf("ask again in %q s", again)
			}
			if page := alice.do(t, "GET", "/dashboard", nil); page.status != 200 {
				t.Errorf("the dashboard: %d", page.status)
			}
		})
	}
}

// Nothing that the provider issued is in any file but sealed, nor in the log at level debug.
func TestSecretsStayInside(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	for range 3 {
		alice.do(t, "POST", "/api/trigger-renew-token?query=update-token-data", nil)
	}
	idp.Change(func() {
		idp.Revocation = func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusServiceUnavailable); return true }
	})
	gone := p.person()
	gone.do(t, "GET", "/auth/oidc", nil)
	gone.do(t, "POST", "/auth/signout", url.Values{})
	cookie := alice.Jar.Cookies(parsedURL(t, p.base))[0].Value
	pending := parsedURL(t, p.person().staying().do(t, "GET", "/auth/oidc", nil).header.Get("Location")).Query()
	secrets := append(idp.Issued(), cookie, scripted.ClientSecret, pending.Get("state"), pending.Get("nonce"))
	if len(secrets) < 15 {
		t.Fatalf("only %d secrets", len(secrets))
	}
	places := map[string]string{"the log": p.log.String(), "the dashboard": alice.do(t, "GET", "/dashboard", nil).body, "the session": alice.do(t, "GET", "/api/session", nil).body}
	err := filepath.WalkDir(p.dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		places[filepath.Base(name)] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for place, content := range places {
		for _, secret := range secrets {
			if strings.Contains(content, secret) {
				t.Errorf("%s holds %.12s…", place, secret)
			}
		}
	}
}
