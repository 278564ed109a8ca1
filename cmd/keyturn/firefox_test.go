package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyturn/auth/authtest"
)

// firefox is a Firefox with one tab, driven by Marionette: its scripts run, and its timers fire, in another order than Chromium's.
type firefox struct {
	conn    net.Conn
	answers *bufio.Reader
	said    authtest.Buffer // by the pages, to the console
	last    int             // number of the latest command
}

// firefoxPreferences have Marionette choose a port, and the console written down.
const firefoxPreferences = `user_pref("marionette.port", 0);
user_pref("devtools.console.stdout.content", true);
user_pref("app.update.disabledForTesting", true);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
`

func startFirefox(t *testing.T) *firefox {
	t.Helper()
	path, err := exec.LookPath("firefox")
	authtest.Require(t, "firefox", err == nil)
	if authtest.Race {
		t.Skip("a browser beside a program that the race detector slows down gets no processor in time")
	}
	takeTurn(t)
	profile := t.TempDir()
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(firefoxPreferences), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &firefox{}
	cmd := exec.Command(path, "--headless", "--marionette", "--no-remote", "--profile", profile, "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+profile)
	cmd.Stdout = &f.said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		if f.conn != nil {
			_, _ = f.command("Marionette:Quit", nil)
			f.conn.Close()
		}
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	})
	for deadline := time.Now().Add(30 * time.Second); f.conn == nil && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if port, err := os.ReadFile(filepath.Join(profile, "MarionetteActivePort")); err == nil {
			f.conn, _ = net.Dial("tcp", "127.0.0.1:"+strings.TrimSpace(string(port)))
		}
	}
	authtest.Require(t, "firefox", f.conn != nil) // nor may it be let start
	f.answers = bufio.NewReader(f.conn)
	if _, err := f.read(); err != nil { // it says who it is
		t.Fatal(err)
	}
	f.do(t, "WebDriver:NewSession", map[string]any{})
	return f
}

// read reads one message: its length, a colon, and JSON.
func (f *firefox) read() ([]byte, error) {
	if err := f.conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	length, err := f.answers.ReadString(':')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(length, ":"))
	if err != nil {
		return nil, err
	}
	message := make([]byte, n)
	_, err = io.ReadFull(f.answers, message)
	return message, err
}

func (f *firefox) command(name string, params map[string]any) (json.RawMessage, error) {
	f.last++
	command, err := json.Marshal([]any{0, f.last, name, params})
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(f.conn, "%d:%s", len(command), command); err != nil {
		return nil, err
	}
	message, err := f.read()
	if err != nil {
		return nil, err
	}
	var answer [4]json.RawMessage // 1, number, what went wrong, result
	if err := json.Unmarshal(message, &answer); err != nil {
		return nil, err
	}
	if wrong := string(answer[2]); wrong != "null" {
		return nil, fmt.Errorf("%s: %.300s", name, wrong)
	}
	return answer[3], nil
}

func (f *firefox) do(t *testing.T, name string, params map[string]any) json.RawMessage {
	t.Helper()
	result, err := f.command(name, params)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// becomes waits for a script to be true.
func (f *firefox) becomes(t *testing.T, what, script string) {
	t.Helper()
	eventually(t, what, func() bool {
		// While the page changes, there is none to ask.
		result, err := f.command("WebDriver:ExecuteScript", map[string]any{"script": "return !!(" + script + ")", "args": []any{}})
		return err == nil && string(result) == `{"value":true}`
	})
}

// signIn signs in at the embedded provider; the person is who has the same cookies.
func (f *firefox) signIn(t *testing.T, p *program) *person {
	t.Helper()
	f.do(t, "WebDriver:Navigate", map[string]any{"url": p.base + "/auth/dev"})
	f.becomes(t, "it asks who", `document.querySelector('button[value="alice"]') && (document.querySelector('button[value="alice"]').click(), true)`)
	f.becomes(t, "the dashboard is there", `document.getElementById("token-card")`)
	var held []struct{ Name, Value string }
	if err := json.Unmarshal(f.do(t, "WebDriver:GetCookies", map[string]any{}), &held); err != nil {
		t.Fatal(err)
	}
	var cookies []*http.Cookie
	for _, cookie := range held {
		cookies = append(cookies, &http.Cookie{Name: cookie.Name, Value: cookie.Value})
	}
	return p.holding(t, cookies)
}

// late is a way to the program on which a file takes a while, each time.
func (p *program) late(t *testing.T, file string) string {
	t.Helper()
	front := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(parsedURL(t, p.base)) },
		FlushInterval: -1,
		ModifyResponse: func(r *http.Response) error {
			if strings.Contains(r.Request.URL.Path, file) {
				r.Header.Set("Cache-Control", "no-store")
				time.Sleep(300 * time.Millisecond)
			}
			return nil
		},
	})
	t.Cleanup(func() { front.CloseClientConnections(); front.Close() })
	return "http://localhost:" + parsedURL(t, front.URL).Port()
}

// Where htmx starts before its extension is there, nothing opens the stream: in Firefox a timer may come before the next script.
func TestInFirefoxEachLoadIsLive(t *testing.T) {
	seldom(t)
	t.Parallel()
	f := startFirefox(t)
	p := startProgram(t)
	// A stream that the page before left on its way has the same address, and Firefox's cache has the second wait for the first.
	for range 3 {
		f.signIn(t, p)
		f.do(t, "WebDriver:Navigate", map[string]any{"url": p.base + "/dashboard"})
		f.becomes(t, "it is live behind another", isLive)
	}
	alice := f.signIn(t, p)
	for name, base := range map[string]string{"directly": p.base, "with a late extension": p.late(t, "hx-sse")} {
		f.do(t, "WebDriver:Navigate", map[string]any{"url": base + "/dashboard"})
		for range 4 {
			f.becomes(t, "it is live, "+name, isLive)
			f.do(t, "WebDriver:Refresh", map[string]any{})
		}
	}
	f.becomes(t, "it is live", isLive)
	alice.do(t, "POST", "/api/renew-token", nil)
	f.becomes(t, "it shows what another has renewed", shownGeneration+` === "2"`)
}
