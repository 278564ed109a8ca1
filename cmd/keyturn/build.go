package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"keyturn/auth"
	"keyturn/auth/provider"
	"keyturn/auth/session"
	"keyturn/auth/vault"
	"keyturn/auth/vault/spool"
	"keyturn/handlers"
)

// streamsShare is which part of all event streams one session may have.
const streamsShare = 10

// site is everything that serves, built.
type site struct {
	handler   http.Handler
	providers *provider.Set
	rotator   *auth.Rotator
	schedule  *auth.Scheduler
	events    *auth.Events
	grants    *auth.Grants
	metrics   *metrics
	draining  atomic.Bool
	keyset    *keysetWatch
	closers   []func() error
}

// build puts Keyturn together. Nothing of it calls a provider: serve has them asked, and waits for none. env is the environment, for
// what OpenTelemetry's variables set.
func build(ctx context.Context, settings Settings, env map[string]string, base string, log *slog.Logger) (_ *site, err error) {
	s := &site{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	now := time.Now
	tracer, closeTraces, err := openTraces(ctx, env, log)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, closeTraces)
	client, err := devClient(settings, base)
	if err != nil {
		return nil, err
	}
	dev, err := s.openDevProvider(ctx, settings, client, base, log)
	if err != nil {
		return nil, err
	}
	providers, err := newProviders(settings, client, base, log)
	if err != nil {
		return nil, err
	}
	s.providers, s.metrics = providers, newMetrics(providers.Names())
	db, keys, err := openVault(ctx, settings, log)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, db.Close)

	s.keyset = &keysetWatch{lifetime: settings.SessionLifetime, keys: keys, db: db, log: log}
	sealer := vault.Sealer{Keys: keys}
	unstored, err := spool.Open(settings.spoolDir(), sealer)
	if err != nil {
		return nil, fmt.Errorf("--data-dir (KEYTURN_DATA_DIR): %w", err)
	}
	callbacks := auth.DefaultCallbacks()
	s.events = &auth.Events{Most: settings.EventStreams, MostOfGrant: settings.EventStreams / streamsShare}
	follow, unfollow := context.WithCancel(context.WithoutCancel(ctx))
	var following sync.WaitGroup
	s.closers = append(s.closers, func() error { unfollow(); following.Wait(); return nil })
	following.Go(func() { s.events.Follow(follow, db, log) })
	following.Go(func() { s.keyset.run(follow) })
	s.grants = auth.NewGrants(db, providers, callbacks, s.events, now, log)
	s.rotator = auth.NewRotator(auth.RotatorConfig{
		Vault: db, Spool: unstored, Providers: providers, Grants: s.grants, Callbacks: callbacks, Events: s.events, RenewTimeout: settings.RenewTimeout,
		Now: now, Log: log, Called: s.metrics.called, Tracer: tracer,
	})
	s.schedule = &auth.Scheduler{
		Vault: db, Rotator: s.rotator, Providers: providers, OnDemand: settings.RenewMode == modeOnDemand, Now: now, Log: log,
	}
	s.metrics.registry.MustRegister(&state{
		db: db, rotator: s.rotator, events: s.events, providers: providers, onDemand: settings.RenewMode == modeOnDemand, now: now, log: log,
	})
	config := s.handlerConfig(settings)
	config.Vault, config.Callbacks, config.BaseURL, config.Now, config.Log, config.Tracer = db, callbacks, base, now, log, tracer
	config.Ready = s.readiness(log, db, unstored)
	if dev != nil {
		config.DevPrefix, config.DevProvider = devPath, dev
	}
	config.Session = session.Options{
		Store: db.Sessions(), Uses: db, Sealer: sealer, Lifetime: settings.SessionLifetime, Secure: isHTTPS(base), Now: now, Log: log,
	}
	if s.handler, err = handlers.New(config); err != nil {
		return nil, settingsError{err} // the base URL is one of them
	}
	return s, nil
}

// handlerConfig is what the handlers take from the settings, and of what is built by now.
func (s *site) handlerConfig(settings Settings) handlers.Config {
	config := handlers.Config{
		Providers: s.providers, Rotator: s.rotator, Grants: s.grants, Events: s.events, Meter: s.metrics,
		ExposeTokens: settings.ExposeTokens == "owner", AccessLog: settings.AccessLog == "on",
		TrustedProxies: settings.TrustedProxies, Limits: settings.Limits, SessionsPerPerson: settings.SessionsPerPerson,
		SecurityContact: settings.SecurityContact,
	}
	if settings.SessionIdle < settings.SessionLifetime {
		config.SessionIdle = settings.SessionIdle
	}
	return config
}

// close ends what build began, the last first.
func (s *site) close() error {
	var errs []error
	for _, closer := range slices.Backward(s.closers) {
		errs = append(errs, closer())
	}
	return errors.Join(errs...)
}

// newProviders are the configured providers, and the embedded one first, if there is a client for it.
func newProviders(settings Settings, dev *provider.Config, base string, log *slog.Logger) (*provider.Set, error) {
	configs := providerConfigs(settings, base)
	if dev != nil {
		configs = append([]provider.Config{*dev}, configs...)
	}
	for i := range configs {
		configs[i].Spread, configs[i].Since = settings.RenewMode != modeOnDemand, time.Now()
	}
	providers, err := provider.New(configs, provider.Options{RenewTimeout: settings.RenewTimeout, Now: time.Now, Log: log})
	if err != nil {
		return nil, settingsError{err}
	}
	return providers, nil
}

// providerConfigs are the configured providers, with the callbacks that they have here.
func providerConfigs(settings Settings, base string) []provider.Config {
	var configs []provider.Config
	for _, p := range settings.Providers {
		configs = append(configs, p.config(base))
	}
	return configs
}

func callbackURL(base, name string) string { return base + "/auth/" + name + "/callback" }
