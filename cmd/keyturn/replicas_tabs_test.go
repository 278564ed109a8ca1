package main

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"keyturn/auth/provider/scripted"
)

// balanced is a browser's tab that comes to one of several replicas as a load balancer sends it there.
type balanced struct {
	*person
	host string // of the base URL
}

func (r *replicas) tab(t *testing.T, n int) balanced {
	t.Helper()
	return balanced{r.programs[n].person().staying(), parsedURL(t, r.front.URL).Host}
}

// get asks with a session's cookie, and returns that which the answer sets, or the same.
func (b balanced) get(t *testing.T, path, cookie string) (a answer, now string) {
	t.Helper()
	return b.ask(t, "GET", path, "", cookie)
}

func (b balanced) ask(t *testing.T, method, path, form, cookie string) (a answer, now string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, b.base+path, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	request.Host = b.host
	request.Header.Set("Cookie", cookie)
	if method == "POST" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := b.Transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	for _, set := range response.Cookies() {
		if set.Name == "keyturn_session" {
			cookie = set.Name + "=" + set.Value
		}
	}
	return answer{status: response.StatusCode, header: response.Header}, cookie
}

// beside asks while the test goes on.
func (b balanced) beside(t *testing.T, method, path, cookie string) <-chan answer {
	came := make(chan answer, 1)
	go func() {
		a, _ := b.ask(t, method, path, "", cookie)
		came <- a
	}()
	return came
}

// begin begins a sign-in, goes to the provider, and returns with what comes back from there.
func (b balanced) begin(t *testing.T, cookie string) (back, now string) {
	t.Helper()
	a, now := b.get(t, "/auth/oidc", cookie)
	returned := b.do(t, "GET", a.header.Get("Location"), nil)
	return parsedURL(t, returned.header.Get("Location")).RequestURI(), now
}

// No sticky sessions are needed for several tabs either: what they do at the same moment at two replicas is done.
func TestTabsOfOneBrowserAtTwoReplicas(t *testing.T) {
	t.Parallel()
	takeTurn(t)
	r := startReplicas(t, scripted.New(t), "")
	tabs := []balanced{r.tab(t, 0), r.tab(t, 1)}
	for range 10 {
		_, cookie := tabs[0].begin(t, "")
		var both sync.WaitGroup
		backs := make([]string, 2)
		for i, b := range tabs {
			both.Go(func() { backs[i], _ = b.begin(t, cookie) })
		}
		both.Wait()
		for n, back := range backs {
			var a answer
			if a, cookie = tabs[1-n].get(t, back, cookie); a.status != http.StatusSeeOther || a.header.Get("Location") != "/dashboard" {
				t.Fatalf("the sign-in of tab %d: %d", n+1, a.status)
			}
		}
		if a, _ := tabs[0].get(t, "/api/session", cookie); a.status != http.StatusOK {
			t.Fatalf("after both: %d", a.status)
		}
	}
}

// jar is where a browser keeps its session's cookie: what comes last counts, in all of its tabs.
type jar struct {
	mu     sync.Mutex
	cookie string
}

func (j *jar) swap(was, now string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if was != now {
		j.cookie = now
	}
}

func (j *jar) now() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.cookie
}

// comesBack goes with an answer of the provider wherever that leads, and returns where it ends.
func (j *jar) comesBack(t *testing.T, b balanced, back string, byPost bool) (status int, ends string) {
	t.Helper()
	method, path, form := "GET", back, ""
	if byPost {
		path, form, _ = strings.Cut(back, "?")
		method = "POST"
	}
	for {
		was := j.now()
		a, now := b.ask(t, method, path, form, was)
		j.swap(was, now)
		if path = a.header.Get("Location"); !strings.Contains(path, "/callback?") {
			return a.status, path
		}
		method, form = "GET", ""
	}
}

// leaveOneSession checks that as many sessions are left as there were browsers: a second one of the same would live on, and be renewed, with
// nobody to sign it out.
func (r *replicas) leaveOneSession(t *testing.T, b balanced, browser *jar, browsers int) {
	t.Helper()
	if a, _ := b.get(t, "/api/session", browser.now()); a.status != http.StatusOK {
		t.Errorf("browser %d is signed in: %d", browsers, a.status)
	}
	for _, what := range []string{"sessions WHERE grant_id <> ''", "grants"} {
		if n := r.count(t, what); n != browsers {
			t.Fatalf("%d %s after %d browsers", n, what, browsers)
		}
	}
}

func TestTabsThatComeBackAtOnceLeaveOneSession(t *testing.T) {
	t.Parallel()
	takeTurn(t)
	r := startReplicas(t, scripted.New(t), "")
	tabs := []balanced{r.tab(t, 0), r.tab(t, 1), r.tab(t, 2)}
	for round := range 4 {
		var browser jar
		var backs []string
		for _, b := range tabs {
			back, cookie := b.begin(t, browser.now())
			browser.swap("", cookie)
			backs = append(backs, back)
		}
		var all sync.WaitGroup
		for i, b := range tabs {
			all.Go(func() {
				if status, ends := browser.comesBack(t, b, backs[i], round%2 == 1); status != http.StatusSeeOther || ends != "/dashboard" {
					t.Errorf("round %d: tab %d ends with %d at %s", round, i+1, status, ends)
				}
			})
		}
		all.Wait()
		r.leaveOneSession(t, tabs[0], &browser, round+1)
	}
}

// A provider that is slow to give tokens for a code makes people begin once more.
func TestASignInThatBeginsWhileAnotherEndsLeavesOneSession(t *testing.T) {
	t.Parallel()
	takeTurn(t)
	idp := scripted.New(t)
	asked, held := make(chan bool, 9), make(chan bool)
	idp.Change(func() {
		idp.Asked = func(path string, _ url.Values) {
			if path == "/token" {
				asked <- true
				<-held
			}
		}
	})
	r := startReplicas(t, idp, "")
	one, two := r.tab(t, 0), r.tab(t, 1)
	var browser jar
	first, cookie := one.begin(t, "")
	browser.swap("", cookie)
	var both sync.WaitGroup
	for _, b := range []balanced{one, two} {
		back := first
		both.Go(func() {
			if status, ends := browser.comesBack(t, b, back, false); status != http.StatusSeeOther || ends != "/dashboard" {
				t.Errorf("it ends with %d at %s", status, ends)
			}
		})
		if b == one {
			<-asked
			first, _ = two.begin(t, browser.now())
		}
	}
	time.Sleep(time.Second) // for the second one to come
	close(held)
	both.Wait()
	r.leaveOneSession(t, one, &browser, 1)
}

// signsInAgain is somebody who is signed in, with a cookie, and has begun another sign-in, which comes back to again.
func (p *program) signsInAgain(t *testing.T) (b balanced, cookie, again string) {
	t.Helper()
	b = balanced{p.person().staying(), parsedURL(t, p.base).Host}
	back, cookie := b.begin(t, "")
	_, cookie = b.get(t, back, cookie)
	again, cookie = b.begin(t, cookie)
	return b, cookie, again
}

// Who signs out waits for no sign-in that is under way in the same browser, and stays signed out when that comes to its end.
func TestASignOutEndsTheSignInThatIsUnderWay(t *testing.T) {
	t.Parallel()
	asked, held := make(chan bool, 9), make(chan bool)
	idp, p := atScripted(t, nil, anyAdmin)
	b, cookie, again := p.signsInAgain(t)
	idp.Change(func() {
		idp.Asked = func(path string, _ url.Values) {
			if path == "/token" {
				asked <- true
				<-held
			}
		}
	})
	came := b.beside(t, "GET", again, cookie)
	<-asked
	if a, _ := b.ask(t, "POST", "/auth/signout", "", cookie); a.status != http.StatusSeeOther {
		t.Errorf("the sign-out: %d", a.status)
	}
	close(held)
	a := <-came
	for _, set := range a.header.Values("Set-Cookie") {
		if strings.HasPrefix(set, "keyturn_session=") {
			t.Errorf("the sign-in sets %s", set)
		}
	}
	if a.status != http.StatusSeeOther {
		t.Errorf("the sign-in ends with %d", a.status)
	}
	if n := p.count(t, "grants") + p.count(t, "sessions WHERE grant_id <> ''"); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	eventually(t, "what the late sign-in brought is revoked", func() bool { return len(idp.Revoked()) == 2 })
	if counted := `keyturn_sign_ins_total{outcome="failed",provider="oidc"} 1`; !strings.Contains(scrape(t, p), counted) {
		t.Errorf("the metrics hold no %s", counted)
	}
}

// The sign-in may also come to its end while the sign-out waits for the provider.
func TestASignOutEndsTheSignInThatEndsMeanwhile(t *testing.T) {
	t.Parallel()
	revoking, held := make(chan bool, 9), make(chan bool)
	idp, p := atScripted(t, nil)
	b, cookie, again := p.signsInAgain(t)
	idp.Change(func() {
		idp.Revocation = func(http.ResponseWriter) bool {
			revoking <- true
			<-held
			return false
		}
	})
	out := b.beside(t, "POST", "/auth/signout", cookie)
	<-revoking
	came := b.beside(t, "GET", again, cookie)
	if a := <-out; a.status != http.StatusSeeOther || a.header.Get("Location") != "/" {
		t.Errorf("the sign-out: %d to %q", a.status, a.header.Get("Location"))
	}
	close(held)
	if a := <-came; a.status != http.StatusSeeOther {
		t.Errorf("the sign-in ends with %d", a.status)
	}
	if n := p.count(t, "grants") + p.count(t, "sessions WHERE grant_id <> ''"); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

// What a tab shows of the grant that a sign-in in another tab has replaced ends at once, and the tab goes where its browser is signed in,
// though it may be quicker than the answer with the new cookie.
func TestATabGoesOnWhenAnotherSignsIn(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil)
	b, former, again := p.signsInAgain(t)
	_, now := b.get(t, again, former)
	for _, path := range []string{"/?ended=1", "/dashboard"} {
		a, _ := b.get(t, path, former)
		if to := a.header.Get("Location"); a.status != http.StatusSeeOther || !strings.Contains(to, onceMoreMark) {
			t.Fatalf("%s with the former cookie: %d to %q", path, a.status, to)
		}
		if a, _ = b.get(t, a.header.Get("Location"), now); path == "/?ended=1" && a.header.Get("Location") != "/dashboard" {
			t.Errorf("%s with the new one: %d to %q", path, a.status, a.header.Get("Location"))
		}
	}
}

const onceMoreMark = "once_more=1"

// count counts rows of the database.
func (r *replicas) count(t *testing.T, what string) (n int) {
	t.Helper()
	db, err := pgx.Connect(t.Context(), r.database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(t.Context())
	if err := db.QueryRow(t.Context(), "SELECT count(*) FROM "+what).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A tab that begins a sign-in at one replica while another signs in at the other does not take the new session's name away.
func TestALateAnswerLeavesTheNewSessionItsName(t *testing.T) {
	t.Parallel()
	takeTurn(t)
	idp := scripted.New(t)
	r := startReplicas(t, idp, "")
	one, other := r.tab(t, 0), r.tab(t, 1)
	back, former := one.begin(t, "")
	asked, held := make(chan bool, 99), make(chan bool)
	release := sync.OnceFunc(func() { close(held) })
	t.Cleanup(release)
	idp.Change(func() { idp.Document = func(map[string]any) { asked <- true; <-held } })
	second := r.programs[1]
	if err := second.stop(t); err != nil {
		t.Fatal(err)
	}
	second.again(t)
	eventually(t, "it is about to discover the provider", func() bool { return len(asked) > 0 })
	late := make(chan answer)
	go func() {
		a, _ := other.get(t, "/auth/oidc", former)
		late <- a
	}()
	time.Sleep(300 * time.Millisecond) // it waits for that
	_, now := one.get(t, back, former)
	release()
	if a := <-late; a.status != http.StatusSeeOther || len(a.header.Values("Set-Cookie")) != 0 {
		t.Errorf("the late answer: %d, sets %v", a.status, a.header.Values("Set-Cookie"))
	}
	if a, _ := one.get(t, "/api/session", now); a.status != http.StatusOK || now == former {
		t.Errorf("the new session: %d", a.status)
	}
	for _, path := range []string{"/auth/oidc", back} {
		if a, set := other.get(t, path, former); !strings.Contains(a.header.Get("Location"), onceMoreMark) || set != former {
			t.Errorf("%s with the former name at the other replica: %d to %s", path, a.status, a.header.Get("Location"))
		}
	}
}
