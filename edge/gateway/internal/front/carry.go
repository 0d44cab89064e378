package front

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/foremesh/foremesh/edge/gateway/internal/coalesce"
	"github.com/foremesh/foremesh/edge/gateway/internal/problem"
	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
	"github.com/foremesh/foremesh/edge/gateway/internal/telemetry"
	"github.com/foremesh/foremesh/edge/gateway/internal/traffic"
)

// maxReplyBytes bounds what one call may answer: 64 items of 32 KB.
const maxReplyBytes = 2 << 20

type asked struct {
	body []byte
	span trace.Span
}

type answered struct {
	Status     int            `json:"status"`
	Body       jsontext.Value `json:"body"`
	RetryAfter float64        `json:"retry_after_s"`
}

type item = coalesce.Item[asked, answered]

// carrier takes the requests of one route to its backend, many in one call.
type carrier struct {
	front     *Front
	backend   routes.Backend
	spec      *routes.CoalesceSpec
	client    *http.Client
	budget    *retryBudget
	coalescer *coalesce.Coalescer[asked, answered]
}

func newCarrier(f *Front, backend routes.Backend, spec *routes.CoalesceSpec, budget *retryBudget) *carrier {
	c := &carrier{front: f, backend: backend, spec: spec, client: &http.Client{Transport: f.transport}, budget: budget}
	c.coalescer = coalesce.New(c.call, spec.MaxBatch, spec.MaxInFlight, spec.MaxQueue)
	return c
}

// carry answers one request of a coalesced route and returns the status it sent.
func (f *Front) carry(w http.ResponseWriter, r *http.Request, rule *routes.Rule) int {
	body, p := readBody(w, r, f.settings.MaxBodyBytes)
	if p != nil {
		p.Write(w)
		return p.Status
	}
	c := f.carriers[rule.Coalesce]
	// The queue is part of the promise: a request that could not be sent in time is told so.
	ctx, cancel := context.WithTimeout(r.Context(), 2*c.spec.Timeout.Duration)
	defer cancel()
	answer, err := c.coalescer.Do(ctx, asked{body, trace.SpanFromContext(r.Context())})
	if err != nil {
		p := asProblem(err)
		p.Write(w)
		return p.Status
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if answer.Status >= 400 {
		h.Set("Content-Type", "application/problem+json")
	}
	if answer.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(max(1, int(answer.RetryAfter+0.5))))
	}
	h.Set("Content-Length", strconv.Itoa(len(answer.Body)))
	w.WriteHeader(answer.Status)
	_, _ = w.Write(answer.Body)
	return answer.Status
}

func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, *problem.Problem) {
	if r.ContentLength > limit {
		return nil, problem.TooLarge(limit)
	}
	buffer := bytes.NewBuffer(make([]byte, 0, max(r.ContentLength+1, 512)))
	if _, err := buffer.ReadFrom(http.MaxBytesReader(w, r.Body, limit)); err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			return nil, problem.TooLarge(limit)
		}
		return nil, problem.BadJSON("the body ended early")
	}
	if !utf8.Valid(buffer.Bytes()) {
		return nil, problem.BadJSON("the body is not UTF-8")
	}
	return buffer.Bytes(), nil
}

// call sends one batch. Each member is answered by its place in the list.
func (c *carrier) call(batch []*item) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.spec.Timeout.Duration)
	defer cancel()
	ctx, span := c.begin(ctx, batch)
	defer span.End()
	reply, err := c.send(ctx, c.message(batch))
	if err == nil && len(reply) != len(batch) {
		err = fmt.Errorf("%w: %d answers to %d items", errUnexpected, len(reply), len(batch))
	}
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
		return err
	}
	for i, one := range batch {
		one.Answer(reply[i])
	}
	return nil
}

// begin starts the call's span below the first sampled member; the other sampled ones are linked to it.
func (c *carrier) begin(ctx context.Context, batch []*item) (context.Context, trace.Span) {
	var span trace.Span
	for _, one := range batch {
		if !one.Value.span.SpanContext().IsSampled() {
			continue
		}
		if span == nil {
			ctx, span = c.front.tracing.Tracer.Start(trace.ContextWithSpan(ctx, one.Value.span), "coalesced call to "+c.backend.App,
				trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.Int("batch.size", len(batch))))
		} else {
			one.Value.span.AddLink(trace.Link{SpanContext: span.SpanContext()})
		}
	}
	if span == nil {
		span = trace.SpanFromContext(ctx)
	}
	return ctx, span
}

func (c *carrier) message(batch []*item) []byte {
	size := 16
	for _, one := range batch {
		size += len(one.Value.body)*9/8 + 128
	}
	out := append(make([]byte, 0, size), `{"items":[`...)
	deadline := `,"deadline_ms":` + strconv.FormatInt(c.spec.Timeout.Milliseconds(), 10) + `}`
	for i, one := range batch {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, `{"body":`...)
		// The body travels as a string: what is wrong with it is then this item's fault alone.
		out, _ = jsontext.AppendQuote(out, one.Value.body)
		if sc := one.Value.span.SpanContext(); sc.IsValid() {
			out = append(out, `,"traceparent":"`...)
			out = append(out, telemetry.Traceparent(sc)...)
			out = append(out, '"')
		}
		out = append(out, deadline...)
	}
	return append(out, `]}`...)
}

func (c *carrier) send(ctx context.Context, message []byte) ([]answered, error) {
	c.budget.call()
	reply, err := c.post(ctx, message)
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" && c.budget.retry() {
		// Nothing was sent: the sidecar is on its way up again, and a moment may be enough.
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Duration(50+rand.IntN(100)) * time.Millisecond):
		}
		reply, err = c.post(ctx, message)
	}
	return reply, err
}

var errUnexpected = errors.New("the backend's answer was not as agreed")

func (c *carrier) post(ctx context.Context, message []byte) ([]answered, error) {
	address, token := c.front.backend(c.backend)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address+c.spec.Path, bytes.NewReader(message))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("dapr-api-token", token)
	parent := traffic.Untraced
	if sc := trace.SpanContextFromContext(ctx); sc.IsSampled() {
		parent = telemetry.Traceparent(sc)
	}
	request.Header.Set("Traceparent", parent)
	response, err := c.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	buffer := bytes.NewBuffer(make([]byte, 0, max(response.ContentLength+1, 4096)))
	if _, err := buffer.ReadFrom(io.LimitReader(response.Body, maxReplyBytes)); err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, refused(response.StatusCode)
	}
	var document struct {
		Items []answered `json:"items"`
	}
	if err := json.Unmarshal(buffer.Bytes(), &document); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnexpected, err)
	}
	return document.Items, nil
}

// refused turns a status of the whole call into what each of its callers is told.
func refused(status int) error {
	switch status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return problem.Overloaded("the service behind this route has no room")
	case http.StatusGatewayTimeout:
		return problem.DeadlineExceeded("the service behind this route did not answer in time")
	default:
		return problem.Unavailable("the service behind this route cannot be reached")
	}
}

// asProblem turns what went wrong on the way into what a caller is told; nothing internal shows.
func asProblem(err error) *problem.Problem {
	var known *problem.Problem
	var timeout net.Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &tooLarge):
		return problem.TooLarge(tooLarge.Limit)
	case errors.Is(err, coalesce.ErrFull):
		return problem.Overloaded("the queue of this route is full")
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return problem.DeadlineExceeded("no answer came in time")
	case errors.Is(err, errUnexpected):
		return &problem.Problem{Status: http.StatusBadGateway, Slug: "bad-gateway", Title: "Bad gateway", Detail: "the service behind this route gave no usable answer"}
	default:
		return problem.Unavailable("the service behind this route cannot be reached")
	}
}

// retryBudget lets retries add at most a share to the calls, so that they cannot turn a failure into a flood.
type retryBudget struct {
	share float64

	mu     sync.Mutex
	tokens float64
}

func (b *retryBudget) call() {
	b.mu.Lock()
	b.tokens = min(b.tokens+b.share, 10)
	b.mu.Unlock()
}

func (b *retryBudget) retry() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
