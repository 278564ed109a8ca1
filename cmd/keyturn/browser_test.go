package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/chromedp"
)

// require skips a test whose part is missing on this machine, and fails it when KEYTURN_TEST_REQUIRE names the part.
func require(t testing.TB, part string, present bool) {
	t.Helper()
	if present {
		return
	}
	if strings.Contains(os.Getenv("KEYTURN_TEST_REQUIRE"), part) {
		t.Fatalf("%s is required by KEYTURN_TEST_REQUIRE and was not found", part)
	}
	t.Skipf("%s was not found on this machine", part)
}

func chromium() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// look is how a browser shows pages.
type look struct {
	width, height int64
	dark          bool
	noScript      bool
}

// tab is a browser with one tab, and what its console said.
type tab struct {
	context.Context
	mu       sync.Mutex
	messages []string
}

// openTab starts a browser that fails the test by any message of its console: an error there is a defect.
func openTab(t testing.TB, l look) *tab {
	t.Helper()
	path := chromium()
	require(t, "chromium", path != "")
	if l.width == 0 {
		l.width, l.height = 1280, 900
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-gpu", true))
	allocator, cancelAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	ctx, cancelTime := context.WithTimeout(ctx, time.Minute)
	b := &tab{Context: ctx}
	t.Cleanup(func() {
		cancelTime()
		cancel()
		cancelAllocator()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, message := range b.messages {
			t.Errorf("console: %s", message)
		}
	})
	b.do(t, chromedp.EmulateViewport(l.width, l.height))
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	protocol(t, ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	protocol(t, ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: l.noScript})
	protocol(t, ctx, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Europe/Paris"})
	events := chromedp.Events(ctx, log.EntryAdded)
	go func() {
		for event, err := range events {
			if err != nil {
				return
			}
			if level := event.Entry.Level; level == log.EntryLevelWarning || level == log.EntryLevelError {
				b.note("%s: %s (%s)", level, event.Entry.Text, event.Entry.URL)
			}
		}
	}()
	protocol(t, ctx, log.Enable, cdp.Empty{})
	return b
}

// protocol sends one command of the browser's protocol.
func protocol[P, R any](t testing.TB, ctx context.Context, c cdp.Command[P, R], params P) {
	t.Helper()
	if _, err := chromedp.Call(ctx, c, params); err != nil {
		t.Fatal(err)
	}
}

func (b *tab) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages = append(b.messages, fmt.Sprintf(format, args...))
}

func (b *tab) do(t testing.TB, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(b, steps...); err != nil {
		t.Fatal(err)
	}
}

func ask[T any](t testing.TB, b *tab, action chromedp.Action[T]) T {
	t.Helper()
	v, err := chromedp.Run(b.Context, action)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (b *tab) text(t testing.TB, selector string) string {
	t.Helper()
	return strings.TrimSpace(ask(t, b, chromedp.Text(selector)))
}

// shot writes a picture when KEYTURN_TEST_SCREENSHOTS names a folder.
func (b *tab) shot(t testing.TB, name string) {
	t.Helper()
	dir := os.Getenv("KEYTURN_TEST_SCREENSHOTS")
	if dir == "" {
		return
	}
	picture := ask(t, b, chromedp.FullScreenshot(100))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644); err != nil {
		t.Fatal(err)
	}
}

// signIn signs in by clicking, at the embedded provider.
func (b *tab) signIn(t testing.TB, base string) {
	t.Helper()
	b.do(t, chromedp.Navigate(base), chromedp.Click(`a[data-provider="dev"]`, chromedp.NodeVisible),
		chromedp.Click(`button[value="alice"]`, chromedp.NodeVisible), chromedp.WaitVisible(`#token-card`))
}

func TestClickingRefreshTokenSwapsTheNewExpiryIn(t *testing.T) {
	t.Parallel()
	b := openTab(t, look{})
	p := startProgram(t)
	b.signIn(t, p.base)
	first := b.text(t, "#countdown")
	ask(t, b, chromedp.Poll[bool](fmt.Sprintf(`document.getElementById("countdown").textContent.trim() !== %q`, first)))
	if left := b.text(t, "#countdown"); !regexp.MustCompile(`^1:[0-5]\d$`).MatchString(left) || left >= first && first != "2:00" {
		t.Errorf("the countdown went from %q to %q", first, left)
	}
	ask(t, b, chromedp.Evaluate[chromedp.Void](`window.sameDocument = true; document.getElementById("refresh-token").focus()`))
	expiry := ask(t, b, chromedp.Evaluate[string](`document.getElementById("token-card").dataset.expiresAt`))
	b.do(t, chromedp.KeyEvent("\r"))
	ask(t, b, chromedp.Poll[bool](`document.getElementById("generation").textContent === "2"`))
	if said := b.text(t, "#result"); !strings.HasPrefix(said, "Rotated in ") || !strings.HasSuffix(said, ": generation 2.") {
		t.Errorf("beside the button it says %q", said)
	}
	for what, script := range map[string]string{
		"the page was not loaded again":             `window.sameDocument === true`,
		"the button kept the focus":                 `document.activeElement.id === "refresh-token"`,
		"the result is announced":                   `document.getElementById("announce").textContent.startsWith("Rotated in")`,
		"the expiry is a later one":                 fmt.Sprintf(`document.getElementById("token-card").dataset.expiresAt > %q`, expiry),
		"the history has the renewal":               `document.querySelectorAll("#history tbody tr").length === 1`,
		"there is one card, one grant, one history": `["token-card", "grant", "history"].every((id) => document.querySelectorAll("#" + id).length === 1)`,
		"the button is usable again":                `document.getElementById("refresh-token").getAttribute("aria-busy") !== "true"`,
		"times are in the reader's zone":            `document.querySelector("#expiry time").textContent === new Intl.DateTimeFormat(undefined, {hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZone: "Europe/Paris"}).format(new Date(document.querySelector("#expiry time").dateTime))`,
	} {
		// The swap is seen before the script has dressed what it brought.
		if _, err := chromedp.Run(b.Context, chromedp.Poll[bool](script, chromedp.WithPollingTimeout(5*time.Second))); err != nil {
			t.Errorf("not so: %s: %v", what, err)
		}
	}
}

func TestWithoutJavaScriptTheButtonIsAForm(t *testing.T) {
	t.Parallel()
	b := openTab(t, look{noScript: true})
	p := startProgram(t)
	b.signIn(t, p.base)
	b.do(t, chromedp.Click(`#refresh-token`), chromedp.WaitVisible(`.result.good`))
	if said := b.text(t, "#result"); !strings.HasSuffix(said, ": generation 2.") {
		t.Errorf("beside the button it says %q", said)
	}
	if shown := b.text(t, "#expiry"); !strings.HasSuffix(shown, "UTC") {
		t.Errorf("the expiry is shown as %q, without its zone", shown)
	}
	b.do(t, chromedp.Click(`form[action="/auth/signout"] button`), chromedp.WaitVisible(`a[data-provider="dev"]`))
}

func TestSigningOutByClickEndsAtTheSignInPage(t *testing.T) {
	t.Parallel()
	b := openTab(t, look{})
	p := startProgram(t)
	b.signIn(t, p.base)
	b.do(t, chromedp.Click(`form[action="/auth/signout"] button`), chromedp.WaitVisible(`a[data-provider="dev"]`))
}

func TestAnUnreachableKeyturnIsSaidBesideTheButton(t *testing.T) {
	t.Parallel()
	b := openTab(t, look{})
	p := startProgram(t)
	b.signIn(t, p.base)
	p.kill(t)
	b.do(t, chromedp.Click(`#refresh-token`))
	ask(t, b, chromedp.Poll[bool](`document.getElementById("result").textContent.includes("cannot be reached")`))
	p.again(t)
	b.do(t, chromedp.Click(`#refresh-token`))
	ask(t, b, chromedp.Poll[bool](`document.getElementById("generation").textContent === "2"`))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages = nil // the browser's own note of the failed request
}

func TestTheCountdownReachesItsEnd(t *testing.T) {
	t.Parallel()
	b := openTab(t, look{})
	p := startProgram(t, "--dev-token-lifetime", "4s")
	b.signIn(t, p.base)
	ask(t, b, chromedp.Poll[bool](`document.getElementById("token-card").dataset.state === "due"`))
	ask(t, b, chromedp.Poll[bool](`document.getElementById("token-card").dataset.state === "expired"`))
	if left, word := b.text(t, "#countdown"), b.text(t, "#state-badge .word"); left != "0:00" || word != "Expired" {
		t.Errorf("countdown %q, state %q", left, word)
	}
}

// TestPages looks at every page in every look: nothing sticks out sideways, no message on the console. With
// KEYTURN_TEST_SCREENSHOTS it writes pictures.
func TestPages(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	for name, l := range map[string]look{
		"light": {}, "dark": {dark: true}, "phone": {width: 390, height: 844}, "phone-dark": {width: 390, height: 844, dark: true}, "narrow": {width: 320, height: 700},
	} {
		t.Run(name, func(t *testing.T) {
			b := openTab(t, l)
			fits := func(page string) {
				t.Helper()
				b.shot(t, page+"-"+name)
				if wide := ask(t, b, chromedp.Evaluate[int](`document.documentElement.scrollWidth - document.documentElement.clientWidth`)); wide > 0 {
					t.Errorf("%s sticks out by %d pixels", page, wide)
				}
			}
			b.do(t, chromedp.Navigate(p.base), chromedp.WaitVisible(`main`))
			fits("sign-in")
			b.do(t, chromedp.Click(`a[data-provider="dev"]`), chromedp.WaitVisible(`button[value="alice"]`))
			fits("dev-provider")
			b.do(t, chromedp.Click(`button[value="alice"]`), chromedp.WaitVisible(`#token-card`))
			fits("first-visit")
			for n := range 3 {
				b.do(t, chromedp.Click(`#refresh-token`))
				ask(t, b, chromedp.Poll[bool](fmt.Sprintf(`document.getElementById("generation").textContent === "%d"`, n+2)))
			}
			fits("dashboard")
		})
	}
}
