package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"keyturn/auth/authtest"
)

// chromium is the browser that there is. The same one without its windows does with a third of the work.
func chromium() string {
	for _, name := range []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"} {
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
	script        string // run before any script of a page
}

// tab is a tab of a browser, and what went wrong in it.
type tab struct {
	context.Context
	look     look
	mu       sync.Mutex
	messages []string
	deaf     bool
}

// theBrowser is started once for all tests.
var theBrowser = sync.OnceValues(func() (context.Context, error) {
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium()), chromedp.NoSandbox,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-gpu", true),
		chromedp.Flag("host-resolver-rules", "MAP keyturn.test 127.0.0.1"))
	allocator, _ := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, _ := chromedp.NewContext(allocator)
	atTheEnd(func() { closeBrowser(ctx) })
	return ctx, chromedp.Do(ctx)
})

// openTab opens a tab with cookies of its own, as another browser would have. It fails the test by any warning and error that its browser
// notes or a script writes to its console, and by what a script throws and nobody catches.
func openTab(t testing.TB, l look) *tab {
	t.Helper()
	authtest.Require(t, "chromium", chromium() != "")
	if authtest.Race {
		t.Skip("a browser beside a program that the race detector slows down gets no processor in time")
	}
	takeTurn(t)
	if l.width == 0 {
		l.width, l.height = 1280, 900
	}
	return newTab(t, l, chromedp.WithNewBrowserContext())
}

// another opens one more tab of the same browser.
func (b *tab) another(t testing.TB) *tab {
	t.Helper()
	return newTab(t, b.look, chromedp.WithExistingBrowserContext(chromedp.FromContext(b.Context).BrowserContextID))
}

func newTab(t testing.TB, l look, where chromedp.ContextOption) *tab {
	t.Helper()
	parent, err := theBrowser()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := chromedp.NewContext(parent, where)
	ctx, cancelTime := context.WithTimeout(ctx, 100*time.Second)
	b := &tab{Context: ctx, look: l}
	t.Cleanup(func() {
		cancelTime()
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, message := range b.messages {
			t.Errorf("in the browser: %s", message)
		}
	})
	b.do(t, chromedp.EmulateViewport(l.width, l.height))
	protocol(t, ctx, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	scheme := "light"
	if l.dark {
		scheme = "dark"
	}
	protocol(t, ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	})
	protocol(t, ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: l.noScript})
	protocol(t, ctx, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Europe/Paris"})
	if l.script != "" {
		protocol(t, ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: l.script})
	}
	hear(b, log.EntryAdded, func(event log.EventEntryAdded) string {
		if level := event.Entry.Level; level == log.EntryLevelWarning || level == log.EntryLevelError {
			return fmt.Sprintf("%s: %s (%s)", level, event.Entry.Text, event.Entry.URL)
		}
		return ""
	})
	hear(b, runtime.ConsoleAPICalled, func(event runtime.EventConsoleAPICalled) string {
		switch event.Type {
		case runtime.ConsoleAPICalledTypeWarning, runtime.ConsoleAPICalledTypeError, runtime.ConsoleAPICalledTypeAssert:
			return fmt.Sprintf("%s: %s", event.Type, spelt(event.Args...))
		default:
			return ""
		}
	})
	hear(b, runtime.ExceptionThrown, func(event runtime.EventExceptionThrown) string {
		return event.ExceptionDetails.Text + " " + spelt(event.ExceptionDetails.Exception)
	})
	protocol(t, ctx, log.Enable, cdp.Empty{})
	protocol(t, ctx, runtime.Enable, cdp.Empty{})
	return b
}

// hear notes what is wrong by events of the tab's page, unless that is nothing.
func hear[E any](b *tab, kind cdp.Event[E], wrong func(E) string) {
	events := chromedp.Events(b.Context, kind)
	go func() {
		for event, err := range events {
			if err != nil {
				return
			}
			if said := wrong(event); said != "" {
				b.note(said)
			}
		}
	}()
}

// spelt is what values of a page are, as text.
func spelt(values ...*runtime.RemoteObject) string {
	var words []string
	for _, v := range values {
		if v != nil {
			words = append(words, string(v.Value)+v.Description)
		}
	}
	return strings.Join(words, " ")
}

// silence forgets what the console said: the browser itself notes each request that fails.
func (b *tab) silence() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages = nil
}

// deafen silences the console for good: the browser notes the end of a stream late.
func (b *tab) deafen() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages, b.deaf = nil, true
}

// becomes waits for a script to be true.
func (b *tab) becomes(t testing.TB, what, script string) {
	t.Helper()
	if _, err := chromedp.Run(b.Context, chromedp.Poll[bool](script, often, chromedp.WithPollingTimeout(20*time.Second))); err != nil {
		where, _ := chromedp.Run(b.Context, chromedp.Evaluate[string](`location.pathname + ", at " + document.activeElement?.outerHTML.slice(0, 400)`))
		t.Fatalf("not so: %s: %v\non %s", what, err, where)
	}
}

// often is how often a condition is looked at. The library's own pace, with every frame, keeps a processor busy.
var often = chromedp.WithPollingInterval(50 * time.Millisecond)

// visible waits until an element is there to be seen.
func visible(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.WaitVisible(chromedp.CSS(selector), chromedp.RetryInterval(50*time.Millisecond))
}

// takenUp tells of an element, as a JavaScript expression, that htmx has taken up what it is to do with it, if anything.
const takenUp = `(e => !e || !window.htmx || e._htmx?.initialized)((%s)?.closest("[hx-get], [hx-post]"))`

// click clicks an element once it is there to be seen, and htmx has taken it up: before that, it would load a page.
func click(selector string) chromedp.Action[chromedp.Void] {
	seen, ready := visible(selector), fmt.Sprintf(takenUp, fmt.Sprintf("document.querySelector(%q)", selector))
	return func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		if done, err := seen(ctx, target); err != nil {
			return done, err
		}
		if _, err := chromedp.Poll[bool](ready, often, chromedp.WithPollingTimeout(20*time.Second))(ctx, target); err != nil {
			return chromedp.Void{}, fmt.Errorf("htmx and %s: %w", selector, err)
		}
		return chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible, chromedp.RetryInterval(50*time.Millisecond))(ctx, target)
	}
}

// protocol sends one command of the browser's protocol.
func protocol[P, R any](t testing.TB, ctx context.Context, c cdp.Command[P, R], params P) {
	t.Helper()
	if _, err := chromedp.Call(ctx, c, params); err != nil {
		t.Fatal(err)
	}
}

func (b *tab) note(message string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.deaf {
		b.messages = append(b.messages, message)
	}
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
	return strings.TrimSpace(ask(t, b, chromedp.Text(chromedp.CSS(selector), chromedp.RetryInterval(50*time.Millisecond))))
}

// shot writes a picture when KEYTURN_TEST_SCREENSHOTS names a folder, which need not be there.
func (b *tab) shot(t testing.TB, name string) {
	t.Helper()
	dir := os.Getenv("KEYTURN_TEST_SCREENSHOTS")
	if dir == "" {
		return
	}
	picture := ask(t, b, chromedp.FullScreenshot(100))
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// signIn signs in by clicking, at the embedded provider.
func (b *tab) signIn(t testing.TB, base string) {
	t.Helper()
	b.do(t, chromedp.Navigate(base), click(`a[data-provider="dev"]`),
		click(`button[value="alice"]`), visible(`#token-card`))
}

// What a script of a page does wrong would else stay in a console that nobody looks at.
func TestWhatGoesWrongInAPageIsHeard(t *testing.T) {
	t.Parallel()
	b := openTab(t, look{script: `console.info("fine"); console.warn("odd", {}); console.error("bad"); Promise.reject(new Error("left")); setTimeout(() => { throw new TypeError("thrown"); });`})
	b.do(t, chromedp.Navigate("data:text/html,"))
	heard := func() string {
		b.mu.Lock()
		defer b.mu.Unlock()
		slices.Sort(b.messages)
		return strings.Join(b.messages, "\n")
	}
	want := regexp.MustCompile(`(?s)^Uncaught .*Error: left.*\nUncaught TypeError: thrown.*\nerror: "bad"\nwarning: "odd" Object$`)
	eventually(t, "each is noted, and nothing else", func() bool { return want.MatchString(heard()) })
	b.silence()
}
