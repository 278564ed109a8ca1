package provider_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/auth/provider/scripted"
)

// ways of answering that are meant to cost the reader its memory, its time or its mind.
var ways = map[string]func(w http.ResponseWriter, r *http.Request){
	"a gigabyte": func(w http.ResponseWriter, _ *http.Request) {
		for range 1 << 10 {
			if _, err := w.Write(bytes.Repeat([]byte(`{"keys":["`), 100_000)); err != nil {
				return
			}
		}
	},
	"a gigabyte with status 500": func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		for range 1 << 10 {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	},
	"endless headers": func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, err = fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n")
		for n := 0; err == nil; n++ {
			_, err = fmt.Fprintf(conn, "X-%d: %s\r\n", n, strings.Repeat("x", 1000))
		}
	},
	"a drip": func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := w.Write([]byte(" ")); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-time.After(50 * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
	},
	"silence": func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else the server does not notice that the client has gone
		<-r.Context().Done()
	},
	"a gzip bomb": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(gzipped(w)) },
	"HTML":        func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>Welcome</html>") },
	"null":        func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "null") },
	"deep JSON":   func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat(`{"a":`, 150_000)) },
	"a redirect": func(w http.ResponseWriter, _ *http.Request) {
		http.Redirect(w, &http.Request{}, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
	},
	"nothing at all": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
}

// gzipped is 64 MB of zeros in 64 KB, labelled.
func gzipped(w http.ResponseWriter) []byte {
	w.Header().Set("Content-Encoding", "gzip")
	var b bytes.Buffer
	packer := gzip.NewWriter(&b)
	for range 64 {
		_, _ = packer.Write(make([]byte, 1<<20))
	}
	_ = packer.Close()
	return b.Bytes()
}

// What a provider answers is read to a bound, in size and in time, at each of its endpoints. The largest answers come at the
// same time, so that the bound on the heap means something.
func TestAnswersThatAreMeantToHurt(t *testing.T) {
	t.Parallel()
	before := heap()
	t.Run("at", func(t *testing.T) {
		for _, path := range []string{"/.well-known/openid-configuration", "/keys", "/token", "/userinfo", "/introspect", "/revoke"} {
			for name, way := range ways {
				t.Run(path+" "+name, func(t *testing.T) {
					t.Parallel()
					endsAt(t, path, way)
				})
			}
		}
	})
	if grown := heap() - before; grown > 64<<20 {
		t.Errorf("%d MB stay on the heap", grown>>20)
	}
}

func heap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// endsAt has a provider answer at one path in that way, and uses everything that it offers.
func endsAt(t *testing.T, path string, way http.HandlerFunc) {
	idp := scripted.New(t)
	idp.Introspect = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"active":true}`) }
	inner := idp.Config.Handler
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == path {
			way(w, r)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	idp.URL = front.URL
	log := &bytes.Buffer{}
	p, err := provider.NewOIDC(provider.Config{
		Name: "work", Issuer: front.URL, ClientID: scripted.ClientID, ClientSecret: scripted.ClientSecret, CallbackURL: scripted.CallbackURL,
	}, provider.Options{RenewTimeout: 2 * time.Second, Now: time.Now, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	done, err := signIn(t, p, nil)
	tokens := done.Answer.TokenSet(auth.TokenSet{}, time.Hour)
	var refusal *provider.SignInError
	switch refused := errors.As(err, &refusal); {
	case (path == "/userinfo" || path == "/introspect" || path == "/revoke") != (err == nil):
		t.Errorf("sign-in: %.300v", err)
	case err != nil && (!refused || len(err.Error()) > 500):
		t.Errorf("%d bytes of error: %.300v", len(err.Error()), err)
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, introspection := p.Introspect(ctx, tokens, "a-token")
		shown, userinfo := p.UserInfo(ctx, tokens)
		for _, err := range []error{introspection, userinfo, p.Revoke(ctx, tokens)} {
			if err != nil && len(err.Error()) > 500 {
				t.Errorf("%d bytes of error: %.300v", len(err.Error()), err)
			}
		}
		if len(shown.Body) > 64<<10 {
			t.Errorf("%d bytes shown", len(shown.Body))
		}
	}
	if log.Len() > 4<<10 {
		t.Errorf("%d bytes logged", log.Len())
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v", took)
	}
}

// A panic over an answer, in a goroutine that serves many, would end the program.
func TestAPanicOverAnAnswerIsAnError(t *testing.T) {
	t.Parallel()
	p, err := provider.NewOIDC(provider.Config{Name: "work", Issuer: "https://id.example"}, provider.Options{
		RenewTimeout: time.Second, Now: time.Now, Log: slog.New(slog.DiscardHandler), Transport: panics{},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Begin(t.Context(), "s", "", ""); err == nil || !strings.Contains(err.Error(), "could not be read") {
		t.Errorf("error %v", err)
	}
}

type panics struct{}

// RoundTrip implements http.RoundTripper.
func (panics) RoundTrip(*http.Request) (*http.Response, error) { panic("a bug in a parser") }

// A brand's profile is read to a bound as well, and that is one of what it inflates to.
func TestAProfileIsReadToABound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		size   int
		packed bool
		taken  bool
	}{
		"a large one": {1 << 19, false, true}, "a large one, packed": {1 << 19, true, true},
		"a huge one": {1 << 21, false, false}, "a huge one, packed": {1 << 21, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mux := http.NewServeMux()
			mux.HandleFunc("POST github.com/login/oauth/access_token", func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprint(w, "access_token=a&token_type=bearer")
			})
			mux.HandleFunc("GET api.github.com/user", func(w http.ResponseWriter, _ *http.Request) {
				var to io.Writer = w
				if c.packed {
					packer := gzip.NewWriter(w)
					defer packer.Close()
					to = packer
				}
				fmt.Fprintf(to, `{"id":42,"login":"alice","name":"Alice","email":"a@example.com","bio":%q}`, strings.Repeat("x", c.size))
			})
			p := brandOf(t, provider.Config{Name: "github", Type: "github"}, mux)
			session, err := p.Begin(t.Context(), "the-state", "", "")
			if err != nil {
				t.Fatal(err)
			}
			done, err := p.Finish(t.Context(), session, url.Values{"code": {"c"}, "state": {"the-state"}})
			var refusal *provider.SignInError
			refused := errors.As(err, &refusal) && refusal.Code == provider.CodeProfileFailed
			if refused == c.taken || (done.Identity.Name == "Alice") != c.taken {
				t.Errorf("%q, %v", done.Identity.Name, err)
			}
		})
	}
}
