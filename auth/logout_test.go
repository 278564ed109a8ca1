package auth_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"keyturn/auth"
)

// over is what a logout token says of all that alice has.
func (h *house) over() auth.Logout {
	return auth.Logout{
		Session: auth.ProviderSession{Provider: "work", Subject: "alice"}, Issuer: h.idp.URL, ID: "jti", Until: time.Now().Add(time.Hour),
	}
}

// A logout token that comes twice does not end who has signed in since.
func TestALogoutTokenEndsNothingTwice(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{})
	var sessions int
	endSession := func(context.Context, string) error { sessions++; return nil }
	if ended, err := h.grants.EndAll(t.Context(), h.over(), endSession); ended != 1 || err != nil {
		t.Fatalf("%d ended, %v", ended, err)
	}
	h.grant = h.signIn(t)
	if ended, err := h.grants.EndAll(t.Context(), h.over(), endSession); ended != 0 || !errors.Is(err, auth.ErrReplayed) || sessions != 1 {
		t.Errorf("again: %d ended, %d sessions in all, %v", ended, sessions, err)
	}
	h.stored(t)
	if err := h.grants.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

// Of two logout tokens that are one, and come at once, one is used.
func TestALogoutTokenThatComesTwiceAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{})
	var meanwhile error
	_, err := h.grants.EndAll(t.Context(), h.over(), func(ctx context.Context, _ string) error {
		_, meanwhile = h.grants.EndAll(ctx, h.over(), func(context.Context, string) error { return nil })
		return nil
	})
	if meanwhile != nil || !errors.Is(err, auth.ErrReplayed) {
		t.Errorf("%v, and meanwhile %v", err, meanwhile)
	}
	if err := h.grants.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

// A provider that hangs up has said all: what it began is done to its end, and the token is used.
func TestALogoutThatHasBegunIsDoneToItsEnd(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{})
	ids := append(h.crowd(t, 2), h.grant.ID)
	ctx, hangUp := context.WithCancel(t.Context())
	endSession := func(ctx context.Context, _ string) error { hangUp(); return ctx.Err() }
	if ended, err := h.grants.EndAll(ctx, h.over(), endSession); ended != len(ids) || err != nil {
		t.Errorf("%d ended, %v", ended, err)
	}
	for _, id := range ids {
		if _, err := h.db.Get(t.Context(), id); !errors.Is(err, auth.ErrNotFound) {
			t.Errorf("it is there still: %v", err)
		}
	}
	if _, err := h.grants.EndAll(t.Context(), h.over(), endSession); !errors.Is(err, auth.ErrReplayed) {
		t.Errorf("again: %v", err)
	}
	if err := h.grants.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}
