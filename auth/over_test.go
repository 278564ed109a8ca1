package auth_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"keyturn/auth"
)

// A logout that comes while a sign-in is being finished finds no grant to end. The next sign-in may follow at once.
func TestALogoutEndsASignInThatIsBeingFinished(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{})
	tells := func(t *testing.T, sid, sub string) {
		t.Helper()
		over := auth.Logout{Session: auth.ProviderSession{Provider: "work", SID: sid, Subject: sub}, ID: auth.NewGrantID(time.Now()), Until: time.Now().Add(time.Minute)}
		if _, err := h.grants.EndAll(t.Context(), over, func(context.Context, string) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		sid, sub string // of the logout
		of       string // the sid of alice's sign-in
		over     bool
	}{
		"the session":                {"s1", "", "s1", true},
		"another session":            {"s2", "", "s3", false},
		"the person":                 {"", "alice-a", "s4", true},
		"the person, unnamed":        {"", "alice-b", "", true},
		"both":                       {"s5", "alice-c", "s5", true},
		"the session of another":     {"s6", "bob", "s6", false},
		"another of the person":      {"s7", "alice-d", "s8", false},
		"the person, which has none": {"s9", "alice-e", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			signIn := func(asked time.Time) error {
				tokens := h.idp.Mint()
				whose := auth.Identity{Provider: "work", Issuer: h.idp.URL, Subject: c.sub}
				if c.sub == "" || c.sub == "bob" {
					whose.Subject = "alice"
				}
				if c.of != "" {
					whose.Claims = map[string]any{"sid": c.of}
				}
				g, err := h.grants.Begin(t.Context(), auth.SignedIn{Identity: whose, Answer: auth.Answer{
					Access: auth.Secret(tokens["access_token"].(string)), Lifetime: time.Hour, RequestedAt: asked, Type: "Bearer",
				}})
				if g != nil {
					_, found := h.db.Get(t.Context(), g.ID)
					err = errors.Join(err, found)
				}
				return err
			}
			asked := time.Now()
			tells(t, c.sid, c.sub)
			if err := signIn(asked); errors.Is(err, auth.ErrOver) != c.over || err != nil && !c.over {
				t.Errorf("the sign-in: %v", err)
			}
			if err := signIn(time.Now()); err != nil {
				t.Errorf("the next one: %v", err)
			}
			between := time.Now()
			time.Sleep(time.Millisecond)
			tells(t, c.sid, c.sub)
			if err := signIn(between); errors.Is(err, auth.ErrOver) != c.over {
				t.Errorf("one that was under way at another logout: %v", err)
			}
		})
	}
}
