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
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// drainGrace is what a drain gets beyond the longest token endpoint call, for storing what that brought.
const drainGrace = 15 * time.Second

// serve runs Keyturn until ctx is done, and then drains: not ready first, then no new renewals, running ones finish and are
// stored, connections close.
func serve(ctx context.Context, settings Settings, env map[string]string, log *slog.Logger, stdout io.Writer) (err error) {
	defer runtime.KeepAlive(collectSeldom())
	listener, err := net.Listen("tcp", settings.Addr)
	if err != nil {
		return fmt.Errorf("--addr (KEYTURN_ADDR): cannot listen on %q: %w", settings.Addr, err)
	}
	defer listener.Close()
	base := settings.publicURL(listener.Addr())
	settings.Addr = listener.Addr().String()
	s, err := build(ctx, settings, env, base, log)
	if err != nil && ctx.Err() != nil {
		log.Info("stopped while starting")
		return nil
	}
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, s.close()); err == nil {
			log.Info("stopped")
		}
	}()

	public := publicServer(s.partingFrom(s.handler), settings.RenewTimeout, log)
	doors := []*parting{doorOf(public, listener)}
	if settings.AdminAddr != "" {
		listener, err := net.Listen("tcp", settings.AdminAddr)
		if err != nil {
			return fmt.Errorf("--admin-addr (KEYTURN_ADMIN_ADDR): cannot listen on %q: %w", settings.AdminAddr, err)
		}
		doors = append(doors, doorOf(newServer(s.adminHandler(), log), listener))
		log.Info("admin listener", "address", listener.Addr().String())
	}
	failed := make(chan error, len(doors))
	var serving sync.WaitGroup
	for _, door := range doors {
		serving.Go(func() {
			if err := door.server.Serve(door); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	var scheduling sync.WaitGroup
	schedule, unschedule := context.WithCancel(context.WithoutCancel(ctx))
	defer unschedule()
	scheduling.Go(func() { s.schedule.Run(schedule) })
	scheduling.Go(func() { s.grants.Run(schedule) })
	scheduling.Go(func() { s.providers.Discover(schedule) })
	fmt.Fprintf(stdout, "Keyturn is ready: open %s\n", base)
	select {
	case <-ctx.Done():
		log.Info("stopping: not ready from now on", "serving_for", settings.DrainDelay)
		s.draining.Store(true)
		unschedule()
		s.rotator.Leave()
		select {
		case <-time.After(settings.DrainDelay):
		case err = <-failed:
		}
	case err = <-failed:
	}
	log.Info("stopping: running renewals finish first")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*settings.RenewTimeout+drainGrace)
	defer cancel()
	s.draining.Store(true)
	s.events.Drain()
	unschedule()
	scheduling.Wait()
	err = errors.Join(err, s.drain(drain, doors[0]))
	for _, admin := range doors[1:] {
		err = errors.Join(err, admin.shut(drain))
	}
	serving.Wait()
	return err
}

// maxHeader bounds a request's line and headers, in bytes. A provider's answer comes in the line: one that is much too long still
// reaches the handlers, which say so on a page, where the server itself would answer with a line of text.
const maxHeader = 256 << 10

// lastWords is how long requests have to arrive on connections that came before the listener closed. Shutdown drops a request that has
// just been read.
const lastWords = 200 * time.Millisecond

// drain refuses new connections while requests and renewals finish; they wait for each other. Revocations that run finish after that, and
// the others are owed.
func (s *site) drain(ctx context.Context, public *parting) error {
	var draining sync.WaitGroup
	var closing, renewing error
	draining.Go(func() { closing = public.shut(ctx) })
	draining.Go(func() { renewing = s.rotator.Drain(ctx) })
	draining.Wait()
	return errors.Join(closing, renewing, s.grants.Wait(ctx))
}

// parting is a listener that can stop to accept connections before its server shuts down.
type parting struct {
	net.Listener
	server *http.Server
	silent sync.Map // connections on which no whole request has come
	parted atomic.Bool
	once   sync.Once
	closed chan struct{}
}

// doorOf is a server's listener.
func doorOf(server *http.Server, listener net.Listener) *parting {
	door := &parting{Listener: faultListener{listener}, server: server, closed: make(chan struct{})}
	server.ConnState = door.follow
	return door
}

// Accept implements net.Listener. After part it waits for Close.
func (l *parting) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil && l.parted.Load() {
		<-l.closed
	}
	return conn, err
}

// part refuses connections from now on.
func (l *parting) part() {
	l.parted.Store(true)
	_ = l.Listener.Close()
}

// Close implements net.Listener.
func (l *parting) Close() error {
	defer l.once.Do(func() { close(l.closed) })
	if l.parted.Load() {
		return nil
	}
	return l.Listener.Close()
}

// follow is its server's ConnState.
func (l *parting) follow(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		l.silent.Store(conn, nil)
	case http.StateIdle: // it was active before
	default:
		l.silent.Delete(conn)
	}
}

// shut parts, and shuts its server down when last words have come. That would answer nobody any more who has not asked yet, and still wait
// 5 s for them.
func (l *parting) shut(ctx context.Context) error {
	l.part()
	time.Sleep(lastWords)
	l.silent.Range(func(conn, _ any) bool { _ = conn.(net.Conn).Close(); return true })
	return l.server.Shutdown(ctx)
}

// partingFrom has clients take their next request elsewhere once the process is about to end: a connection that closes behind an answer
// cuts no request.
func (s *site) partingFrom(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// idleMost is how long a connection stays open between two requests. A balancer that keeps its own for as long, or longer, sends one just as
// it is closed, and answers 502: Google's keep theirs for 600 s, most others for less.
const idleMost = 620 * time.Second

// newServer returns a server that gives up on clients which do not come to the point.
func newServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: idleMost,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// publicServer also gives up on clients which do not read their answer. People whose renewal waits get theirs; event streams set bounds of
// their own.
func publicServer(handler http.Handler, renewTimeout time.Duration, log *slog.Logger) *http.Server {
	server := newServer(handler, log)
	server.WriteTimeout = 2*renewTimeout + time.Minute
	return server
}

// adminHandler is what operators see: health as on the public listener, metrics, and pprof but for the command line, which may hold a
// password.
func (s *site) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/healthz", s.handler)
	mux.Handle("/readyz", s.handler)
	mux.Handle("GET /metrics", s.metrics.handler())
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

func isHTTPS(base string) bool { return strings.HasPrefix(base, "https:") }

// collectSeldom lets the garbage of small heaps grow by 32 MB more before it is collected, for as long as the result lives. With
// a live heap of a few megabytes a busy server would collect dozens of times a second. The memory is never touched, so it is
// the system's; a higher GOGC would be a multiple of large heaps, too.
func collectSeldom() []byte { return make([]byte, 32<<20) }
