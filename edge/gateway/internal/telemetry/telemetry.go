// Package telemetry sets up tracing, and decides what is traced.
package telemetry

import (
	"context"
	"net/http"
	"reflect"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/foremesh/foremesh/edge/gateway/internal/sampling"
)

// Tracing makes spans for sampled requests; for others it costs a look at one header and a random number.
type Tracing struct {
	Tracer   trace.Tracer
	provider *sdktrace.TracerProvider
	usual    sampling.Policy // where the folder says nothing
	sampler  atomic.Pointer[sampling.Sampler]
}

// New exports to an OTLP/HTTP collector, such as http://127.0.0.1:4318; an empty endpoint records nothing. Of the
// requests without a trace of their own, a share of `ratio` begins one, and at most perSecond in a second.
func New(ctx context.Context, endpoint, instance string, ratio, perSecond float64) (*Tracing, error) {
	if endpoint == "" {
		return &Tracing{Tracer: noop.NewTracerProvider().Tracer("gateway")}, nil
	}
	exporter, err := otlptrace.New(ctx, newCollector(endpoint))
	if err != nil {
		return nil, err
	}
	provider := sdktrace.NewTracerProvider(
		// What has no parent was chosen by a policy before the tracer heard of it, and so was what is kept at its end.
		sdktrace.WithSampler(chosen{sdktrace.ParentBased(sdktrace.AlwaysSample())}),
		sdktrace.WithBatcher(exporter, sdktrace.WithMaxQueueSize(2048), sdktrace.WithBatchTimeout(time.Second)),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "gateway"), attribute.String("service.instance.id", instance))),
	)
	t := &Tracing{
		Tracer: provider.Tracer("foremesh.dev/gateway"), provider: provider,
		usual: sampling.Policy{Ratio: ratio, PerSecond: perSecond},
	}
	t.Use(nil)
	return t, nil
}

// Use samples by another policy from the next request on; nil: by what New was given. One that says the same changes nothing.
func (t *Tracing) Use(policy *sampling.Policy) {
	if policy == nil {
		policy = &t.usual
	}
	if now := t.sampler.Load(); now == nil || !reflect.DeepEqual(now.Policy(), *policy) {
		t.sampler.Store(sampling.New(*policy))
	}
}

// Close sends what is still queued.
func (t *Tracing) Close(ctx context.Context) {
	if t.provider != nil {
		_ = t.provider.Shutdown(ctx)
	}
}

// Begin starts the server span of a request of a route: below the caller's, or as a root if this request is chosen. Where
// it is not, nothing is made and the span is an invalid one.
func (t *Tracing) Begin(r *http.Request, route, path string) (context.Context, trace.Span) {
	ctx := r.Context()
	if len(r.Header["Traceparent"]) > 0 {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(r.Header))
	}
	if !trace.SpanContextFromContext(ctx).IsValid() && (t.provider == nil || !t.sampler.Load().Begins(route, time.Now())) {
		return ctx, trace.SpanFromContext(ctx)
	}
	return t.Tracer.Start(ctx, r.Method+" "+path, trace.WithSpanKind(trace.SpanKindServer))
}

// Keep makes the span of a request that was not chosen when it began, if it failed or was slow, in its caller's trace if it
// has one; nil: it is not kept. What is behind has begun no span of its own: the decision is too late for it. ctx is that of the
// request as it came, without a span.
func (t *Tracing) Keep(ctx context.Context, r *http.Request, route, path string, status int, began, ended time.Time) trace.Span {
	if t.provider == nil {
		return nil
	}
	why := t.sampler.Load().Keeps(route, status, ended.Sub(began), ended)
	if why == "" {
		return nil
	}
	ctx = propagation.TraceContext{}.Extract(context.WithValue(ctx, keepKey{}, true), propagation.HeaderCarrier(r.Header))
	_, span := t.Tracer.Start(ctx, r.Method+" "+path, trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(began),
		trace.WithAttributes(attribute.String("sampling.kept", why)))
	return span
}

type keepKey struct{}

// chosen samples what Keep has chosen, whatever its caller has.
type chosen struct{ sdktrace.Sampler }

func (c chosen) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if p.ParentContext.Value(keepKey{}) != nil {
		return sdktrace.AlwaysSample().ShouldSample(p)
	}
	return c.Sampler.ShouldSample(p)
}

// Traceparent is the header's value for a span context.
func Traceparent(sc trace.SpanContext) string {
	flags := "00"
	if sc.IsSampled() {
		flags = "01"
	}
	return "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-" + flags
}
