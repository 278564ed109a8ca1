package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"keyturn/auth/authtest"
	"keyturn/auth/provider/scripted"
)

const shownGeneration = `document.getElementById("generation").textContent`

// watchGeneration notes in the page when it first shows a generation.
func watchGeneration(n int) string {
	return fmt.Sprintf(`new MutationObserver(() => {
		const shown = document.getElementById("generation");
		if (shown && shown.textContent === "%d") window.shownAt ??= Date.now();
	}).observe(document.body, {childList: true, subtree: true, characterData: true}); window.sameDocument = true`, n)
}

func TestARenewalShowsOnEveryOpenPage(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	b := openTab(t, look{})
	b.signIn(t, p.base)
	other := b.another(t)
	other.do(t, chromedp.Navigate(p.base+"/dashboard"), visible(`#token-card`))
	other.becomes(t, "the other tab is live", isLive)
	ask(t, other, chromedp.Evaluate[chromedp.Void](watchGeneration(2)))
	ask(t, b, chromedp.Evaluate[chromedp.Void](`document.addEventListener("htmx:after:swap", () => { window.clickedAt ??= Date.now() })`))
	b.do(t, click(`#refresh-token`))
	other.becomes(t, "the other tab shows it", `window.shownAt > 0`)
	b.becomes(t, "and so does this one", `window.clickedAt > 0`)
	took := ask(t, other, chromedp.Evaluate[int](`window.shownAt`)) - ask(t, b, chromedp.Evaluate[int](`window.clickedAt`))
	if took > 1000 {
		t.Errorf("the other tab showed the renewal %d ms after this one", took)
	}
	for what, script := range map[string]string{
		"it was not loaded again":          `window.sameDocument === true`,
		"the history has the renewal":      `document.querySelectorAll("#history tbody tr").length === 1`,
		"the timeline has two bars":        `document.querySelectorAll("#timeline .bar").length === 2`,
		"nobody here asked for it":         `document.getElementById("result").textContent.trim() === ""`,
		"the inspector looks into the new": `document.querySelector("#inspector .panel").dataset.generation === "2"`,
	} {
		other.becomes(t, what, script)
	}
	if said := b.text(t, "#result"); !strings.HasPrefix(said, "Rotated in ") {
		t.Errorf("in the tab that was clicked it says %q", said)
	}
}

func TestABackgroundRenewalShows(t *testing.T) {
	t.Parallel()
	p := startProgram(t, "--dev-token-lifetime=8s")
	b := openTab(t, look{})
	b.signIn(t, p.base)
	ask(t, b, chromedp.Evaluate[chromedp.Void](watchGeneration(2)))
	b.becomes(t, "the page shows it", `window.shownAt > 0 && window.sameDocument`)
	b.becomes(t, "the history tells its trigger", `document.querySelector("#history-recent tr").textContent.includes("background")`)
	issued := ask(t, b, chromedp.Evaluate[int](`Date.parse(document.getElementById("token-card").dataset.issuedAt)`))
	if took := ask(t, b, chromedp.Evaluate[int](`window.shownAt`)) - issued; took > 1000 {
		t.Errorf("it showed %d ms after the renewal", took)
	}
}

// With --renew-mode=on-demand nobody renews but a request: the page asks at the expiry.
func TestTheCountdownReachesZeroAndTheCardRenews(t *testing.T) {
	t.Parallel()
	p := startProgram(t, "--dev-token-lifetime=4s", "--renew-mode=on-demand")
	b := openTab(t, look{})
	b.signIn(t, p.base)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`window.sameDocument = true; window.states = new Set();
		new MutationObserver(() => window.states.add(document.getElementById("token-card").dataset.state)).observe(document.body, {subtree: true, attributes: true, childList: true})`))
	b.becomes(t, "the card went through due and expired to a new token", `states.has("due") && states.has("expired") && window.sameDocument
		&& Number(`+shownGeneration+`) > 1 && document.getElementById("token-card").dataset.state === "fresh"`)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`window.before = Number(`+shownGeneration+`)`))
	b.becomes(t, "and again", `Number(`+shownGeneration+`) > before`)
}

func TestAPageFindsItsWayBackAfterARestart(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	b := openLive(t, p)
	cookies := p.signedInAs(t, b)
	ask(t, b, chromedp.Evaluate[chromedp.Void](`window.sameDocument = true`))
	p.kill(t)
	b.becomes(t, "it says so", `document.getElementById("live-state").dataset.state === "off"`)
	p.again(t)
	if renewed := cookies.do(t, "POST", "/api/renew-token", nil); renewed.status != http.StatusOK {
		t.Fatalf("%d %s", renewed.status, renewed.body)
	}
	b.becomes(t, "live and right again", shownGeneration+` === "2" && window.sameDocument && document.getElementById("live-state").dataset.state === "on"`)
	b.deafen()
}

// signedInAs is a program with the cookies of a tab.
func (p *program) signedInAs(t testing.TB, b *tab) *person {
	t.Helper()
	got, err := chromedp.Call(b.Context, network.GetCookies, network.GetCookiesParams{URLs: []string{p.base}})
	if err != nil {
		t.Fatal(err)
	}
	var held []*http.Cookie
	for _, cookie := range got.Cookies {
		held = append(held, &http.Cookie{Name: cookie.Name, Value: cookie.Value})
	}
	return p.holding(t, held)
}

// holding is a program with the cookies of a browser.
func (p *program) holding(t testing.TB, cookies []*http.Cookie) *person {
	t.Helper()
	someone := p.person()
	u, err := url.Parse(p.base)
	if err != nil {
		t.Fatal(err)
	}
	someone.Jar.SetCookies(u, cookies)
	return someone
}

func TestSigningOutEndsTheOtherTabsToo(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	b := openTab(t, look{})
	b.signIn(t, p.base)
	other := b.another(t)
	other.do(t, chromedp.Navigate(p.base+"/dashboard"), visible(`#token-card`))
	other.becomes(t, "live", isLive)
	b.do(t, click(`form[action="/auth/signout"] button`), visible(`a[data-provider="dev"]`))
	other.do(t, visible(`a[data-provider="dev"]`))
	if said := other.text(t, ".note"); !strings.Contains(said, "has ended") {
		t.Errorf("the other tab says %q", said)
	}
}

// stream reads server-sent events.
type stream struct {
	lines  *bufio.Scanner
	header http.Header
	cancel context.CancelFunc
}

type sent struct{ event, id, data string }

func (b *person) listen(t testing.TB, header ...string) *stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, "GET", b.base+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	client := *b.Client
	client.Timeout = 0
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" || response.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%s: %v", response.Status, response.Header)
	}
	s := &stream{lines: bufio.NewScanner(response.Body), header: response.Header, cancel: cancel}
	s.lines.Buffer(nil, 4<<20)
	return s
}

// next is the next event, comments left out; ok is false at the end.
func (s *stream) next() (e sent, ok bool) {
	for s.lines.Scan() {
		name, value, _ := strings.Cut(s.lines.Text(), ": ")
		switch name {
		case "event":
			e.event = value
		case "id":
			e.id = value
		case "data":
			e.data += value + "\n"
		case "":
			if value == "" && e.data != "" {
				return e, true
			}
		}
	}
	return e, false
}

// ends reads until it is told that the session is over.
func (s *stream) ends(t testing.TB) {
	t.Helper()
	for {
		e, ok := s.next()
		if !ok {
			t.Fatal("the open page was not told")
		}
		if e.event == "signedout" {
			return
		}
	}
}

func TestAProgramIsToldOfRenewals(t *testing.T) {
	t.Parallel()
	p := startProgram(t)
	alice := p.person()
	alice.signIn(t, "alice")
	s := alice.listen(t)
	first, _ := s.next()
	var state map[string]any
	if err := json.Unmarshal([]byte(first.data), &state); err != nil || first.event != "token" || state["generation"] != 1.0 || state["state"] != "fresh" {
		t.Fatalf("%+v, %v", first, err)
	}
	began := time.Now()
	alice.do(t, "POST", "/api/renew-token", nil)
	renewal, _ := s.next()
	if took := time.Since(began); took > missed {
		t.Errorf("it took %v", took)
	}
	var row map[string]any
	if err := json.Unmarshal([]byte(renewal.data), &row); err != nil || renewal.event != "renewal" || row["trigger"] != "api" || row["generation"] != 2.0 || renewal.id == "" {
		t.Fatalf("%+v, %v", renewal, err)
	}
	if after, _ := s.next(); after.event != "token" || !strings.Contains(after.data, `"generation":2`) {
		t.Errorf("%+v", after)
	}
	s.cancel()
	alice.do(t, "POST", "/api/renew-token", nil)
	again := alice.listen(t, "Last-Event-ID", renewal.id)
	if missed, _ := again.next(); missed.event != "renewal" || !strings.Contains(missed.data, `"generation":3`) {
		t.Errorf("after a gap: %+v", missed)
	}
	if stranger := p.person().do(t, "GET", "/events", nil); stranger.status != http.StatusUnauthorized {
		t.Errorf("signed out: %d", stranger.status)
	}
	again.next()
	alice.do(t, "POST", "/auth/signout", nil)
	if end, _ := again.next(); end.event != "signedout" {
		t.Errorf("after the sign-out: %+v", end)
	}
	if more, ok := again.next(); ok {
		t.Errorf("after the end: %+v", more)
	}
}

// missed is longer than an event takes on a busy machine, and shorter than the time after which a stream looks by itself.
const missed = 8 * time.Second

// What another process does to a grant shows on the pages that this one serves.
func TestAnotherProcessRenewsAndEnds(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil, "--renew-mode=on-demand")
	second := p.twin(t)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	there := &person{Client: alice.Client, base: second.base}
	s := alice.listen(t)
	s.next()
	began := time.Now()
	there.do(t, "POST", "/api/renew-token", nil)
	if renewal, _ := s.next(); renewal.event != "renewal" || time.Since(began) > missed {
		t.Errorf("%+v after %v", renewal, time.Since(began))
	}
	s.next()
	began = time.Now()
	there.staying().do(t, "POST", "/auth/signout", nil)
	if end, _ := s.next(); end.event != "signedout" || time.Since(began) > missed {
		t.Errorf("%+v after %v", end, time.Since(began))
	}
}

func TestStreamsOutliveTheServersTimeOutsAndEndWithIt(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, func(idp *scripted.Provider) { idp.Class = scripted.Static })
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	s := alice.listen(t, "HX-Request", "true")
	time.Sleep(time.Duration(authtest.Soak(1, 33, 33)) * time.Second) // the server's bound on reading a request is 30 s
	alice.do(t, "POST", "/api/renew-token", nil)
	if e, ok := s.next(); !ok || !strings.Contains(e.data, `id="token-card"`) {
		t.Fatalf("%+v %v", e, ok)
	}
	if err := p.stop(t); err != nil {
		t.Errorf("an open stream held the end up: %v", err)
	}
}

func TestAStreamEndsWithItsSession(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil, "--session-lifetime=4s")
	// There sessions last longer, and idle away later: the end of this one is its own.
	later := launch(t, &program{dir: p.dir, args: p.args[:len(p.args)-1], log: &authtest.Buffer{}}, "localhost:0")
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	for name, s := range map[string]*stream{"where it began": alice.listen(t), "elsewhere": alice.at(later).listen(t)} {
		began := time.Now()
		s.ends(t)
		if took := time.Since(began); took > 9*time.Second {
			t.Errorf("%s: it was over after 4 s, and told so after %v", name, took)
		}
	}
}

// What an open page asks for by itself keeps the token fresh, and nobody's session alive.
func TestAPageThatNobodyTouchesIdlesAway(t *testing.T) {
	t.Parallel()
	p := startProgram(t, "--session-idle=4s", "--dev-token-lifetime=4s")
	b := openTab(t, look{})
	b.signIn(t, p.base)
	b.becomes(t, "it has renewed by itself", `Number(document.getElementById("generation").textContent) > 1`)
	b.deafen()
	b.do(t, visible(`a[data-provider="dev"]`))
}

// A program's stream does not keep its session alive either, opened again and again or not, and is told when that has idled away.
func TestAStreamIsToldThatItsSessionHasIdledAway(t *testing.T) {
	t.Parallel()
	p := startProgram(t, "--session-idle=3s")
	alice := p.person()
	alice.signIn(t, "alice")
	ended := make(chan time.Time, 1)
	s := alice.listen(t)
	go func() {
		for e, ok := s.next(); ok && e.event != "signedout"; e, ok = s.next() {
		}
		ended <- time.Now()
	}()
	eventually(t, "it has idled away", func() bool {
		_, end := alice.watch(t)
		end()
		return alice.do(t, "GET", "/api/session", nil, "Keyturn-Unattended", "1").status == http.StatusUnauthorized
	})
	gone := time.Now()
	if late := (<-ended).Sub(gone); late > 5*time.Second {
		t.Errorf("told %v later", late)
	}
}

// What is found out about a renewal when it is over: its id token is of a key that the provider does not have.
func TestALateWarningIsTold(t *testing.T) {
	t.Parallel()
	idp, p := atScripted(t, nil)
	alice := p.person()
	alice.do(t, "GET", "/auth/oidc", nil)
	program, page := alice.listen(t), alice.listen(t, "HX-Request", "true")
	program.next()
	idp.Change(func() {
		idp.Keys = func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Second)
			writeJSON(w, map[string]any{"keys": []any{map[string]any{ // RFC 7517 appendix A.1
				"kty": "EC", "crv": "P-256", "kid": "old",
				"x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
			}}})
		}
		idp.IDToken = func(signed string) string {
			parts := strings.Split(signed, ".")
			return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","kid":"new"}`)) + "." + parts[1] + "." + parts[2]
		}
	})
	alice.do(t, "POST", "/api/renew-token", nil)
	for name, s := range map[string]*stream{"a program": program, "a page": page} {
		for told := false; !told; {
			e, ok := s.next()
			if told = strings.Contains(e.data, "id_token_rejected"); !ok {
				t.Fatalf("%s was not told", name)
			}
		}
	}
}
