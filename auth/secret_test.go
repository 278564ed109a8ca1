package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	const value = "eyJ-the-secret-itself"
	g := Grant{Tokens: TokenSet{Access: value, Refresh: value, ID: value}, Pending: value}
	var shown bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d"} {
		fmt.Fprintf(&shown, verb, g)
		fmt.Fprintf(&shown, verb, g.Tokens.Access)
	}
	encoded, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	shown.Write(encoded)
	for _, handler := range []slog.Handler{slog.NewTextHandler(&shown, nil), slog.NewJSONHandler(&shown, nil)} {
		slog.New(handler).Info("x", "grant", g, "tokens", g.Tokens, "secret", g.Tokens.Access)
	}
	for _, form := range []string{value, fmt.Sprintf("%x", value), fmt.Sprintf("%X", value)} {
		if strings.Contains(shown.String(), form) {
			t.Errorf("the secret shows:\n%s", shown.String())
		}
	}
	if !strings.Contains(shown.String(), Secret(value).Fingerprint()) {
		t.Error("the fingerprint does not show")
	}
}

func TestTokenSetOfAnAnswer(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	before := TokenSet{Access: "a1", Refresh: "r1", ID: "i1", Type: "Bearer", Scope: "openid", RefreshExpiresAt: now.Add(time.Hour), ClientAuth: "x"}
	kept := Answer{Access: "a2", ID: "i2", RequestedAt: now, Lifetime: time.Minute}.TokenSet(before, 0)
	if kept.Refresh != "r1" || kept.Scope != "openid" || kept.ID != "i1" || !kept.RefreshExpiresAt.Equal(before.RefreshExpiresAt) || kept.ClientAuth != "x" || !kept.ExpiresAt.Equal(now.Add(time.Minute)) {
		t.Errorf("what the answer leaves out is not kept: %+v", kept)
	}
	rotated := Answer{Access: "a2", Refresh: "r2", Scope: "openid email", RequestedAt: now, RefreshNeverExpires: true}.TokenSet(before, 5*time.Minute)
	if rotated.Refresh != "r2" || rotated.Scope != "openid email" || !rotated.RefreshExpiresAt.IsZero() || !rotated.RefreshNeverExpires || !rotated.Assumed || rotated.Lifetime() != 5*time.Minute {
		t.Errorf("%+v", rotated)
	}
	if silent := (Answer{Access: "a2", Refresh: "r2", RequestedAt: now}).TokenSet(before, 0); !silent.RefreshExpiresAt.IsZero() {
		t.Errorf("a new refresh token of which nothing is said expires as the old one did: %v", silent.RefreshExpiresAt)
	}
	jwt := func(payload string) Secret {
		return Secret("e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".sig")
	}
	for token, want := range map[Secret]time.Duration{
		jwt(fmt.Sprintf(`{"exp":%d}`, now.Add(20*time.Minute).Unix())): 20 * time.Minute,
		jwt(fmt.Sprintf(`{"exp":%d}`, now.Add(-time.Minute).Unix())):   DefaultAssumedLifetime,
		jwt(fmt.Sprintf(`{"exp":%d}`, now.Add(48*time.Hour).Unix())):   MaxLifetime,
		jwt(`{"exp":"soon"}`): DefaultAssumedLifetime,
		jwt(`not JSON`):       DefaultAssumedLifetime,
		"opaque":              DefaultAssumedLifetime,
	} {
		if got := (Answer{Access: token, RequestedAt: now}).TokenSet(TokenSet{}, 0); got.Lifetime() != want || !got.Assumed {
			t.Errorf("%s: %v, want %v", token.Reveal(), got.Lifetime(), want)
		}
	}
	// A day's lifetime, in whole seconds of the provider's clock.
	for end, want := range map[time.Duration]bool{24*time.Hour + time.Second: false, 48 * time.Hour: true} {
		token := jwt(fmt.Sprintf(`{"exp":%d}`, now.Add(end).Unix()))
		if got := (Answer{Access: token, RequestedAt: now, Lifetime: end}).TokenSet(TokenSet{}, 0); got.Capped() != want || got.Lifetime() != MaxLifetime {
			t.Errorf("%v: capped %v, lifetime %v", end, got.Capped(), got.Lifetime())
		}
	}
}
