package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// drainGrace is what a drain gets beyond the longest token endpoint call, for storing what that brought.
const drainGrace = 15 * time.Second

// serve runs Keyturn until ctx is done, and then drains: not ready first, no new renewals, running ones finish and are
// stored, connections close.
func serve(ctx context.Context, settings Settings, log *slog.Logger, stdout io.Writer) (err error) {
	listener, err := net.Listen("tcp", settings.Addr)
	if err != nil {
		return fmt.Errorf("--addr (KEYTURN_ADDR): cannot listen on %q: %w", settings.Addr, err)
	}
	defer listener.Close()
	base := settings.BaseURL
	if base == "" {
		base = deriveBaseURL(settings.Addr, listener.Addr())
	}
	s, err := build(ctx, settings, base, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()

	servers := []*http.Server{newServer(s.handler)}
	listeners := []net.Listener{listener}
	if settings.AdminAddr != "" {
		admin, err := net.Listen("tcp", settings.AdminAddr)
		if err != nil {
			return fmt.Errorf("--admin-addr (KEYTURN_ADMIN_ADDR): cannot listen on %q: %w", settings.AdminAddr, err)
		}
		servers, listeners = append(servers, newServer(adminHandler(s.handler))), append(listeners, admin)
		log.Info("admin listener", "address", admin.Addr().String())
	}
	failed := make(chan error, len(servers))
	var serving sync.WaitGroup
	for i, server := range servers {
		serving.Go(func() {
			if err := server.Serve(listeners[i]); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	var scheduling sync.WaitGroup
	schedule, unschedule := context.WithCancel(ctx)
	defer unschedule()
	scheduling.Go(func() { s.schedule.Run(schedule) })
	fmt.Fprintf(stdout, "Keyturn is ready: open %s\n", base)
	select {
	case <-ctx.Done():
		log.Info("stopping: running renewals finish first")
	case err = <-failed:
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*settings.RenewTimeout+drainGrace)
	defer cancel()
	s.draining.Store(true)
	s.events.Drain()
	unschedule()
	scheduling.Wait()
	// New connections are refused while requests and renewals finish; they wait for each other.
	var draining sync.WaitGroup
	errs := make([]error, len(servers)+1)
	for i, server := range servers {
		draining.Go(func() { errs[i] = server.Shutdown(drain) })
	}
	draining.Go(func() { errs[len(servers)] = errors.Join(s.rotator.Drain(drain), s.grants.Wait(drain)) })
	draining.Wait()
	serving.Wait()
	return errors.Join(append(errs, err)...)
}

// maxHeader bounds a request's line and headers, in bytes. A provider's answer comes in the line: one that is much too long still
// reaches the handlers, which say so on a page, where the server itself would answer with a line of text.
const maxHeader = 256 << 10

func newServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: maxHeader,
	}
}

// adminHandler is what operators see: health as on the public listener, and pprof.
func adminHandler(public http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/healthz", public)
	mux.Handle("/readyz", public)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// readiness joins what must be right before requests should come here.
func readiness(draining *atomic.Bool, checks ...func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if draining.Load() {
			return errors.New("stopping")
		}
		var errs []error
		for _, check := range checks {
			errs = append(errs, check(ctx))
		}
		return errors.Join(errs...)
	}
}

func isHTTPS(base string) bool { return strings.HasPrefix(base, "https:") }
