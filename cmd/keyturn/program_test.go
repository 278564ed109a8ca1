package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"keyturn/auth/authtest"
	"keyturn/auth/provider/scripted"
)

// built is the path of the program, built once for all tests that run it, and as releases are: see version.go. Under the race
// detector the program has it too.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "keyturn-test-")
	if err != nil {
		return "", err
	}
	atTheEnd(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "keyturn")
	build := exec.Command("go", "build", "-buildvcs=false", "-race="+strconv.FormatBool(authtest.Race), "-ldflags", "-X main.version=v1.2.3 -X main.revision=0123abc", "-o", path, ".")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, output)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := authtest.Run(m, 24)
	leftovers.Lock()
	defer leftovers.Unlock()
	for _, end := range leftovers.ends {
		end()
	}
	os.Exit(code)
}

// leftovers ends what the tests shared.
var leftovers struct {
	sync.Mutex
	ends []func()
}

func atTheEnd(end func()) {
	leftovers.Lock()
	defer leftovers.Unlock()
	leftovers.ends = append(leftovers.ends, end)
}

// closeBrowser ends the browser, which may have stopped listening.
func closeBrowser(browser context.Context) {
	closed := make(chan struct{})
	go func() { _ = chromedp.Cancel(browser); close(closed) }()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		if process := chromedp.FromContext(browser).Browser.Process(); process != nil {
			_ = process.Kill()
		}
	}
}

// busy is the tests that keep a processor busy, with a browser or a crowd. Few at once, or those beside them get none in time.
var busy = struct {
	turns chan struct{}
	tests sync.Map
}{turns: make(chan struct{}, 2)}

// takeTurn waits for the test's turn to be busy, which it has to its end.
func takeTurn(t testing.TB) {
	if _, has := busy.tests.LoadOrStore(t, true); has {
		return
	}
	busy.turns <- struct{}{}
	t.Cleanup(func() { <-busy.turns })
}

// program is a running Keyturn.
type program struct {
	base    string
	dir     string
	started time.Duration // until it said that it is ready
	log     *authtest.Buffer
	cmd     *exec.Cmd
	args    []string
	exited  chan error
}

// startProgram starts Keyturn on a free port with a data dir of its own. Arguments with a "="
// and no dash before it are environment.
func startProgram(t testing.TB, args ...string) *program {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	return launch(t, &program{dir: dir, args: args, log: &authtest.Buffer{}}, "localhost:0")
}

func launch(t testing.TB, p *program, addr string) *program {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd = p.command(t, path, addr)
	p.cmd.Stderr = p.log
	stdout := &authtest.Buffer{}
	p.cmd.Stdout = stdout
	began := time.Now()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.exited = make(chan error, 1)
	go func(cmd *exec.Cmd, exited chan error) { exited <- cmd.Wait() }(p.cmd, p.exited)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		if _, race, found := strings.Cut(p.log.String(), "WARNING: DATA RACE"); found {
			t.Errorf("data race in the program: %.3000s", race)
		}
	})
	ready := regexp.MustCompile(`open (http\S+)`)
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if found := ready.FindStringSubmatch(stdout.String()); found != nil {
			p.base, p.started = found[1], time.Since(began)
			return p
		}
		select {
		case err := <-p.exited:
			t.Fatalf("keyturn ended: %v\n%s", err, p.log)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("keyturn is not ready:\n%s", p.log)
		}
	}
}

// behindProxy starts the built program as it is behind a proxy at base, and tells where it listens itself. PORT in base is the port
// there.
func behindProxy(t *testing.T, base string) (p *program, addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = listener.Addr().String()
	base = strings.Replace(base, "PORT", strconv.Itoa(listener.Addr().(*net.TCPAddr).Port), 1)
	listener.Close()
	idp := scripted.New(t)
	p = &program{dir: filepath.Join(t.TempDir(), "data"), log: &authtest.Buffer{}, args: []string{
		"KEYTURN_ISSUER=" + idp.URL, "KEYTURN_CLIENT_ID=" + scripted.ClientID, "KEYTURN_CLIENT_SECRET=" + scripted.ClientSecret, "--base-url=" + base,
	}}
	return launch(t, p, addr), addr
}

// command is a command of Keyturn with the program's settings: to serve, if there are no words.
func (p *program) command(t testing.TB, path, addr string, words ...string) *exec.Cmd {
	args := append(words, "--addr", addr, "--data-dir", p.dir, "--log-level", "debug")
	environment := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	for _, arg := range p.args {
		if strings.Contains(arg, "=") && !strings.HasPrefix(arg, "-") {
			environment = append(environment, arg)
		} else {
			args = append(args, arg)
		}
	}
	cmd := exec.Command(path, args...)
	cmd.Env = environment
	return cmd
}

// again starts the program once more on the same port and files.
func (p *program) again(t testing.TB) {
	t.Helper()
	u, err := url.Parse(p.base)
	if err != nil {
		t.Fatal(err)
	}
	launch(t, p, u.Host)
}

func (p *program) kill(t testing.TB) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.exited
}

// stop asks the program to end and returns how it did.
func (p *program) stop(t testing.TB) error {
	t.Helper()
	p.terminate(t)
	return p.end(t)
}

// terminate asks the program to end.
func (p *program) terminate(t testing.TB) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// end waits for the program's end and returns how it was.
func (p *program) end(t testing.TB) error {
	t.Helper()
	select {
	case err := <-p.exited:
		return err
	case <-time.After(30 * time.Second):
		t.Fatalf("keyturn does not end:\n%s", p.log)
		return nil
	}
}

// person is a browser, as far as HTTP goes.
type person struct {
	*http.Client
	base string
}

func (p *program) person() *person {
	jar, _ := cookiejar.New(nil)
	return &person{Client: &http.Client{
		Jar: jar, Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 100},
	}, base: p.base}
}

// answer is what came back, read.
type answer struct {
	status int
	header http.Header
	url    *url.URL
	body   string
}

func (a answer) json(t testing.TB) map[string]any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(a.body), &object); err != nil {
		t.Fatalf("no JSON (status %d): %s", a.status, a.body)
	}
	return object
}

// do sends a request; header holds pairs of names and values.
func (b *person) do(t testing.TB, method, path string, form url.Values, header ...string) answer {
	t.Helper()
	a, err := b.try(context.Background(), method, path, form, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (b *person) try(ctx context.Context, method, path string, form url.Values, header ...string) (answer, error) {
	if !strings.HasPrefix(path, "http") {
		path = b.base + path
	}
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	request, err := http.NewRequestWithContext(ctx, method, path, body)
	if err != nil {
		return answer{}, err
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for pair := range slices.Chunk(header, 2) {
		request.Header.Del(pair[0])
	}
	for pair := range slices.Chunk(header, 2) {
		request.Header.Add(pair[0], pair[1])
	}
	response, err := b.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, response.Request.URL, string(text)}, err
}

// staying returns the same browser without following redirects.
func (b *person) staying() *person {
	client := *b.Client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &person{Client: &client, base: b.base}
}

var hiddenField = regexp.MustCompile(`name="authRequestID" value="([^"]+)"`)

// signIn signs in at the embedded provider and returns the page it ends on.
func (b *person) signIn(t testing.TB, name string) answer {
	t.Helper()
	page := b.do(t, "GET", "/auth/dev", nil)
	found := hiddenField.FindStringSubmatch(page.body)
	if found == nil {
		t.Fatalf("no sign-in page (status %d at %s): %s", page.status, page.url, page.body)
	}
	return b.do(t, "POST", page.url.Scheme+"://"+page.url.Host+"/dev-provider/login", url.Values{"authRequestID": {found[1]}, "user": {name}})
}

// token is the token part of /api/session.
func (b *person) token(t testing.TB) map[string]any {
	t.Helper()
	session := b.do(t, "GET", "/api/session", nil)
	if session.status != http.StatusOK {
		t.Fatalf("/api/session: %d %s", session.status, session.body)
	}
	return session.json(t)["token"].(map[string]any)
}

func (b *person) generation(t testing.TB) float64 {
	t.Helper()
	return b.token(t)["generation"].(float64)
}

// atScripted starts a scripted provider and a Keyturn that signs people in there.
func atScripted(t testing.TB, set func(*scripted.Provider), args ...string) (*scripted.Provider, *program) {
	t.Helper()
	idp := scripted.New(t)
	if set != nil {
		set(idp)
		idp.Change(func() {}) // the program asks as soon as it starts
	}
	return idp, startProgram(t, append([]string{
		"KEYTURN_ISSUER=" + idp.URL, "KEYTURN_CLIENT_ID=" + scripted.ClientID, "KEYTURN_CLIENT_SECRET=" + scripted.ClientSecret,
	}, args...)...)
}

// eventually waits for a condition, with a deadline.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func writeJSON(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}
