package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/net/http/httpguts"

	"keyturn/auth"
	"keyturn/auth/provider"
)

// otlpPrefix begins the names of the exporter's variables.
const otlpPrefix = "OTEL_EXPORTER_OTLP_"

// flushTimeout bounds the sending of the last spans when Keyturn ends.
const flushTimeout = 3 * time.Second

// tracesWanted says whether the environment env asks for traces. What the library would pass over in silence is an error.
func tracesWanted(env map[string]string) (bool, error) {
	endpoint, address := firstSet(env, otlpPrefix+"TRACES_ENDPOINT", otlpPrefix+"ENDPOINT")
	if address == "" || env["OTEL_SDK_DISABLED"] == "true" || env["OTEL_TRACES_EXPORTER"] == "none" {
		return false, nil
	}
	if u, err := url.Parse(address); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return false, fmt.Errorf("%s: is no address; allowed: an http or https URL", endpoint)
	}
	if name, protocol := firstSet(env, otlpPrefix+"TRACES_PROTOCOL", otlpPrefix+"PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		return false, fmt.Errorf("%s: %s is not known; allowed: http/protobuf", name, shown(protocol))
	}
	return true, nil
}

// firstSet is the first of the environment's variables that is not empty.
func firstSet(env map[string]string, names ...string) (name, value string) {
	for _, name := range names {
		if value := env[name]; value != "" {
			return name, value
		}
	}
	return "", ""
}

// traceSecrets are what is secret of what spans are sent with: headers, one of which may be a key, and the credentials for a proxy. What
// is no header is an error without its text, which the library would print.
func traceSecrets(env map[string]string) ([]auth.Secret, error) {
	var secrets []auth.Secret
	for _, variable := range []string{otlpPrefix + "HEADERS", otlpPrefix + "TRACES_HEADERS"} {
		for header := range strings.SplitSeq(env[variable], ",") {
			if strings.TrimSpace(header) == "" {
				continue
			}
			name, encoded, pair := strings.Cut(header, "=")
			value, err := url.PathUnescape(encoded)
			if !pair || err != nil || !httpguts.ValidHeaderFieldName(strings.TrimSpace(name)) {
				return nil, fmt.Errorf("%s: is no list of headers; allowed: NAME=VALUE,NAME=VALUE with percent-encoded values", variable)
			}
			secrets = append(secrets, headerSecrets(strings.TrimSpace(value))...)
		}
	}
	for _, name := range proxyVariables(env) {
		if proxy, err := proxyOf(env[name]); err == nil && proxy != nil {
			secrets = append(secrets, provider.BasicSecrets(proxy.User)...)
		}
	}
	return secrets, nil
}

// headerSecrets are what is secret of a header's value: all of it, and of a scheme with credentials the credentials.
func headerSecrets(value string) []auth.Secret {
	secrets := []auth.Secret{auth.Secret(value)}
	if _, credentials, found := strings.Cut(value, " "); found {
		secrets = append(secrets, auth.Secret(credentials))
	}
	as := http.Request{Header: http.Header{"Authorization": {value}}}
	if username, password, ok := as.BasicAuth(); ok {
		secrets = append(secrets, provider.BasicSecrets(url.UserPassword(username, password))...)
	}
	return secrets
}

// openTraces returns the tracer of the process, nil unless OpenTelemetry's own environment names where spans go, by
// OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT. env tells what is checked here. The library itself takes no environment but
// the process's, and reads all of it from there. close sends what is left.
func openTraces(ctx context.Context, env map[string]string, log *slog.Logger) (tracer trace.Tracer, closeTraces func() error, err error) {
	wanted, err := tracesWanted(env)
	if err != nil {
		return nil, nil, settingsError{err}
	}
	if !wanted {
		return nil, func() error { return nil }, nil
	}
	secrets, err := traceSecrets(env)
	if err != nil {
		return nil, nil, settingsError{err}
	}
	// A client of our own that keeps secrets would take no certificates and no timeout from the environment.
	discreet := func(err error) error { return oneLine(errors.New(auth.Redact(err.Error(), secrets...))) }
	// A collector that is away is no reason to stop: what cannot be sent is dropped, and the log says so.
	unsent := &auth.Complaint{Every: time.Minute}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		unsent.Make(func(times int) { log.Warn("spans were not sent", "times", times, "error", discreet(err)) })
	}))
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, nil, settingsError{fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)}
	}
	// Detectors of hosts and processes would tell more of the machine than belongs elsewhere.
	about, err := resource.New(ctx,
		resource.WithTelemetrySDK(), resource.WithAttributes(attribute.String("service.name", "keyturn")), resource.WithFromEnv())
	if err != nil {
		return nil, nil, settingsError{fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)}
	}
	traces := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	return traces.Tracer("keyturn"), func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		if err := traces.Shutdown(ctx); err != nil {
			log.Warn("the last spans were not sent", "error", discreet(err))
		}
		return nil
	}, nil
}
