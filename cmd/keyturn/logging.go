package main

import (
	"context"
	"io"
	"log/slog"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"keyturn/handlers"
)

func newLogger(settings Settings, stderr io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: settings.logLevel()}
	if settings.LogFormat == "json" {
		options.ReplaceAttr = withUnits
		return slog.New(identified{slog.NewJSONHandler(stderr, options)})
	}
	return slog.New(identified{slog.NewTextHandler(stderr, options)})
}

// libraryLog takes what libraries write to the standard library's log.
type libraryLog struct{ *slog.Logger }

// Write implements io.Writer. net/http quotes there what came behind the end of an answer: of a token answer whose length is wrong, the tokens.
func (l libraryLog) Write(line []byte) (int, error) {
	said, _, _ := strings.Cut(strings.TrimSpace(string(line)), " starting with ")
	l.Info(said)
	return len(line), nil
}

// withUnits writes durations as the text format does, such as 1.5ms: in JSON they would be nanoseconds, which nothing says.
func withUnits(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// identified adds to each record the id of the request that it comes from, and of the trace.
type identified struct{ slog.Handler }

// Handle implements slog.Handler.
func (h identified) Handle(ctx context.Context, r slog.Record) error {
	if id := handlers.RequestID(ctx); id != "" {
		r.AddAttrs(slog.String("request", id))
	}
	if span := trace.SpanContextFromContext(ctx); span.HasTraceID() {
		r.AddAttrs(slog.String("trace", span.TraceID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h identified) WithAttrs(attrs []slog.Attr) slog.Handler {
	return identified{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h identified) WithGroup(name string) slog.Handler { return identified{h.Handler.WithGroup(name)} }
