package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"keyturn/auth/authtest"
	"keyturn/auth/provider/scripted"
	"keyturn/auth/vault/postgres/pgtest"
)

// replicas are three processes over one PostgreSQL, behind a round-robin without sticky sessions. They share the keyset, and
// nothing else on disk.
type replicas struct {
	*roundRobin
	programs []*program
	database string
	keyset   string
}

// startReplicas starts three replicas that sign people in at the scripted provider. database is "" for a fresh one.
func startReplicas(t *testing.T, idp *scripted.Provider, database string, args ...string) *replicas {
	t.Helper()
	if database == "" {
		database = pgtest.Database(t)
	}
	r := &replicas{roundRobin: newRoundRobin(t), database: database, keyset: filepath.Join(t.TempDir(), "keyset.json")}
	args = append([]string{
		"KEYTURN_ISSUER=" + idp.URL, "KEYTURN_CLIENT_ID=" + scripted.ClientID, "KEYTURN_CLIENT_SECRET=" + scripted.ClientSecret,
		"KEYTURN_DATABASE=" + database, "--keyset-file=" + r.keyset, "--base-url=" + r.front.URL, "--log-level=info",
	}, args...)
	for range 3 {
		p := &program{dir: filepath.Join(t.TempDir(), "data"), log: &authtest.Buffer{}, args: args, base: "http://" + freeAddress(t)}
		r.programs = append(r.programs, p)
		r.hosts = append(r.hosts, parsedURL(t, p.base).Host)
		r.start(t, p)
	}
	return r
}

// start starts a replica at its own address, which is not the base URL that it tells.
func (r *replicas) start(t testing.TB, p *program) {
	t.Helper()
	own := p.base
	p.again(t)
	p.base = own
}

// person is a browser at the round-robin.
func (r *replicas) person() *person {
	b := r.programs[0].person()
	b.base = r.front.URL
	return b
}

// people are browsers that have signed in.
func (r *replicas) people(t *testing.T, n int) []*person {
	t.Helper()
	people := make([]*person, n)
	for i := range people {
		people[i] = r.person()
		people[i].staying().signInScripted(t)
	}
	return people
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// roundRobin sends each request to the next replica, or the one after if nobody listens there.
type roundRobin struct {
	front     *httptest.Server
	hosts     []string
	next      atomic.Int64
	transport *http.Transport
	cut       atomic.Int64 // requests that were cut on the wire
	why       authtest.Buffer
}

// wasCut marks the answer to a request that was cut on the wire.
const wasCut = "X-Was-Cut"

func newRoundRobin(t *testing.T) *roundRobin {
	r := &roundRobin{transport: &http.Transport{DisableKeepAlives: true}}
	r.front = httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", "replica", p.In.Host
		},
		Transport: r, FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			fmt.Fprintln(&r.why, err)
			r.cut.Add(1)
			w.Header().Set(wasCut, err.Error())
			w.WriteHeader(http.StatusBadGateway)
		},
	})
	t.Cleanup(r.front.Close)
	return r
}

// RoundTrip implements http.RoundTripper.
func (r *roundRobin) RoundTrip(request *http.Request) (response *http.Response, err error) {
	first := int(r.next.Add(1))
	for i := range r.hosts {
		out := request.Clone(request.Context())
		out.URL.Host = r.hosts[(first+i)%len(r.hosts)]
		var refused *net.OpError
		if response, err = r.transport.RoundTrip(out); !errors.As(err, &refused) || refused.Op != "dial" {
			break
		}
	}
	return response, err
}

func TestSealingAnewInPostgreSQL(t *testing.T) {
	t.Parallel()
	idp := scripted.New(t)
	r := startReplicas(t, idp, "")
	alice := r.people(t, 1)[0]
	for _, command := range []string{"rotate", "reseal", "list"} {
		runKeys(t, r.programs[1], command, "--database", r.database, "--keyset-file", r.keyset)
	}
	for n := range 6 {
		if got := alice.do(t, "POST", "/api/renew-token", nil).json(t)["generation"]; got != float64(n+2) {
			t.Errorf("renewal %d brought generation %v", n+1, got)
		}
	}
	elsewhere := &program{dir: filepath.Join(t.TempDir(), "data")}
	output := runExpectingFailure(t, elsewhere, "--database", r.database)
	if !containsAll(output, "keyset file is missing", "the database holds grants") || containsAll(output, pgtest.Password) {
		t.Errorf("with another keyset over the same database: %s", output)
	}
}

// Replicas that each made a keyset of their own over an empty database are not ready as soon as there is anything that one of
// them cannot open, and no page calls that a sign-in which has run out.
func TestReplicasWithDifferentKeysets(t *testing.T) {
	t.Parallel()
	idp, database := scripted.New(t), pgtest.Database(t)
	var programs []*program
	for range 2 {
		programs = append(programs, launch(t, &program{dir: filepath.Join(t.TempDir(), "data"), log: &authtest.Buffer{}, args: []string{
			"KEYTURN_ISSUER=" + idp.URL, "KEYTURN_CLIENT_ID=" + scripted.ClientID, "KEYTURN_CLIENT_SECRET=" + scripted.ClientSecret,
			"KEYTURN_DATABASE=" + database,
		}}, "localhost:0"))
	}
	alice := programs[0].person()
	alice.do(t, "GET", "/auth/oidc", nil)
	there := alice.at(programs[1])
	for _, look := range [][2]string{{"GET", "/api/session"}, {"GET", "/dashboard"}, {"POST", "/api/renew-token"}} {
		if a := there.do(t, look[0], look[1], nil); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "cannot be opened") {
			t.Errorf("%v: %d %s", look, a.status, a.body)
		}
	}
	eventually(t, "it is not ready", func() bool {
		a := there.do(t, "GET", "/readyz", nil)
		return a.status == http.StatusServiceUnavailable && slices.Equal(failingParts(t, a), []string{"keyset"})
	})
	content, err := os.ReadFile(keysetOf(programs[0]))
	if err != nil {
		t.Fatal(err)
	}
	programs[1].kill(t)
	if err := os.WriteFile(keysetOf(programs[1]), content, 0o600); err != nil {
		t.Fatal(err)
	}
	programs[1].again(t)
	if g := alice.at(programs[1]).generation(t); g != 1 {
		t.Errorf("with the same keyset: generation %v", g)
	}
}

func TestADatabaseThatIsAwayAtTheStart(t *testing.T) {
	t.Parallel()
	output := runExpectingFailure(t, &program{dir: filepath.Join(t.TempDir(), "data")},
		"--database", "postgres://keyturn:"+pgtest.Password+"@"+freeAddress(t)+"/keyturn")
	if !containsAll(output, "--database (KEYTURN_DATABASE)", "cannot be used", "refused") || containsAll(output, pgtest.Password) {
		t.Errorf("%s", output)
	}
	if lines := strconv.Quote(output); lines[len(lines)-3:] != `\n"` || len(lines) > 600 {
		t.Errorf("not one clear line: %s", lines)
	}
}
