package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"keyturn/auth"
)

// flushTimeout bounds the sending of the last spans when Keyturn ends.
const flushTimeout = 3 * time.Second

// tracesWanted says whether the environment asks for traces. What the library would pass over in silence is an error.
func tracesWanted() (bool, error) {
	const prefix = "OTEL_EXPORTER_OTLP_"
	endpoint, address := firstSet(prefix+"TRACES_ENDPOINT", prefix+"ENDPOINT")
	if address == "" || os.Getenv("OTEL_SDK_DISABLED") == "true" || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false, nil
	}
	if u, err := url.Parse(address); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return false, fmt.Errorf("%s: is no address; allowed: an http or https URL", endpoint)
	}
	if name, protocol := firstSet(prefix+"TRACES_PROTOCOL", prefix+"PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		return false, fmt.Errorf("%s: %s is not known; allowed: http/protobuf", name, shown(protocol))
	}
	return true, nil
}

// firstSet is the first of the environment's variables that is not empty.
func firstSet(names ...string) (name, value string) {
	for _, name := range names {
		if value := os.Getenv(name); value != "" {
			return name, value
		}
	}
	return "", ""
}

// openTraces returns the tracer of the process, nil unless OpenTelemetry's own environment names where spans go, by
// OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT. The library reads the rest of that environment. close sends what
// is left.
func openTraces(ctx context.Context, log *slog.Logger) (tracer trace.Tracer, closeTraces func() error, err error) {
	wanted, err := tracesWanted()
	if err != nil {
		return nil, nil, settingsError{err}
	}
	if !wanted {
		return nil, func() error { return nil }, nil
	}
	// A collector that is away is no reason to stop: what cannot be sent is dropped, and the log says so.
	unsent := &auth.Complaint{Every: time.Minute}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		unsent.Make(func(times int) { log.Warn("spans were not sent", "times", times, "error", err) })
	}))
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, nil, settingsError{fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)}
	}
	// Detectors of hosts and processes would tell more of the machine than belongs elsewhere.
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(attribute.String("service.name", "keyturn")), resource.WithFromEnv())
	if err != nil {
		return nil, nil, settingsError{fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)}
	}
	traces := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	return traces.Tracer("keyturn"), func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		if err := traces.Shutdown(ctx); err != nil {
			log.Warn("the last spans were not sent", "error", err)
		}
		return nil
	}, nil
}
