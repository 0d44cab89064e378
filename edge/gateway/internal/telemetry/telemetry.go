// Package telemetry sets up tracing, and decides what is traced.
package telemetry

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Tracing makes spans for sampled requests; for others it costs a look at one header.
type Tracing struct {
	Tracer   trace.Tracer
	provider *sdktrace.TracerProvider
}

// New exports to an OTLP/HTTP collector, such as http://127.0.0.1:4318; an empty endpoint traces nothing.
func New(ctx context.Context, endpoint, instance string, ratio, perSecond float64) (*Tracing, error) {
	if endpoint == "" {
		return &Tracing{Tracer: noop.NewTracerProvider().Tracer("gateway")}, nil
	}
	exporter, err := otlptracehttp.New(ctx,
		otlptracehttp.WithEndpointURL(strings.TrimRight(endpoint, "/")+"/v1/traces"),
		otlptracehttp.WithTimeout(3*time.Second))
	if err != nil {
		return nil, err
	}
	root := &capped{inner: sdktrace.TraceIDRatioBased(ratio), perSecond: perSecond, now: time.Now}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.ParentBased(root)),
		sdktrace.WithBatcher(exporter, sdktrace.WithMaxQueueSize(2048), sdktrace.WithBatchTimeout(time.Second)),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "gateway"), attribute.String("service.instance.id", instance))),
	)
	return &Tracing{Tracer: provider.Tracer("foremesh.dev/gateway"), provider: provider}, nil
}

// Close sends what is still queued.
func (t *Tracing) Close(ctx context.Context) {
	if t.provider != nil {
		_ = t.provider.Shutdown(ctx)
	}
}

// Extract returns the caller's trace context, if it sent a valid one.
func Extract(ctx context.Context, h http.Header) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(h))
}

// Inject writes a span's context as `traceparent`.
func Inject(ctx context.Context, h http.Header) {
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(h))
}

// Traceparent is the header's value for a span context.
func Traceparent(sc trace.SpanContext) string {
	flags := "00"
	if sc.IsSampled() {
		flags = "01"
	}
	return "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-" + flags
}

// capped lets at most so many traces a second begin here, so that a ratio cannot flood a collector.
type capped struct {
	inner     sdktrace.Sampler
	perSecond float64
	now       func() time.Time

	mu     sync.Mutex
	tokens float64
	last   time.Time
}

func (c *capped) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	result := c.inner.ShouldSample(p)
	if result.Decision == sdktrace.RecordAndSample && !c.take() {
		result.Decision = sdktrace.Drop
	}
	return result
}

func (c *capped) Description() string { return "RateCapped{" + c.inner.Description() + "}" }

func (c *capped) take() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if c.last.IsZero() {
		c.tokens = c.perSecond
	}
	c.tokens = min(c.perSecond, c.tokens+now.Sub(c.last).Seconds()*c.perSecond)
	c.last = now
	if c.tokens < 1 {
		return false
	}
	c.tokens--
	return true
}
