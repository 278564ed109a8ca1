package auth

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// step begins the span of one step of a renewal. The error that ends it is told by its code only: its words may be a provider's.
func (r *Rotator) step(ctx context.Context, name string) (stepping context.Context, end func(err error)) {
	ctx, span := r.Tracer.Start(ctx, name)
	return ctx, func(err error) {
		var refusal *ProviderError
		switch {
		case errors.As(err, &refusal):
			span.SetAttributes(attribute.Int("http.response.status_code", refusal.Failure.Status))
			span.SetStatus(codes.Error, refusal.Failure.Code)
		case err != nil:
			span.SetStatus(codes.Error, "failed")
		}
		span.End()
	}
}

// describe puts what became of a flight into its span: no id, no token, and nothing that a provider wrote but its error code.
func (f *flight) describe(span trace.Span, trigger Trigger) {
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(attribute.String("keyturn.trigger", string(trigger)))
	if f.err != nil {
		span.SetStatus(codes.Error, "not run")
		return
	}
	span.SetAttributes(
		attribute.String("keyturn.outcome", string(f.result.Outcome)), attribute.Int("keyturn.sharers", int(f.sharers.Load())),
	)
	if g := f.result.Grant; g != nil {
		span.SetAttributes(
			attribute.String("keyturn.provider", g.Identity.Provider), attribute.Int64("keyturn.generation", g.Generation),
		)
	}
	if code := f.result.Failure.Code; code != "" {
		span.SetStatus(codes.Error, code)
	}
}
