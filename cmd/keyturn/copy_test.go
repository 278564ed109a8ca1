package main

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// A browser may hold that a click is over when the token is there, or not know how to take what is not there yet.
func TestBrowsersCopyInTheirWays(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		// While it lasts, there is no time for an answer.
		"within the click": `let clicking = false;
			addEventListener("click", () => { clicking = true; setTimeout(() => { clicking = false; }); }, true);
			Clipboard.prototype.write = async ([item]) => {
				if (!clicking) throw new DOMException("too late", "NotAllowedError");
				window.copied = await (await item.getType("text/plain")).text();
			};
			Clipboard.prototype.writeText = async () => { throw new DOMException("too late", "NotAllowedError"); };`,
		"text only": `delete window.ClipboardItem; Clipboard.prototype.writeText = async (text) => { window.copied = text; }`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProgram(t)
			b := openTab(t, look{script: script})
			b.signIn(t, p.base)
			b.do(t, click(`#copy`))
			b.becomes(t, "it says so", `document.getElementById("copy").textContent === "Copied"`)
			copied := ask(t, b, chromedp.Evaluate[string](`window.copied`))
			if copied != tokensOf(t, p.signedInAs(t, b))["access"] {
				t.Errorf("copied %d characters, want the token", len(copied))
			}
		})
	}
}

// Why there is nothing to paste is there to read for as long as one needs.
func TestAFailedCopySaysWhy(t *testing.T) {
	t.Parallel()
	answers := func(status string) string {
		return `const was = fetch; window.fetch = async (url, ...rest) => String(url).endsWith("/reveal") ? new Response("", { status: ` + status + ` }) : was(url, ...rest)`
	}
	for name, c := range map[string]struct{ script, want string }{
		"the browser": {
			`for (const f of ["write", "writeText"]) Clipboard.prototype[f] = () => Promise.reject(new DOMException("no", "NotAllowedError"))`,
			"could not be copied. Reveal it",
		},
		"the session is over":          {answers("401"), "no longer current. Reload it"},
		"something in between is away": {answers("503"), "cannot do that now. Try again"},
		"it was asked for too often":   {"", "You asked for this too often. Try again in "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, p := atScripted(t, nil, "--limit-reveal=1/h")
			b := openTab(t, look{script: c.script})
			b.atScripted(t, p)
			if c.script == "" {
				p.signedInAs(t, b).do(t, "POST", "/dashboard/tokens/access/reveal", nil)
			}
			b.do(t, click(`#copy`), visible(`#notice .problem`))
			if said := b.text(t, "#notice"); !strings.Contains(said, c.want) {
				t.Errorf("it says %q", said)
			}
			if c.script == "" {
				b.silence() // the browser notes the status
			}
		})
	}
}
