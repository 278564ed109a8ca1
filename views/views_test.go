package views

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"
	"golang.org/x/net/html"
)

func render(t *testing.T, view templ.Component) string {
	t.Helper()
	var b bytes.Buffer
	if err := view.Render(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func card(t TokenCard) templ.Component { return tokenCard(t, false) }

const hostile = `<script>alert(1)</script>" onmouseover="x`

func hostileDashboard(state string) DashboardPage {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return DashboardPage{
		Person: Person{Name: hostile, Email: hostile, Subject: hostile, Provider: hostile},
		Token: TokenCard{
			State: state, Now: now, IssuedAt: now, ExpiresAt: now.Add(2 * time.Minute), DueAt: now.Add(time.Minute), Generation: 7,
			Renewable: state == "fresh" || state == "due", SignInURL: "/auth/work", Result: &Result{Text: hostile, Whose: "provider", Kept: true, NextTryAt: now.Add(106 * time.Second)},
		},
		Grant:    GrantFacts{Issuer: hostile, Provider: hostile, Scope: []string{hostile}},
		History:  History{Recent: []HistoryRow{{At: now, Trigger: "manual", Outcome: "kept", ErrorCode: hostile, Means: hostile, Warning: hostile, OldToken: "aaaaaa", NewToken: "aaaaaa"}}},
		Timeline: Timeline{Now: now, Bars: []Bar{{Generation: 7, Trigger: "manual", Outcome: "rotated", IssuedAt: now, ExpiresAt: now.Add(2 * time.Minute)}}, Marks: []Mark{{At: now, Code: hostile}}},
	}
}

// inline lists what a strict Content-Security-Policy would refuse.
func inline(t *testing.T, page string) (found []string) {
	t.Helper()
	tokens := html.NewTokenizer(strings.NewReader(page))
	for kind := tokens.Next(); kind != html.ErrorToken; kind = tokens.Next() {
		token := tokens.Token()
		script := token.Data == "script" && kind == html.StartTagToken
		for _, a := range token.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || strings.HasPrefix(a.Key, "hx-on") || strings.HasPrefix(a.Val, "js") {
				found = append(found, token.String())
			}
			script = script && a.Key != "src"
		}
		if script || token.Data == "style" {
			found = append(found, token.String())
		}
	}
	return found
}

func TestForeignTextIsShownSafely(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"fresh", "due", "expired", "needs_sign_in"} {
		for name, page := range map[string]string{
			"dashboard": render(t, Dashboard(hostileDashboard(state))),
			"sign-in":   render(t, SignIn(SignInPage{Problem: &Problem{Title: hostile, Detail: hostile, Next: hostile}, Providers: []ProviderButton{{Name: hostile, Label: hostile, URL: "/auth/x"}}})),
			"error":     render(t, Error(ErrorPage{Status: 400, Problem: Problem{Title: hostile, Detail: hostile}, Action: "/"})),
			"notice":    render(t, Notice(Problem{Title: hostile})),
			"dev":       render(t, DevSignIn(DevSignInPage{Action: "/x", AuthRequestID: hostile, ClientName: hostile, People: []DevPerson{{hostile, hostile, hostile}}})),
		} {
			if found := inline(t, page); found != nil {
				t.Errorf("%s, %s: %q", name, state, found)
			}
		}
	}
}

// A sentence of Keyturn's goes from left to right, also if it begins with the name of a provider that does not.
func TestSentencesGoFromLeftToRight(t *testing.T) {
	t.Parallel()
	const said = "\u2068مزود\u2069 cannot be reached."
	problem := Problem{Title: said, Detail: said}
	for name, c := range map[string]struct {
		view  templ.Component
		times int
	}{
		"failed":   {card(TokenCard{State: "fresh", Result: &Result{Text: said, Whose: "provider"}}), 1},
		"said":     {card(TokenCard{State: "fresh", Result: &Result{Text: said}}), 1},
		"no token": {card(TokenCard{State: "fresh", NoToken: said}), 1},
		"notice":   {Notice(problem), 2},
		"error":    {Error(ErrorPage{Problem: problem, Action: "/"}), 2},
		"try it":   {ExchangeAnswer(Exchange{Error: said}, false), 1},
		"asked":    {IntrospectionAnswer(Introspection{Error: said}, begin), 1},
	} {
		if html := render(t, c.view); strings.Count(html, `<bdi dir="ltr">`+said+"</bdi>") != c.times {
			t.Errorf("%s: %s", name, html)
		}
	}
}

func TestEachStateHasAWordAndAShape(t *testing.T) {
	t.Parallel()
	for state, want := range map[string][]string{
		"fresh": {"●", "Fresh", `id="refresh-token"`}, "due": {"◐", "Due", `id="refresh-token"`}, "expired": {"○", "Expired"},
		"needs_sign_in": {"⚑", "Needs sign-in", `id="sign-in-again"`, `href="/auth/work"`},
	} {
		html := render(t, card(hostileDashboard(state).Token))
		for _, text := range want {
			if !strings.Contains(html, text) {
				t.Errorf("%s: no %q", state, text)
			}
		}
	}
}

func TestAnExpiryIsNotAheadForever(t *testing.T) {
	t.Parallel()
	for away, want := range map[time.Duration]string{time.Second: "<dt>Expires</dt>", 0: "<dt>Expired</dt>"} {
		if html := render(t, card(TokenCard{State: "due", Now: begin, ExpiresAt: begin.Add(away)})); !strings.Contains(html, want) {
			t.Errorf("%v before: no %s in %s", away, want, html)
		}
	}
}

// How long the token lasts is said where nothing is tried before its end; what to do comes last.
func TestAFailureSaysWhatComesNext(t *testing.T) {
	t.Parallel()
	soon, end, late := begin.Add(30*time.Second), begin.Add(time.Minute), begin.Add(5*time.Minute)
	for want, r := range map[string]Result{
		"X. The token stays in use. Keyturn tries again in 30 s.":                      {Kept: true, NextTryAt: soon},
		"X. The token stays in use. Keyturn tries again in 1 min.":                     {Kept: true, NextTryAt: end},
		"X. The token stays in use until it expires. Keyturn tries again in 5 min.":    {Kept: true, NextTryAt: late},
		"X. The token stays in use until it expires. Sign in again.":                   {Kept: true, SignIn: true},
		"X. Keyturn tries again at the first request from 1 Mar 2016 12:00:30 UTC on.": {NextTryAt: soon.AddDate(-10, 0, 0), OnRequest: true},
		"X. Sign in again.": {SignIn: true},
	} {
		whose := "The operator&#39;s matter, not your doing: "
		if r.Text, r.Whose = "X.", "operator"; r.SignIn {
			r.Whose, whose = "you", "For you to do: "
		}
		said := regexp.MustCompile(`<[^>]*>`).ReplaceAllString(render(t, failure(r, TokenCard{Now: begin, ExpiresAt: end})), "")
		if strings.TrimSpace(said) != "Not renewed. "+whose+want {
			t.Errorf("%q, want %q", said, want)
		}
	}
}

func TestATokenThatCannotBeRenewedSaysSoInItsState(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]string{
		"fresh": "the token is good until it expires", "needs_sign_in": "The token has expired, and this provider gave no refresh token",
	} {
		if html := render(t, card(TokenCard{State: state, SignInURL: "/auth/work"})); strings.Count(html, "no refresh token") != 1 || !strings.Contains(html, want) {
			t.Errorf("%s: no %q in\n%s", state, want, html)
		}
	}
}

func TestTheButtonIsAFormToo(t *testing.T) {
	t.Parallel()
	html := render(t, card(hostileDashboard("fresh").Token))
	const target = `"/api/trigger-renew-token?query=update-token-data"`
	for _, text := range []string{`method="post"`, "action=" + target, "hx-post=" + target, `hx-target="#token-card"`, `data-expires-at="2026-03-01T12:02:00Z"`, ">2:00<"} {
		if !strings.Contains(html, text) {
			t.Errorf("no %s in\n%s", text, html)
		}
	}
}

func TestAFragmentSwapsWhatARenewalChanges(t *testing.T) {
	t.Parallel()
	page := hostileDashboard("fresh")
	for live, want := range map[bool]int{false: 8, true: 9} {
		html := render(t, Renewed(page.Token, page.Grant, page.Timeline, page.History, live))
		if n := strings.Count(html, `hx-swap-oob="true"`) + strings.Count(html, "<hx-partial "); n != want || strings.Contains(html, "<html") {
			t.Errorf("live %v: %d parts, want %d", live, n, want)
		}
	}
	if strings.Contains(render(t, Dashboard(page)), "hx-swap-oob") {
		t.Error("the whole page swaps parts")
	}
}

// During a rolling upgrade the events of a page may come from the version before, which swaps a table of its own, out of band, into what has that id.
func TestAnEarlierVersionSwapsNotTheTableThatIsAskedFor(t *testing.T) {
	t.Parallel()
	if html := render(t, Dashboard(hostileDashboard("fresh"))); strings.Contains(html, `id="timeline-table"`) || !strings.Contains(html, `id="generations-table"`) {
		t.Error("the table has the id of the version before, or none")
	}
}

func TestAScopeIsShownWhole(t *testing.T) {
	t.Parallel()
	long := "https://www.googleapis.com/auth/calendar.events.readonly/" + strings.Repeat("ä", 90)
	page := render(t, Dashboard(DashboardPage{Grant: GrantFacts{Scope: []string{long, strings.Repeat("ö", 300)}}}))
	for _, text := range []string{"<bdi>" + long + "</bdi>", "<bdi>" + strings.Repeat("ö", chipRunes) + "…</bdi>"} {
		if !strings.Contains(page, text) {
			t.Errorf("no %s", text)
		}
	}
}

func TestAFirstVisitIsExplained(t *testing.T) {
	t.Parallel()
	page := hostileDashboard("fresh")
	page.History.Recent = nil
	if html := render(t, Dashboard(page)); !strings.Contains(html, "Each renewal adds a row") {
		t.Error("the empty history explains nothing")
	}
	page.Token.Renewable = false
	if html := render(t, Dashboard(page)); !strings.Contains(html, "Nothing renews this sign-in") || strings.Contains(html, "Refresh Token</strong>") {
		t.Error("what cannot be renewed is to be clicked")
	}
}

func TestTheGrantSaysUntilWhenARefreshTokenIsGood(t *testing.T) {
	t.Parallel()
	for want, g := range map[string]GrantFacts{
		"none given": {}, "not said": {RefreshGiven: true}, "no end": {RefreshGiven: true, RefreshNeverExpires: true},
		"1 Mar 2026 12:00:00 UTC": {RefreshGiven: true, RefreshExpiresAt: begin},
	} {
		if html := render(t, refreshUntil(g, begin, false)); !strings.Contains(html, want) {
			t.Errorf("no %q in %s", want, html)
		}
	}
}

// A day alone does not say of which year it is.
func TestTimesFarOffHaveAYear(t *testing.T) {
	t.Parallel()
	for away, year := range map[time.Duration]bool{0: false, 200 * 24 * time.Hour: false, 365 * 24 * time.Hour: true, -365 * 24 * time.Hour: true} {
		at := begin.Add(away)
		if got := strings.Contains(render(t, instant(at, "datetime", begin)), at.UTC().Format("Jan 2006 15:04:05")+" UTC</time>"); got != year {
			t.Errorf("%v away: with a year %v", away, got)
		}
	}
}

// Without its day, the expiry of a token that lives for a day is when it was issued.
func TestTimesOfAnotherDayHaveADay(t *testing.T) {
	t.Parallel()
	for away, day := range map[time.Duration]bool{0: false, 24 * time.Hour: true, -24 * time.Hour: true} {
		at := begin.Add(away)
		if got := strings.Contains(render(t, instant(at, "time", begin)), at.UTC().Format("2 Jan 15:04:05")+" UTC</time>"); got != day {
			t.Errorf("%v away: with a day %v", away, got)
		}
	}
}

func TestValuesAreShownAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, row := range ClaimsOf(map[string]any{"groups": []any{"R&D", "a<b"}, "object": map[string]any{"a>b": nil}}, nil) {
		if want := map[string]string{"groups": `["R&D","a<b"]`, "object": `{"a>b":null}`}[row.Name]; row.Value != want {
			t.Errorf("%s is shown as %s", row.Name, row.Value)
		}
	}
	for value, want := range map[any]string{
		"true": `"true"`, true: "true", "null": `"null"`, nil: "null", "1e3": `"1e3"`, json.Number("1e3"): "1e3", "": `""`, " \t": `" \t"`,
		`"a"`: `"\"a\""`, `{"a":1}`: `"{\"a\":1}"`, "a": "a", "1 a": "1 a", "{a}": "{a}",
	} {
		if row := ClaimsOf(map[string]any{"x": value}, nil)[0]; row.Value != want {
			t.Errorf("%#v is shown as %s", value, row.Value)
		}
	}
	if value := ClaimsOf(map[string]any{"x": "a\u202Egnp.exe\x00\u200B\u00AD\U000E0041 👩‍💻\n"}, nil)[0].Value; value != "a⟨U+202E⟩gnp.exe⟨U+0000⟩⟨U+200B⟩⟨U+00AD⟩⟨U+E0041⟩ 👩‍💻\n" {
		t.Errorf("what cannot be seen is shown as %q", value)
	}
	long := ClaimsOf(map[string]any{"x": []any{strings.Repeat("a", 70)}}, nil)[0].Value
	if !strings.HasPrefix(long, "[\n  \"") {
		t.Errorf("a long one: %s", long)
	}
}

func TestWhatTheProviderSaysOfATokenInASentence(t *testing.T) {
	t.Parallel()
	for want, said := range map[string]Introspection{
		"The provider says: active":                    {Claims: ClaimsOf(map[string]any{"active": true, "sub": "alice"}, nil)},
		"The provider says: not active":                {Claims: ClaimsOf(map[string]any{"active": false}, nil)},
		"The provider's matter. It cannot be reached.": {Error: "It cannot be reached.", Whose: "provider"},
	} {
		if got := said.said(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestManySessionsAreShownOnDemand(t *testing.T) {
	t.Parallel()
	list := make([]SessionRow, 7)
	page := render(t, SessionList(list, false, begin))
	first, rest, _ := strings.Cut(page, "<details")
	if strings.Count(first, "<li>") != 5 || strings.Count(rest, "<li>") != 2 || !strings.Contains(rest, "2 more</summary>") {
		t.Error(page)
	}
	if page := render(t, SessionList(list[:5], false, begin)); strings.Contains(page, "<details") {
		t.Error(page)
	}
}

func TestThePeopleOfTheDevProviderHaveWholeInitials(t *testing.T) {
	t.Parallel()
	page := render(t, DevSignIn(DevSignInPage{People: []DevPerson{{Label: "Örjan"}}}))
	if !strings.Contains(page, ">Ö</span>") {
		t.Error(page)
	}
}

// A claim that is explained by its own name is not explained.
func TestMeaningsSayMoreThanNames(t *testing.T) {
	t.Parallel()
	for _, m := range meanings {
		if m.text == m.name {
			t.Errorf("%s is explained by itself", m.name)
		}
	}
}

// What is left in words and the countdown beside it are the same number of seconds.
func TestWaitsCountWholeSeconds(t *testing.T) {
	t.Parallel()
	for away, want := range map[time.Duration]string{
		119*time.Second - time.Millisecond: "in 1 min 58 s", 119 * time.Second: "in 1 min 59 s", 999 * time.Millisecond: "now",
		-1999 * time.Millisecond: "1 s ago", 400 * 24 * time.Hour: "in 1 y 35 d", 365 * 24 * time.Hour: "in 1 y", -364 * 24 * time.Hour: "364 d ago",
	} {
		if got := relative(begin.Add(away), begin); got != want {
			t.Errorf("%v away: %s, want %s", away, got, want)
		}
	}
}
