package auth_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"keyturn/auth"
)

// What a provider repeats of tokens, the ones in use among them, in its words, a scope or a claim, is stored and shown as it is.
func TestTokensThatAProviderRepeatsAreNotKept(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{})
	before := h.stored(t).Tokens
	h.idp.Change(func() {
		h.idp.Token = func(w http.ResponseWriter, _ *http.Request, _ func() map[string]any) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintf(w, `{"error":"temporarily_unavailable","error_description":"%s and %s"}`, before.Access.Reveal(), before.ID.Reveal())
			return true
		}
	})
	if said := h.renew(t).Failure.Detail; said != "[redacted] and [redacted]" {
		t.Errorf("the failure is %q", said)
	}

	const access = "access-99-ABCDEFGHIJKLMNOP"
	h.idp.Change(func() {
		h.idp.Token = nil
		h.idp.Access = func() string { return access }
		h.idp.Claims = func(claims map[string]any, _ bool) {
			claims["picture"], claims["nickname"], claims["name"] = "https://cdn.example/a.png?t="+access, access, "Bearer "+access
		}
		h.idp.Tokens = func(tokens map[string]any, _ bool) { tokens["scope"] = "openid " + access }
	})
	h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
	kept := h.stored(t)
	history, err := h.db.History(t.Context(), h.grant.ID, 0, 9)
	if err != nil || len(history) != 2 || kept.Tokens.Access != access || kept.Tokens.Scope != "openid [redacted]" {
		t.Errorf("%+v, scope %q, %v", history, kept.Tokens.Scope, err)
	}
	all, err := json.Marshal([]any{kept.Identity, history})
	for _, secret := range append(before.Secrets(), access) {
		if err != nil || strings.Contains(string(all), secret.Reveal()) {
			t.Errorf("%s holds %.12s…, %v", all, secret.Reveal(), err)
		}
	}
}

// What comes without an error code is in the log, which has no tokens, and not in the history, which programs read.
func TestWhatCameWithoutAnErrorCodeIsLogged(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{})
	before := h.stored(t).Tokens
	h.idp.Change(func() {
		h.idp.Token = func(w http.ResponseWriter, r *http.Request, _ func() map[string]any) bool {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, "no client of %s, %s and %s", before.Access.Reveal(), before.ID.Reveal(), r.PostFormValue("refresh_token"))
			return true
		}
	})
	h.renew(t)
	const said = "no client of [redacted], [redacted] and [redacted]"
	if log := h.log.String(); !strings.Contains(log, `detail="HTTP status 403" warning="" said="`+said+`"`) {
		t.Errorf("the log:\n%s", log)
	}
	if stored := h.stored(t).Standing.Failure; stored.Said != said {
		t.Errorf("stored: %+v", stored)
	}
	if r := h.history(t)[0]; r.Detail != "HTTP status 403" {
		t.Errorf("the history says %q", r.Detail)
	}
}
