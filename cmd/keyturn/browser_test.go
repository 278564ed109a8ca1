package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"keyturn/auth/authtest"
)

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
	script        string // run before any script of a page
}

// tab is a browser with one tab, and what its console said.
type tab struct {
	context.Context
	look     look
	mu       sync.Mutex
	messages []string
}

// openTab starts a browser that fails the test by any message of its console: an error there is a defect.
func openTab(t testing.TB, l look) *tab {
	t.Helper()
	path := chromium()
	authtest.Require(t, "chromium", path != "")
	if l.width == 0 {
		l.width, l.height = 1280, 900
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-gpu", true))
	allocator, cancelAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancelAllocator)
	return newTab(t, allocator, l)
}

// another opens one more tab of the same browser.
func (b *tab) another(t testing.TB) *tab {
	t.Helper()
	return newTab(t, b.Context, b.look)
}

func newTab(t testing.TB, parent context.Context, l look) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(parent)
	ctx, cancelTime := context.WithTimeout(ctx, time.Minute)
	b := &tab{Context: ctx, look: l}
	t.Cleanup(func() {
		cancelTime()
		cancel()
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
	if l.script != "" {
		protocol(t, ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: l.script})
	}
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

// silence forgets what the console said: the browser itself notes each request that fails.
func (b *tab) silence() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages = nil
}

// becomes waits for a script to be true.
func (b *tab) becomes(t testing.TB, what, script string) {
	t.Helper()
	if _, err := chromedp.Run(b.Context, chromedp.Poll[bool](script, chromedp.WithPollingTimeout(15*time.Second))); err != nil {
		t.Fatalf("not so: %s: %v", what, err)
	}
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
