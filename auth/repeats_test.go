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
