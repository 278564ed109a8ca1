package provider_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"keyturn/auth/provider"
)

// says answers every request with one text.
type says string

// RoundTrip implements http.RoundTripper.
func (s says) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(s))), Request: r}, nil
}

// Whatever a discovery document says: no panic, a short error or endpoints that keep a secret, and origins that can stand in a
// Content-Security-Policy.
func FuzzDiscovery(f *testing.F) {
	const whole = `{"issuer":"https://id.example","authorization_endpoint":"https://id.example/a","token_endpoint":"https://id.example/t",` +
		`"jwks_uri":"https://id.example/k","end_session_endpoint":"https://id.example/e"}`
	f.Add(whole)
	for _, swap := range [][2]string{
		{"https://id.example/t", "http://id.example/t"}, {"https://id.example/t", "https://id.example/t#f"},
		{"https://id.example/a", "https://u:p@id.example/a"}, {"https://id.example/e", "https://x;script-src/e"},
		{"https://id.example/e", "javascript:alert(1)"}, {`"https://id.example/k"`, "7"}, {`"issuer"`, `"ISSUER"`}, {"}", `,"scopes_supported":["x",null]}`},
	} {
		f.Add(strings.Replace(whole, swap[0], swap[1], 1))
	}
	for _, text := range []string{"", "null", "[]", "{", "<html>", strings.Repeat(`{"a":`, 200)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, document string) {
		p, err := provider.NewOIDC(provider.Config{Name: "work", Issuer: "https://id.example", ClientID: "c"}, provider.Options{
			RenewTimeout: time.Second, Now: time.Now, Log: slog.New(slog.DiscardHandler), Transport: says(document),
		})
		if err != nil {
			t.Fatal(err)
		}
		session, err := p.Begin(t.Context(), "the-state", "", "")
		if err != nil {
			if len(err.Error()) > 1000 {
				t.Errorf("%d bytes of error", len(err.Error()))
			}
			return
		}
		target, err := session.GetAuthURL()
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(target)
		if err != nil || u.Scheme != "https" || u.User != nil || u.Fragment != "" || u.Query().Get("state") != "the-state" || u.Query().Get("code_challenge_method") != "S256" {
			t.Errorf("the browser is sent to %q", target)
		}
		for _, origin := range p.Origins(t.Context()) {
			if !strings.HasPrefix(origin, "https://") || strings.ContainsAny(origin, " ;,'\"<>*\r\n") {
				t.Errorf("origin %q", origin)
			}
		}
	})
}
