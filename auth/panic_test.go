package auth_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"keyturn/auth"
)

// broken are providers with a bug.
type broken struct{ auth.Providers }

func (b broken) Lookup(name string) (auth.Provider, bool) {
	p, ok := b.Providers.Lookup(name)
	return bug{p}, ok
}

func (b broken) Of(whose auth.Identity) (auth.Provider, bool) { return b.Lookup(whose.Provider) }

type bug struct{ auth.Provider }

func (bug) Renew(context.Context, auth.TokenSet, bool) (auth.Answer, error) {
	time.Sleep(100 * time.Millisecond) // others join
	panic("a bug")
}

// A bug in a provider ends one renewal, with an error for everybody who waits for it. What it did with the refresh token nobody knows.
func TestAProviderThatPanicsEndsNothingButTheRenewal(t *testing.T) {
	t.Parallel()
	h := newHouse(t, options{})
	config := h.config
	config.Providers = broken{h.set}
	r := auth.NewRotator(config)
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if _, err := r.Renew(t.Context(), h.grant.ID, auth.TriggerManual, time.Now()); err == nil || !strings.Contains(err.Error(), "a bug") {
				t.Errorf("error %v", err)
			}
		})
	}
	all.Wait()
	if err := r.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if h.stored(t).PresentingAt.IsZero() {
		t.Error("the refresh token counts as one that was not presented")
	}
}
