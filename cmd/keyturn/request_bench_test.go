package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
)

// BenchmarkRequest is a whole signed-in request in this process, without a network: the cost of what Keyturn does itself.
func BenchmarkRequest(b *testing.B) {
	idp := scripted.New(b)
	settings, err := parseWith([]string{"--data-dir", filepath.Join(b.TempDir(), "data")}, []string{
		"KEYTURN_ISSUER=" + idp.URL, "KEYTURN_CLIENT_ID=" + scripted.ClientID, "KEYTURN_CLIENT_SECRET=" + scripted.ClientSecret,
	})
	if err != nil {
		b.Fatal(err)
	}
	front := httptest.NewUnstartedServer(nil)
	base := "http://" + front.Listener.Addr().String()
	s, err := build(b.Context(), settings, nil, base, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.close() })
	front.Config.Handler = s.handler
	front.Start()
	b.Cleanup(front.Close)
	alice := (&program{base: base}).person()
	if a := alice.do(b, "GET", "/auth/oidc", nil); a.url.Path != "/dashboard" {
		b.Fatalf("sign-in ends at %s: %s", a.url, a.body)
	}
	for _, c := range []struct{ method, path, when string }{
		{"GET", "/dashboard", ""}, {"GET", "/api/session", ""}, {"GET", "/api/rotations", ""}, {"POST", "/api/renew-token", ""},
		{"GET", "/dashboard?before=1000000", " after 200 renewals"}, // not a kept one
		{"POST", "/api/trigger-renew-token?query=update-token-data", " after 200 renewals"},
	} {
		if c.when != "" {
			for range auth.KeptRenewals {
				alice.do(b, "POST", "/api/renew-token", nil)
			}
		}
		b.Run(c.method+c.path+c.when, func(b *testing.B) {
			request := httptest.NewRequest(c.method, base+c.path, nil)
			request.Header.Set("Cookie", alice.cookie(b))
			if c.when != "" {
				request.Header.Set("HX-Request", "true")
			}
			b.ReportAllocs()
			for b.Loop() {
				answer := httptest.NewRecorder()
				s.handler.ServeHTTP(answer, request)
				if answer.Code != http.StatusOK {
					b.Fatalf("%d %s", answer.Code, answer.Body)
				}
			}
		})
	}
}
