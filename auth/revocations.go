package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// revocationsAtOnce is how many revocations run at once for somebody who waits for them.
	revocationsAtOnce = 100
	// revocationPatience is how long one of them is tried again, and how long a provider may not answer before it is asked for nothing
	// more: thousands of grants would wait for it one after the other.
	revocationPatience = 15 * time.Second
)

// Revocations revokes the tokens of ended grants for somebody who waits for what comes of it. It is safe for concurrent use.
type Revocations struct {
	vault     Vault
	providers Providers
	log       *slog.Logger
	room      chan struct{} // holds one for each that runs
	running   sync.WaitGroup

	mu      sync.Mutex
	silent  map[string]time.Time // since when a provider has not answered
	missing map[string]*NotRevoked
}

// NotRevoked is of how many grants of a provider the tokens are not revoked, and why the latest was not.
type NotRevoked struct {
	Provider string
	Grants   int
	Owed     int // of these grants; a process that runs tries to revoke their tokens again
	Reason   error
}

// NewRevocations returns a Revocations at the providers, of grants that are in the vault no more.
func NewRevocations(vault Vault, providers Providers, log *slog.Logger) *Revocations {
	return &Revocations{
		vault: vault, providers: providers, log: log, room: make(chan struct{}, revocationsAtOnce),
		silent: map[string]time.Time{}, missing: map[string]*NotRevoked{},
	}
}

// Begin revokes the tokens of a grant that is gone, which are owed, beside the caller, whom it holds up while a hundred others run. What
// may pass is tried again for a while, until ctx is done, and is owed still after that, as is what has not begun by then.
func (r *Revocations) Begin(ctx context.Context, gone *Grant) {
	select {
	case r.room <- struct{}{}:
	case <-ctx.Done():
		r.leave(ctx, gone, ctx.Err(), true)
		return
	}
	r.running.Go(func() {
		defer func() { <-r.room }()
		err := r.revoke(ctx, gone)
		owed, note := passes(err), r.vault.Settle
		if owed {
			note = func(ctx context.Context, id string) error { return r.vault.PutOff(ctx, id, putOff(0, err)) }
		}
		if err := note(context.WithoutCancel(ctx), gone.ID); err != nil {
			r.log.WarnContext(ctx, notNoted, "grant", gone.ID, "error", err)
		}
		if err != nil && !errors.Is(err, errSpared) { // the last of them revokes
			r.leave(ctx, gone, err, owed)
		}
	})
}

// leave notes why the tokens of a grant that is gone are not revoked.
func (r *Revocations) leave(ctx context.Context, gone *Grant, why error, owed bool) {
	name := gone.Identity.Provider
	r.log.WarnContext(ctx, "tokens of an ended grant could not be revoked", "grant", gone.ID, "provider", name, "error", why)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.missing[name] == nil {
		r.missing[name] = &NotRevoked{Provider: name}
	}
	r.missing[name].Grants++
	if owed {
		r.missing[name].Owed++
	}
	r.missing[name].Reason = why
}

// Wait returns, when no revocation runs any more, those that failed.
func (r *Revocations) Wait() []NotRevoked {
	r.running.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []NotRevoked
	for _, name := range slices.Sorted(maps.Keys(r.missing)) {
		list = append(list, *r.missing[name])
	}
	return list
}

// errSpared is why tokens of a grant that is gone are left alone for now.
var errSpared = errors.New("the provider would end the person's other sessions, too")

// revoking returns the provider that is to revoke the tokens of a grant that is gone, or why they live on there: errSpared while a
// revocation would cost the person another session. Without tokens the grant did not open, and nobody knows them.
func revoking(ctx context.Context, vault Vault, providers Providers, gone *Grant) (Provider, error) {
	if gone.Tokens.Access == "" && gone.Tokens.Refresh == "" && !gone.Ended() {
		return nil, ErrUnreadable
	}
	provider, ok := providers.Of(gone.Identity)
	if !ok {
		return nil, errors.New("the provider is not configured")
	}
	return provider, spares(ctx, vault, provider, gone.Identity)
}

// spares says why a person's tokens are not to be revoked at a provider: errSpared while it would cost them another session. Where nobody
// knows whose they are, it may.
func spares(ctx context.Context, vault Vault, provider Provider, whose Identity) error {
	if !provider.RevokesConsent() {
		return nil
	}
	if whose.Subject == "" {
		return errSpared
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storageWait)
	defer cancel()
	others, err := vault.Person(ctx, whose.Provider, whose.Subject)
	if err != nil {
		return fmt.Errorf("look for the person's other sessions: %w", err)
	}
	if len(others) > 0 {
		return errSpared
	}
	return nil
}

func (r *Revocations) revoke(ctx context.Context, gone *Grant) error {
	name := gone.Identity.Provider
	provider, err := revoking(ctx, r.vault, r.providers, gone)
	if err != nil {
		return err
	}
	if r.silentFor(name) >= revocationPatience {
		return errors.New("the provider has not answered for too long, or asks to be left alone")
	}
	began := time.Now()
	for failures := 1; ; failures++ {
		err := revokeOnce(ctx, provider, gone.Tokens)
		again := err != nil && passes(err)
		asked := askedFor(err)
		r.heard(name, !again, asked)
		left := revocationPatience - max(time.Since(began), r.silentFor(name))
		if !again || left <= asked {
			return err
		}
		select {
		case <-time.After(min(backoff(failures, asked), left)):
		case <-ctx.Done():
			return err
		}
	}
}

// heard notes whether a provider has answered, in a way that another try would not change. One that asks to be left alone for longer than
// anybody waits is taken for one that has not answered for as long.
func (r *Revocations) heard(name string, answered bool, asked time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch _, silent := r.silent[name]; {
	case answered:
		delete(r.silent, name)
	case asked >= revocationPatience:
		r.silent[name] = time.Now().Add(-revocationPatience)
	case !silent:
		r.silent[name] = time.Now()
	}
}

// silentFor is for how long a provider has not answered although it was asked.
func (r *Revocations) silentFor(name string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if since, silent := r.silent[name]; silent {
		return time.Since(since)
	}
	return 0
}
