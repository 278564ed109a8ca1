package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"keyturn/auth/provider/scripted"
)

// Who hangs up is no fault of Keyturn's: a stranger could ring the bell of those who watch it.
func TestWhoHangsUpIsNoFault(t *testing.T) {
	t.Parallel()
	_, p := atScripted(t, nil, anyAdmin)
	address := strings.TrimPrefix(p.base, "http://")
	hangUp := func(path string) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nCookie: keyturn_session=%s\r\n\r\n", path, address, strings.Repeat("a", 43))
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset, as of a process that was killed
		}
		conn.Close()
	}
	eventually(t, "some of them are counted as what they are", func() bool {
		for range 10 {
			for _, path := range []string{"/", "/auth/oidc", "/dashboard", "/api/session"} {
				hangUp(path)
			}
		}
		return strings.Contains(scrape(t, p), `code="499"`)
	})
	for line := range strings.Lines(scrape(t, p)) {
		if strings.HasPrefix(line, "keyturn_http_requests_total") && strings.Contains(line, `code="5`) {
			t.Error(line)
		}
	}
	for line := range strings.Lines(p.log.String()) {
		if strings.Contains(line, "level=ERROR") {
			t.Error(line)
		}
	}
}

// A browser that goes away while its code is exchanged leaves tokens that nobody has: they are revoked.
func TestASignInThatIsLeftAloneLeavesNoTokens(t *testing.T) {
	t.Parallel()
	exchanging, held := make(chan bool, 1), make(chan bool)
	idp, p := atScripted(t, func(idp *scripted.Provider) {
		idp.Asked = func(_ string, params url.Values) {
			if params.Get("grant_type") == "authorization_code" {
				exchanging <- true
				<-held
			}
		}
	})
	alice := p.person()
	back := callback(t, alice, "/auth/oidc")
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan bool)
	go func() {
		defer close(done)
		_, _ = alice.staying().try(ctx, http.MethodGet, back, nil)
	}()
	<-exchanging
	leave()
	<-done
	time.Sleep(100 * time.Millisecond) // for the server to see it
	close(held)
	eventually(t, "what came is revoked", func() bool { return len(idp.Revoked()) == 1 })
	if alice.signedIn(t) {
		t.Error("somebody is signed in")
	}
	if log := p.log.String(); strings.Contains(log, "level=ERROR") || strings.Contains(log, "code_exchange_failed") {
		t.Error(log)
	}
}
