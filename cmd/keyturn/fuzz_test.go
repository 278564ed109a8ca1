package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"keyturn/auth/provider/scripted"
)

// Whatever comes to a callback: a page of ours without anybody's markup, nobody signed in, and no code presented.
func FuzzCallback(f *testing.F) {
	for _, seed := range []string{
		"", "code=x&state=y", "code=x&code=y&state=z", "error=access_denied&state=x&error_description=<script>alert(1)</script>",
		"state=%00&code=%ff", "iss=https%3A%2F%2Fevil.example&code=c&state=s", "code=%zz;state", "id_token=a.b.c&state=s",
		"code=" + strings.Repeat("c", 20<<10) + "&state=s", "state=" + strings.Repeat("%F0%9F%A6%8A", 500), "&&&===", "code[]=x&state[$ne]=y",
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	idp := scripted.New(f)
	settings, err := parseWith([]string{"--data-dir", filepath.Join(f.TempDir(), "data"), "--limit-sign-in=off"}, []string{
		"KEYTURN_ISSUER=" + idp.URL, "KEYTURN_CLIENT_ID=" + scripted.ClientID, "KEYTURN_CLIENT_SECRET=" + scripted.ClientSecret,
	})
	if err != nil {
		f.Fatal(err)
	}
	s, err := build(f.Context(), settings, nil, "http://localhost:8080", slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.close() })
	begun := httptest.NewRecorder()
	s.handler.ServeHTTP(begun, httptest.NewRequest(http.MethodGet, "http://localhost:8080/auth/oidc", nil))
	pending := begun.Result().Cookies()
	if begun.Code != http.StatusSeeOther || len(pending) != 1 {
		f.Fatalf("a sign-in begins with %d", begun.Code)
	}
	f.Fuzz(func(t *testing.T, answer string, post bool) {
		request := httptest.NewRequest(http.MethodGet, "http://localhost:8080/auth/oidc/callback", nil)
		request.URL.RawQuery = answer
		if post {
			request = httptest.NewRequest(http.MethodPost, "http://localhost:8080/auth/oidc/callback", strings.NewReader(answer))
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		request.AddCookie(pending[0])
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, request)
		if w.Code/100 != 4 {
			t.Errorf("status %d: %.300s", w.Code, w.Body)
		}
		if body := w.Body.String(); strings.Contains(body, "<script>") || len(body) > 64<<10 {
			t.Errorf("the page: %.300s", body)
		}
		if idp.Calls("/token") != 0 {
			t.Error("a code was presented")
		}
	})
}
