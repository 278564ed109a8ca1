// Command keyturn signs people in with any OAuth 2.0 or OpenID Connect provider and keeps their tokens fresh.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"keyturn/auth/provider"
)

func main() {
	// A few of goth's providers take no HTTP client: what they use instead is bounded here.
	http.DefaultTransport = provider.BoundDefaultTransport(provider.Options{})
	ctx, stop := untilSignal(context.Background())
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// sameSignal is how long after the first signal to stop another one is taken for the same: timeout(1), for one, sends each twice.
const sameSignal = 200 * time.Millisecond

// untilSignal returns a context that ends with the first signal to stop. A second one ends the program at once.
func untilSignal(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signal.Notify(signals, syscall.SIGHUP) // the terminal is closed
	}
	go func() {
		<-signals
		cancel()
		for first := time.Now(); ; {
			if again := <-signals; time.Since(first) > sameSignal {
				slog.Error("ended at once by a second signal: what still ran is not finished", "signal", again.String())
				os.Exit(1)
			}
		}
	}()
	return ctx, func() { signal.Stop(signals); cancel() }
}

// run is the whole program, and returns its exit code: 0 when it did what was asked, 1 when it could not, 2 when the
// settings are wrong. What people read goes to stdout, errors and the log to stderr.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	settings, what, done, err := parseSettings(args, environ, stdout)
	if err != nil {
		fmt.Fprintf(stderr, "keyturn: %v\n", err)
		return 2
	}
	if done {
		return 0
	}
	if what.name == commandServe {
		// Who reads the log may go away, as tee does on Ctrl-C: what runs is finished and stored all the same.
		signal.Ignore(syscall.SIGPIPE)
	}
	log := newLogger(settings, stderr)
	slog.SetDefault(log)
	stdlog.SetOutput(libraryLog{log})
	if what.name != commandReady { // is asked every few seconds, and the server that it asks has said them
		for _, warning := range settings.Warnings {
			log.Warn(warning)
		}
	}
	if what.name == commandCheck {
		return checkProviders(ctx, settings, what.json, log, stdout, stderr)
	}
	switch what.name {
	case commandServe:
		err = serve(ctx, settings, environment(environ), log, stdout)
	case commandReady:
		err = askReady(ctx, settings, what.exclude, stdout)
	case commandSessionsList, commandSessionsEnd:
		err = manageSessions(ctx, settings, what, log, stdout)
	default:
		err = manageKeys(ctx, settings, what.name, log, stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "keyturn: %v\n", err)
		if wrong := (settingsError{}); errors.As(err, &wrong) {
			return 2
		}
		return 1
	}
	return 0
}

// settingsError marks an error of the settings that only putting them to use could find.
type settingsError struct{ error }

// Unwrap returns the error itself.
func (e settingsError) Unwrap() error { return e.error }
