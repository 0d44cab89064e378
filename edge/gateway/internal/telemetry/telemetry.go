// Package telemetry sets up tracing, and decides what is traced.
package telemetry

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Tracing makes spans for sampled requests; for others it costs a look at one header and a random number.
type Tracing struct {
	Tracer   trace.Tracer
	roots    *roots // nil: none begins here
	provider *sdktrace.TracerProvider
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
		// What has no parent was chosen by `roots` before the tracer heard of it.
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())),
		sdktrace.WithBatcher(exporter, sdktrace.WithMaxQueueSize(2048), sdktrace.WithBatchTimeout(time.Second)),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "gateway"), attribute.String("service.instance.id", instance))),
	)
	return &Tracing{
		Tracer: provider.Tracer("foremesh.dev/gateway"), provider: provider,
		roots: &roots{ratio: ratio, perSecond: perSecond, now: time.Now, chance: rand.Float64},
	}, nil
}

// Close sends what is still queued.
func (t *Tracing) Close(ctx context.Context) {
	if t.provider != nil {
		_ = t.provider.Shutdown(ctx)
	}
}

// Begin starts the server span of a request: below the caller's, or as a root if this request is chosen. Where it
// is not, nothing is made and the span is an invalid one.
func (t *Tracing) Begin(r *http.Request, route string) (context.Context, trace.Span) {
	ctx := r.Context()
	if len(r.Header["Traceparent"]) > 0 {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(r.Header))
	}
	if !trace.SpanContextFromContext(ctx).IsValid() && (t.roots == nil || !t.roots.take()) {
		return ctx, trace.SpanFromContext(ctx)
	}
	return t.Tracer.Start(ctx, r.Method+" "+route, trace.WithSpanKind(trace.SpanKindServer))
}

// Traceparent is the header's value for a span context.
func Traceparent(sc trace.SpanContext) string {
	flags := "00"
	if sc.IsSampled() {
		flags = "01"
	}
	return "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-" + flags
}

// roots chooses which requests begin a trace: a share, but at most so many a second, so that a share cannot flood
// a collector.
type roots struct {
	ratio, perSecond float64
	now              func() time.Time
	chance           func() float64 // in [0, 1)

	mu     sync.Mutex
	tokens float64
	last   time.Time
}

func (r *roots) take() bool {
	if r.perSecond <= 0 || r.chance() >= r.ratio {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	most := max(1, r.perSecond) // less than one a second still needs a whole token
	if r.last.IsZero() {
		r.tokens = most
	}
	r.tokens = min(most, r.tokens+now.Sub(r.last).Seconds()*r.perSecond)
	r.last = now
	if r.tokens < 1 {
		return false
	}
	r.tokens--
	return true
}
