package auth_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
)

// answered is a fault of the token endpoint, and what must follow from it. Each goes over HTTP.
type answered struct {
	name string
	// script answers the first call. It may call grant to have the provider rotate before something goes wrong.
	script  func(w http.ResponseWriter, r *http.Request, grant func() map[string]any)
	outcome auth.Outcome
	code    string
	party   auth.Party
	calls   int // of the token endpoint, for the one renewal
	next    time.Duration
	heals   bool // the next click, with the provider healthy, brings new tokens
	used    bool // the refresh token that came with the odd answer is used next
}

func says(status int, body string) func(http.ResponseWriter, *http.Request, func() map[string]any) {
	return func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func oauthError(status int, code string) func(http.ResponseWriter, *http.Request, func() map[string]any) {
	return says(status, `{"error":"`+code+`","error_description":"because"}`)
}

// cutOff answers with the beginning of an answer.
func cutOff(body string) func(http.ResponseWriter, *http.Request, func() map[string]any) {
	return func(w http.ResponseWriter, _ *http.Request, grant func() map[string]any) {
		grant()
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte(body))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

// edited answers with the provider's tokens after an edit.
func edited(edit func(tokens map[string]any)) func(http.ResponseWriter, *http.Request, func() map[string]any) {
	return func(w http.ResponseWriter, _ *http.Request, grant func() map[string]any) {
		tokens := grant()
		edit(tokens)
		_ = json.NewEncoder(w).Encode(tokens)
	}
}

func TestAnswersOfTheTokenEndpoint(t *testing.T) {
	t.Parallel()
	var stolen atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stolen.Add(1) }))
	t.Cleanup(elsewhere.Close)
	redirect := func(status int) func(http.ResponseWriter, *http.Request, func() map[string]any) {
		return func(w http.ResponseWriter, r *http.Request, _ func() map[string]any) {
			http.Redirect(w, r, elsewhere.URL, status)
		}
	}
	kept, refused, rotated := auth.OutcomeKept, auth.OutcomeRefused, auth.OutcomeRotated
	cases := []answered{
		{name: "invalid_grant", script: oauthError(400, "invalid_grant"), outcome: refused, code: "invalid_grant", party: auth.PartyPerson, calls: 1},
		{name: "invalid_grant with 403, as Auth0", script: oauthError(403, "invalid_grant"), outcome: refused, code: "invalid_grant", party: auth.PartyPerson, calls: 1},
		{name: "bad_refresh_token with 200, as GitHub", script: oauthError(200, "bad_refresh_token"), outcome: refused, code: "bad_refresh_token", party: auth.PartyPerson, calls: 1},
		{name: "an error in an object", script: says(401, `{"error":{"message":"because","type":"invalid_request_error","code":"refresh_token_reused"}}`), outcome: refused, code: "refresh_token_reused", party: auth.PartyPerson, calls: 1},
		{name: "an error under names of the provider's own", script: says(400, `{"code":400,"error_code":"refresh_token_not_found","msg":"because"}`), outcome: refused, code: "refresh_token_not_found", party: auth.PartyPerson, calls: 1},
		{name: "refresh_token_reused", script: oauthError(400, "refresh_token_reused"), outcome: refused, code: "refresh_token_reused", party: auth.PartyPerson, calls: 1},
		{name: "refresh_token_not_found", script: oauthError(400, "refresh_token_not_found"), outcome: refused, code: "refresh_token_not_found", party: auth.PartyPerson, calls: 1},
		{name: "consent_required", script: oauthError(400, "consent_required"), outcome: refused, code: "consent_required", party: auth.PartyPerson, calls: 1},
		{name: "invalid_request", script: oauthError(400, "invalid_request"), outcome: kept, code: "invalid_request", party: auth.PartyProvider, calls: 1, next: 3 * time.Second, heals: true},
		{name: "invalid_request with 500, as Dex when it is unwell itself", script: oauthError(500, "invalid_request"), outcome: kept, code: "invalid_request", party: auth.PartyProvider, calls: 1, next: time.Second, heals: true},
		{name: "refresh_token_already_used", script: oauthError(400, "refresh_token_already_used"), outcome: refused, code: "refresh_token_already_used", party: auth.PartyPerson, calls: 1},
		{name: "incorrect_client_credentials with 200, as GitHub", script: oauthError(200, "incorrect_client_credentials"), outcome: kept, code: "incorrect_client_credentials", party: auth.PartyOperator, calls: 1, next: 5 * time.Minute, heals: true},
		{name: "invalid_client", script: oauthError(401, "invalid_client"), outcome: kept, code: "invalid_client", party: auth.PartyOperator, calls: 1, next: 5 * time.Minute, heals: true},
		{name: "unauthorized_client", script: oauthError(400, "unauthorized_client"), outcome: kept, code: "unauthorized_client", party: auth.PartyOperator, calls: 1, next: 5 * time.Minute, heals: true},
		{name: "unauthorized_client, as Gitea says it of a token", script: says(400, `{"error":"unauthorized_client","error_description":"token was already used"}`), outcome: refused, code: "unauthorized_client", party: auth.PartyPerson, calls: 1},
		{name: "invalid_token, as Cloud Foundry", script: oauthError(401, "invalid_token"), outcome: refused, code: "invalid_token", party: auth.PartyPerson, calls: 1},
		{name: "invalid_token with 429", script: oauthError(429, "invalid_token"), outcome: kept, code: "invalid_token", party: auth.PartyProvider, calls: 1, next: time.Second, heals: true},
		{name: "invalid_token with 503", script: oauthError(503, "invalid_token"), outcome: kept, code: "invalid_token", party: auth.PartyProvider, calls: 1, next: time.Second, heals: true},
		{name: "invalid_grant with more, as EVE Online", script: oauthError(400, "invalid_grant: Token is expired or invalid."), outcome: refused, code: "invalid_grant: Token is expired or invalid.", party: auth.PartyPerson, calls: 1},
		{name: "invalid_scope once", script: oauthError(400, "invalid_scope"), outcome: rotated, calls: 2, heals: true},
		{name: "temporarily_unavailable", script: oauthError(503, "temporarily_unavailable"), outcome: kept, code: "temporarily_unavailable", party: auth.PartyProvider, calls: 1, next: time.Second, heals: true},
		{name: "slow_down", script: oauthError(400, "slow_down"), outcome: kept, code: "slow_down", party: auth.PartyProvider, calls: 1, next: time.Second, heals: true},
		{name: "500", script: says(500, "oops"), outcome: kept, code: auth.CodeHTTPStatus, party: auth.PartyProvider, calls: 1, next: time.Second, heals: true},
		{name: "502 with HTML", script: says(502, "<html>Bad gateway"), outcome: kept, code: auth.CodeHTTPStatus, party: auth.PartyProvider, calls: 1, next: 2 * time.Second, heals: true},
		{name: "an error with a number", script: says(400, `{"error":{"message":"Application request limit reached","code":4}}`), outcome: kept, code: "4", party: auth.PartyProvider, calls: 1, next: time.Second, heals: true},
		{name: "400 and nothing", script: says(400, ""), outcome: kept, code: auth.CodeHTTPStatus, party: auth.PartyProvider, calls: 1, next: time.Second, heals: true},
		{name: "429 with seconds", script: func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) {
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(429)
		}, outcome: kept, code: auth.CodeRateLimited, party: auth.PartyProvider, calls: 1, next: 2 * time.Minute, heals: true},
		{name: "429 with a date, far off", script: func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) {
			w.Header().Set("Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
			w.WriteHeader(429)
		}, outcome: kept, code: auth.CodeRateLimited, party: auth.PartyProvider, calls: 1, next: 10 * time.Minute, heals: true},
		{name: "HTML with 200", script: says(200, "<html>Welcome to the hotel's network"), outcome: rotated, calls: 2, heals: true},
		{name: "HTML with a link that reads like a refusal", script: says(200, `<a href="/login?x=1&error=invalid_grant&y=2">`), outcome: rotated, calls: 2, heals: true},
		{name: "HTML with a link that reads like tokens", script: says(200, `<a href="/?x=1&access_token=a&refresh_token=b&y=2">`), outcome: rotated, calls: 2, heals: true},
		{name: "an address that reads like tokens", script: says(200, `http://other.example/?access_token=a&refresh_token=b`), outcome: rotated, calls: 2, heals: true},
		{name: "a line of text with a link", script: says(502, "Retry at http://gw/retry?to=token&error=invalid_grant&n=1"), outcome: kept, code: auth.CodeHTTPStatus, party: auth.PartyProvider, calls: 1, next: 2 * time.Second, heals: true},
		{name: "a form with 503", script: says(503, "error=invalid_grant&n=1"), outcome: kept, code: auth.CodeHTTPStatus, party: auth.PartyProvider, calls: 1, next: time.Second, heals: true},
		{name: "a form with 302", script: says(302, "error=login_required&n=1"), outcome: kept, code: auth.CodeRedirect, party: auth.PartyOperator, calls: 1, next: time.Second, heals: true},
		{name: "a form with an error", script: says(200, "error=bad_refresh_token&error_description=The+refresh+token+passed+is+incorrect+or+expired."), outcome: refused, code: "bad_refresh_token", party: auth.PartyPerson, calls: 1},
		{name: "an empty object", script: says(200, "{}"), outcome: kept, code: auth.CodeNoAccessToken, party: auth.PartyProvider, calls: 1, next: time.Second, heals: true},
		{name: "an object without tokens", script: says(200, `{"token_type":"Bearer","expires_in":3600}`), outcome: kept, code: auth.CodeNoAccessToken, party: auth.PartyProvider, calls: 1, next: time.Second, heals: true},
		{name: "invalid_grant with an echo", script: func(w http.ResponseWriter, r *http.Request, _ func() map[string]any) {
			w.WriteHeader(400)
			fmt.Fprintf(w, `{"error":"invalid_grant","refresh_token":%q}`, r.PostFormValue("refresh_token"))
		}, outcome: refused, code: "invalid_grant", party: auth.PartyPerson, calls: 1},
		{name: "empty with 200", script: says(200, ""), outcome: rotated, calls: 2, heals: true},
		{name: "cut off in the middle", script: cutOff(`{"access_token":"abc","refr`), outcome: rotated, calls: 2, heals: true},
		{name: "cut off behind the new tokens", script: func(w http.ResponseWriter, _ *http.Request, grant func() map[string]any) {
			tokens := grant()
			w.Header().Set("Content-Length", "5000")
			fmt.Fprintf(w, `{"expires_in":60,"access_token":%q,"refresh_token":%q,"id_tok`, tokens["access_token"], tokens["refresh_token"])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, outcome: rotated, calls: 1, heals: true, used: true},
		{name: "reset before an answer", script: cutOff(""), outcome: rotated, calls: 2, heals: true},
		{name: "redirect 301", script: redirect(301), outcome: kept, code: auth.CodeRedirect, party: auth.PartyOperator, calls: 1, next: time.Second, heals: true},
		{name: "redirect 302", script: redirect(302), outcome: kept, code: auth.CodeRedirect, party: auth.PartyOperator, calls: 1, next: time.Second, heals: true},
		{name: "redirect 307", script: redirect(307), outcome: kept, code: auth.CodeRedirect, party: auth.PartyOperator, calls: 1, next: time.Second, heals: true},
		{name: "redirect 308", script: redirect(308), outcome: kept, code: auth.CodeRedirect, party: auth.PartyOperator, calls: 1, next: time.Second, heals: true},
		{name: "no access token", script: edited(func(t map[string]any) { delete(t, "access_token") }), outcome: kept, code: auth.CodeNoAccessToken, party: auth.PartyProvider, calls: 1, next: time.Second, heals: true, used: true},
		{name: "token_type mac", script: edited(func(t map[string]any) { t["token_type"] = "mac" }), outcome: kept, code: auth.CodeTokenType, party: auth.PartyProvider, calls: 1, next: time.Second, heals: true, used: true},
		{name: "token_type a number", script: edited(func(t map[string]any) { t["token_type"] = 123 }), outcome: kept, code: auth.CodeTokenType, party: auth.PartyProvider, calls: 1, next: time.Second, heals: true, used: true},
		{name: "token_type null", script: edited(func(t map[string]any) { t["token_type"] = nil }), outcome: rotated, calls: 1, heals: true, used: true},
		{name: "error and a refresh token", script: edited(func(t map[string]any) { t["error"] = "server_error"; delete(t, "access_token") }), outcome: kept, code: "server_error", party: auth.PartyProvider, calls: 1, next: time.Second, heals: true, used: true},
		{name: "a refusal and a refresh token", script: edited(func(t map[string]any) { t["error"] = "invalid_grant"; delete(t, "access_token") }), outcome: kept, code: "invalid_grant", party: auth.PartyPerson, calls: 1, next: time.Second, heals: true, used: true},
		{name: "token_type bEARER", script: edited(func(t map[string]any) { t["token_type"] = "bEARER" }), outcome: rotated, calls: 1, heals: true, used: true},
		{name: "no refresh token", script: says(200, `{"access_token":"new","token_type":"Bearer","expires_in":60}`), outcome: auth.OutcomeRenewed, calls: 1, heals: true},
		{name: "refresh token null", script: says(200, `{"access_token":"new","token_type":"Bearer","refresh_token":null}`), outcome: auth.OutcomeRenewed, calls: 1, heals: true},
		{name: "refresh token empty", script: says(200, `{"access_token":"new","token_type":"Bearer","refresh_token":""}`), outcome: auth.OutcomeRenewed, calls: 1, heals: true},
		{name: "a form", script: func(w http.ResponseWriter, _ *http.Request, grant func() map[string]any) {
			tokens := grant()
			w.Header().Set("Content-Type", "application/x-www-form-urlencoded")
			fmt.Fprintf(w, "access_token=%s&refresh_token=%s&token_type=bearer&expires_in=28800", tokens["access_token"], tokens["refresh_token"])
		}, outcome: rotated, calls: 1, heals: true, used: true},
		{name: "JSON labelled as text, with a byte order mark and a tail", script: func(w http.ResponseWriter, _ *http.Request, grant func() map[string]any) {
			body, _ := json.Marshal(grant())
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprintf(w, "\uFEFF \n%s\n// bye", body)
		}, outcome: rotated, calls: 1, heals: true, used: true},
		{name: "endless", script: func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) {
			for chunk := []byte(strings.Repeat("x", 1<<16)); ; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, outcome: rotated, calls: 2, heals: true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			h := newHouse(t, options{idp: func(p *scripted.Provider) {
				p.Class, p.Interval = scripted.SameSuccessor, time.Minute
				p.Token = func(w http.ResponseWriter, r *http.Request, grant func() map[string]any) bool {
					if calls.Add(1) > 1 {
						return false
					}
					c.script(w, r, grant)
					return true
				}
			}})
			before := h.stored(t)
			result := h.renew(t)
			failure := h.stored(t).Standing.Failure
			if result.Outcome != c.outcome || failure.Code != c.code || failure.Party != c.party {
				t.Fatalf("%s, %q of %q; want %s, %q of %q", result.Outcome, failure.Code, failure.Party, c.outcome, c.code, c.party)
			}
			if h.idp.TokenCalls() != c.calls {
				t.Errorf("%d token calls, want %d", h.idp.TokenCalls(), c.calls)
			}
			history, err := h.db.History(t.Context(), h.grant.ID, 0, 5)
			if err != nil || len(history) != 1 || history[0].Outcome != c.outcome || history[0].Code != c.code {
				t.Errorf("history %+v, %v", history, err)
			}
			if !c.outcome.Succeeded() {
				if g := h.stored(t); g.Tokens.Access != before.Tokens.Access || g.Generation != 1 {
					t.Error("a failed renewal changed the access token")
				}
				if wait := time.Until(h.stored(t).Standing.NextTry); wait > c.next || c.next > time.Minute && wait < c.next-5*time.Second {
					t.Errorf("next try in %v, want %v", wait, c.next)
				}
			}
			if again := h.renew(t); again.Outcome.Succeeded() != c.heals {
				t.Errorf("the next click: %s (%s)", again.Outcome, again.Failure.Code)
			}
			if most := h.idp.MostPresented(); c.used && most != 1 {
				t.Errorf("a refresh token was presented %d times although its successor had come", most)
			}
		})
	}
	t.Cleanup(func() {
		if stolen.Load() != 0 {
			t.Errorf("%d requests followed a redirect", stolen.Load())
		}
	})
}

func TestLifetimes(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]time.Duration{
		`3600`: time.Hour, `"3600"`: time.Hour, `3600.0`: time.Hour, `36e2`: time.Hour, `" 3600 "`: time.Hour, `99999999999`: 24 * time.Hour,
		`0`: auth.DefaultAssumedLifetime, `null`: auth.DefaultAssumedLifetime, `""`: auth.DefaultAssumedLifetime, `"soon"`: auth.DefaultAssumedLifetime,
		`true`: auth.DefaultAssumedLifetime, `-1`: auth.DefaultAssumedLifetime, `1e400`: auth.DefaultAssumedLifetime, `-0.5`: auth.DefaultAssumedLifetime,
		`1`: time.Second, `1.5`: 1500 * time.Millisecond, `0.5`: time.Second, `"0.5"`: time.Second, `1e-9`: time.Second,
	} {
		t.Run(said, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, options{idp: func(p *scripted.Provider) {
				p.Token = func(w http.ResponseWriter, _ *http.Request, grant func() map[string]any) bool {
					tokens := grant()
					tokens["expires_in"] = json.RawMessage(said)
					_ = json.NewEncoder(w).Encode(tokens)
					return true
				}
			}})
			h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
			if got := h.stored(t).Tokens.Lifetime(); got != want {
				t.Errorf("lifetime %v, want %v", got, want)
			}
		})
	}
}

func TestNoAnswerAtAll(t *testing.T) {
	t.Parallel()
	hang := func(_ http.ResponseWriter, r *http.Request, _ func() map[string]any) { <-r.Context().Done() }
	t.Run("is replayed once, then kept", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t, options{timeout: 300 * time.Millisecond, idp: scriptedBy(hang)})
		h.renew(t)
		if err := h.rotator.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		g := h.stored(t)
		if g.Standing.Failure.Code != auth.CodeTimeout || g.Standing.Failure.Replay != auth.CodeReplayed || g.Standing.Refused || h.idp.TokenCalls() != 2 {
			t.Errorf("%+v after %d calls", g.Standing, h.idp.TokenCalls())
		}
	})
	t.Run("waits for the expiry where it must", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t, options{lifetime: time.Hour, timeout: 300 * time.Millisecond, onUnknown: auth.RetryAtExpiry, idp: scriptedBy(hang)})
		h.renew(t)
		waitFor(t, "the failed try to end", func() bool {
			v, err := h.rotator.Look(t.Context(), h.grant.ID)
			return err == nil && !v.Running && v.Grant.Standing.Failures == 1
		})
		if v, err := h.rotator.Fresh(t.Context(), h.grant.ID); err != nil || v.Running || v.State != auth.StateFresh {
			t.Errorf("for a request: %+v, %v", v, err)
		}
		if err := h.rotator.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if g := h.stored(t); !g.Standing.NextTry.Equal(g.Tokens.ExpiresAt) || h.idp.TokenCalls() != 1 {
			t.Errorf("next try %v, expiry %v, %d calls", g.Standing.NextTry, g.Tokens.ExpiresAt, h.idp.TokenCalls())
		}
	})
	t.Run("waits for the expiry, and is replayed once then", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t, options{lifetime: 2 * time.Second, onUnknown: auth.RetryAtExpiry, idp: scriptedBy(cutOff(""))})
		h.renew(t)
		waitUntilExpired(t, h)
		result := h.renew(t)
		if result.Failure.Replay != auth.CodeReplayed || h.idp.TokenCalls() != 2 {
			t.Errorf("%+v after %d calls", result.Failure, h.idp.TokenCalls())
		}
	})
	t.Run("is remembered when the refresh token is refused later", func(t *testing.T) {
		t.Parallel()
		var calls atomic.Int32
		h := newHouse(t, options{idp: scriptedBy(func(w http.ResponseWriter, r *http.Request, grant func() map[string]any) {
			switch calls.Add(1) {
			case 1:
				cutOff("")(w, r, grant)
			case 2:
				says(503, "")(w, r, grant)
			default:
				oauthError(400, "invalid_grant")(w, r, grant)
			}
		})})
		h.renew(t)
		if result := h.renew(t); result.Outcome != auth.OutcomeRefused || result.Failure.Replay != auth.CodeReplayed {
			t.Errorf("%s, %+v", result.Outcome, result.Failure)
		}
	})
	t.Run("unreachable is not sent", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t, options{})
		h.idp.CloseClientConnections()
		h.idp.Close()
		h.renew(t) // may be sent over a connection that was kept and is just being closed
		result := h.renew(t)
		if result.Failure.Code != auth.CodeUnreachable || result.Outcome != auth.OutcomeKept || result.Failure.Replay != "" {
			t.Errorf("%s, %+v", result.Outcome, result.Failure)
		}
	})
}

// The replay of one refresh token does not count for the next, which came with the replay's answer.
func TestASalvagedRefreshTokenHasItsOwnReplay(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	h := newHouse(t, options{idp: func(p *scripted.Provider) {
		p.Class = scripted.Static
		p.Token = func(w http.ResponseWriter, r *http.Request, grant func() map[string]any) bool {
			switch n := calls.Add(1); {
			case n%2 == 1:
				cutOff(`{"access_token":"abc","refr`)(w, r, grant)
			case n == 2:
				says(200, `{"refresh_token":"refresh-0-SALVAGED"}`)(w, r, grant)
			default:
				says(200, `{"access_token":"new","token_type":"Bearer","expires_in":60}`)(w, r, grant)
			}
			return true
		}
	}})
	h.expect(t, h.renew(t), auth.OutcomeKept, 1)
	if r := h.history(t)[0]; r.Warning != auth.CodeReplayed || h.stored(t).Tokens.Refresh != "refresh-0-SALVAGED" {
		t.Fatalf("warning %q, refresh token %v", r.Warning, h.stored(t).Tokens.Refresh)
	}
	h.expect(t, h.renew(t), auth.OutcomeRenewed, 2)
	if calls.Load() != 4 {
		t.Errorf("%d token calls, want 4", calls.Load())
	}
}

func TestIDTokensOfRenewals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit    func(claims map[string]any)
		outcome auth.Outcome
		warning string
	}{
		"a good one is kept":               {func(map[string]any) {}, auth.OutcomeRotated, ""},
		"another sub ends the grant":       {func(c map[string]any) { c["sub"] = "mallory" }, auth.OutcomeRefused, ""},
		"another iss ends the grant":       {func(c map[string]any) { c["iss"] = "https://evil.example" }, auth.OutcomeRefused, ""},
		"one without iss is dropped":       {func(c map[string]any) { delete(c, "iss") }, auth.OutcomeRotated, auth.CodeIDTokenRejected},
		"another aud is dropped":           {func(c map[string]any) { c["aud"] = "other" }, auth.OutcomeRotated, auth.CodeIDTokenRejected},
		"an expired one is dropped":        {func(c map[string]any) { c["exp"] = 1 }, auth.OutcomeRotated, auth.CodeIDTokenRejected},
		"one without iat is dropped":       {func(c map[string]any) { delete(c, "iat") }, auth.OutcomeRotated, auth.CodeIDTokenRejected},
		"a wrong at_hash is dropped":       {func(c map[string]any) { c["at_hash"] = "AAAA" }, auth.OutcomeRotated, auth.CodeIDTokenRejected},
		"another nonce is dropped":         {func(c map[string]any) { c["nonce"] = "other" }, auth.OutcomeRotated, auth.CodeIDTokenRejected},
		"an azp out of nowhere is dropped": {func(c map[string]any) { c["azp"] = scripted.ClientID }, auth.OutcomeRotated, auth.CodeIDTokenRejected},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, options{idp: func(p *scripted.Provider) {
				p.Claims = func(claims map[string]any, refresh bool) {
					if refresh {
						c.edit(claims)
					}
				}
			}})
			first := h.stored(t).Tokens.ID
			result := h.renew(t)
			g := h.stored(t)
			history, err := h.db.History(t.Context(), g.ID, 0, 1)
			if err != nil || history[0].Warning != c.warning || result.Outcome != c.outcome || history[0].Outcome != c.outcome {
				t.Fatalf("%s, history %+v, %v; want %s with warning %q", result.Outcome, history, err, c.outcome, c.warning)
			}
			if c.outcome == auth.OutcomeRefused {
				if g.Tokens.Access != "" || g.Tokens.Refresh != "" || g.Identity.Subject != "alice" || len(h.idp.Revoked()) == 0 {
					t.Errorf("another person's tokens are kept: %v, revoked %d", g.Tokens, len(h.idp.Revoked()))
				}
				return
			}
			if replaced := g.Tokens.ID != first; replaced != (c.warning == "") {
				t.Errorf("id token replaced: %v", replaced)
			}
			if g.Generation != 2 {
				t.Error("the tokens did not serve")
			}
		})
	}
}

func scriptedBy(script func(http.ResponseWriter, *http.Request, func() map[string]any)) func(*scripted.Provider) {
	return func(p *scripted.Provider) {
		p.Token = func(w http.ResponseWriter, r *http.Request, grant func() map[string]any) bool {
			script(w, r, grant)
			return true
		}
	}
}
