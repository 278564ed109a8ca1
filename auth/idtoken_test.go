package auth_test

import (
	"strings"
	"testing"

	"keyturn/auth"
	"keyturn/auth/provider/scripted"
)

// Gitea puts the nonce of a person's latest sign-in into the id tokens of all their sessions. That is no attack, unless more is wrong.
func TestAnotherSignInsNonceIsAWarning(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(claims map[string]any)
		logs string
	}{
		"only the nonce": {func(map[string]any) {}, "level=WARN msg=\"security: new id token rejected, for it carries another sign-in's nonce; the old one stays\""},
		"the nonce, and when the person was seen": {func(c map[string]any) { c["auth_time"] = 1 }, "level=ERROR msg=\"security: new id token rejected"},
		"the nonce, and the audience":             {func(c map[string]any) { c["aud"] = "other" }, "level=ERROR msg=\"security: new id token rejected"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, options{idp: func(p *scripted.Provider) {
				p.Claims = func(claims map[string]any, refresh bool) {
					claims["auth_time"] = 1_700_000_000
					if refresh {
						claims["nonce"] = "of-another-sign-in"
						c.edit(claims)
					}
				}
			}})
			first := h.stored(t).Tokens.ID
			h.expect(t, h.renew(t), auth.OutcomeRotated, 2)
			h.expect(t, h.renew(t), auth.OutcomeRotated, 3)
			if r := h.history(t)[0]; r.Warning != auth.CodeIDTokenRejected || h.stored(t).Tokens.ID != first {
				t.Errorf("warning %q, id token %v", r.Warning, h.stored(t).Tokens.ID)
			}
			log := h.log.String()
			if !strings.Contains(log, c.logs) || strings.Count(log, "another sign-in's nonce") > 1 ||
				strings.Contains(c.logs, "WARN") && strings.Contains(log, "level=ERROR") {
				t.Errorf("the log:\n%s", log)
			}
		})
	}
}
