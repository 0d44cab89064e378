package front

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/foremesh/foremesh/edge/gateway/internal/coalesce"
	"github.com/foremesh/foremesh/edge/gateway/internal/concurrency"
	"github.com/foremesh/foremesh/edge/gateway/internal/problem"
	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
	"github.com/foremesh/foremesh/edge/gateway/internal/telemetry"
	"github.com/foremesh/foremesh/edge/gateway/internal/traffic"
)

const (
	// maxCallBytes bounds what one call asks: half of what a sidecar takes by default, so that many large bodies
	// at once are more calls and not one that is refused.
	maxCallBytes = 2 << 20
	// maxReplyBytes bounds what one call may answer: 64 items of 32 KB.
	maxReplyBytes = 2 << 20
	// maxRetryAfter bounds, in seconds, what a service may tell its callers to wait.
	maxRetryAfter = 3600
)

type asked struct {
	quoted []byte // the caller's body as a JSON string
	span   trace.Span
}

type answered struct {
	Status     int            `json:"status"`
	Body       jsontext.Value `json:"body"`
	RetryAfter float64        `json:"retry_after_s"`
}

type item = coalesce.Item[asked, answered]

// carrier takes requests to one backend, many in one call.
type carrier struct {
	front   *Front
	app     *app
	spec    *routes.CoalesceSpec
	address string
	// Its own connections: what is slow on other routes must not hold up this one.
	transport http.RoundTripper
	gate      *concurrency.Limiter // nil: no limit
	budget    *retryBudget
	coalescer *coalesce.Coalescer[asked, answered]

	complained atomic.Int64 // epoch second of the last complaint
}

func newCarrier(f *Front, to *app, spec *routes.CoalesceSpec, gate *concurrency.Limiter) *carrier {
	c := &carrier{front: f, app: to, spec: spec, address: to.root.String() + spec.Path, transport: newTransport(spec.MaxInFlight), gate: gate,
		budget: newRetryBudget(f.settings.RetryBudgetShare)}
	c.coalescer = coalesce.New(c.call, func(a asked) int { return len(a.quoted) },
		coalesce.Bounds{Batch: spec.MaxBatch, Bytes: maxCallBytes, InFlight: spec.MaxInFlight, Queue: spec.MaxQueue, Eager: spec.Eager}, c.room)
	return c
}

// room takes a place for one more call among the requests that the backend may have at once.
func (c *carrier) room(alone bool) bool {
	return c.gate == nil || alone && c.gate.Begin() || !alone && c.gate.Try()
}

// carry answers one request and returns the status it sent.
func (c *carrier) carry(w http.ResponseWriter, r *http.Request, x *exchange) int {
	body, p := readBody(w, r, c.front.settings.MaxBodyBytes)
	if p != nil {
		return write(w, p)
	}
	// The body travels as a string: what is wrong with it is then this request's fault alone.
	quoted, err := jsontext.AppendQuote(make([]byte, 0, len(body)*9/8+16), body)
	if err != nil {
		return write(w, problem.BadJSON("the body is not UTF-8"))
	}
	// The queue is part of the promise: a request that could not be sent in time is told so.
	ctx, cancel := context.WithTimeout(r.Context(), c.front.settings.BackendTimeout)
	defer cancel()
	answer, err := c.coalescer.Do(ctx, asked{quoted, trace.SpanFromContext(ctx)})
	if err != nil {
		if r.Context().Err() != nil {
			w.WriteHeader(traffic.StatusGone) // nobody is there to read
			return traffic.StatusGone
		}
		return write(w, asProblem(err))
	}
	x.answered = time.Now()
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if answer.Status >= 400 {
		h.Set("Content-Type", "application/problem+json")
	}
	if answer.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(min(answer.RetryAfter, maxRetryAfter)))))
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
	buffer := bytes.NewBuffer(make([]byte, 0, room(r.ContentLength)))
	if _, err := buffer.ReadFrom(http.MaxBytesReader(w, r.Body, limit)); err != nil {
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			return nil, problem.TooLarge(limit)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, problem.SlowBody()
		}
		return nil, problem.BadJSON("the body ended early")
	}
	return buffer.Bytes(), nil
}

// room is what a buffer begins with: the announced length (-1: unknown) within reason, and what ReadFrom wants free at its end.
func room(length int64) int64 { return min(max(length, 0), 64<<10) + bytes.MinRead }

// call sends one batch. Each member is answered by its place in the list.
func (c *carrier) call(batch []*item) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.spec.Timeout.Duration)
	defer cancel()
	ctx, span := c.begin(ctx, batch)
	defer span.End()
	began := time.Now()
	reply, status, err := c.send(ctx, c.message(batch))
	if c.gate != nil {
		c.gate.End(c.load(reply, status, err), began, time.Now())
	}
	if err == nil && len(reply) != len(batch) {
		err = fmt.Errorf("%w: %d answers to %d items", errUnexpected, len(reply), len(batch))
	}
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
		c.complain(err)
		return err
	}
	for i, one := range batch {
		if status := reply[i].Status; status < 200 || status > 599 {
			one.Fail(fmt.Errorf("%w: status %d", errUnexpected, status))
			continue
		}
		one.Answer(reply[i])
	}
	return nil
}

// load is what the end of a call says of how much the backend has to do; status 0: there was no answer.
func (c *carrier) load(reply []answered, status int, err error) concurrency.Result {
	switch {
	case sheds(status), status == 0 && !unsent(err), slices.ContainsFunc(reply, func(one answered) bool { return sheds(one.Status) }):
		return concurrency.Dropped
	case err == nil:
		return concurrency.Answered
	default:
		return concurrency.Ignored
	}
}

// unsent tells whether a call failed as there was no connection to be had.
func unsent(err error) bool {
	dial := (*net.OpError)(nil)
	return errors.As(err, &dial) && dial.Op == "dial"
}

// complain logs why a call failed, at most once a second: in an outage every call fails.
func (c *carrier) complain(err error) {
	now, last := time.Now().Unix(), c.complained.Load()
	if now != last && c.complained.CompareAndSwap(last, now) {
		slog.Warn("coalesced call failed", "app", c.app.name, "error", err.Error())
	}
}

// begin starts the call's span below the first sampled member; the other sampled ones are linked to it.
func (c *carrier) begin(ctx context.Context, batch []*item) (context.Context, trace.Span) {
	var span trace.Span
	for _, one := range batch {
		if !one.Value.span.SpanContext().IsSampled() {
			continue
		}
		if span == nil {
			ctx, span = c.front.tracing.Tracer.Start(trace.ContextWithSpan(ctx, one.Value.span), "coalesced call to "+c.app.name,
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
		size += len(one.Value.quoted) + 128
	}
	out := append(make([]byte, 0, size), `{"items":[`...)
	for i, one := range batch {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, `{"body":`...)
		out = append(out, one.Value.quoted...)
		if sc := one.Value.span.SpanContext(); sc.IsValid() {
			out = append(out, `,"traceparent":"`...)
			out = append(out, telemetry.Traceparent(sc)...)
			out = append(out, '"')
		}
		// What it waited in the queue is gone from its time.
		left := remaining(one.Context(), c.spec.Timeout.Duration)
		out = append(out, `,"deadline_ms":`...)
		out = strconv.AppendInt(out, max(1, left.Milliseconds()), 10)
		out = append(out, '}')
	}
	return append(out, `]}`...)
}

// remaining is the time that a context leaves, at most `most`.
func remaining(ctx context.Context, most time.Duration) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return max(0, min(most, time.Until(deadline)))
	}
	return most
}

// send returns the answers to a call, and its status, 0 if it has none.
func (c *carrier) send(ctx context.Context, message []byte) ([]answered, int, error) {
	c.budget.call()
	reply, status, err := c.post(ctx, message)
	if unsent(err) && c.budget.retry() {
		// Nothing was sent: the sidecar is on its way up again, and a moment may be enough.
		select {
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		case <-time.After(time.Duration(50+rand.IntN(100)) * time.Millisecond):
		}
		reply, status, err = c.post(ctx, message)
	}
	return reply, status, err
}

var errUnexpected = errors.New("the backend's answer was not as agreed")

func (c *carrier) post(ctx context.Context, message []byte) ([]answered, int, error) {
	parent := traffic.Untraced
	if sc := trace.SpanContextFromContext(ctx); sc.IsSampled() {
		parent = telemetry.Traceparent(sc)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.address, bytes.NewReader(message))
	if err != nil {
		return nil, 0, err
	}
	request.Header = http.Header{
		"Content-Type": {"application/json"}, "Dapr-Api-Token": {c.app.token}, "Traceparent": {parent}}
	// Not http.Client: a redirect would be followed.
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = response.Body.Close() }()
	buffer := bytes.NewBuffer(make([]byte, 0, room(response.ContentLength)))
	if _, err := buffer.ReadFrom(io.LimitReader(response.Body, maxReplyBytes)); err != nil {
		return nil, 0, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, response.StatusCode, refused(response.StatusCode)
	}
	var document struct {
		Items []answered `json:"items"`
	}
	if err := json.Unmarshal(buffer.Bytes(), &document); err != nil {
		return nil, response.StatusCode, fmt.Errorf("%w: %w", errUnexpected, err)
	}
	return document.Items, response.StatusCode, nil
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
	case errors.Is(err, coalesce.ErrRefused):
		return errNoRoom
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return problem.DeadlineExceeded("no answer came in time")
	case errors.Is(err, errUnexpected):
		return problem.BadGateway()
	default:
		return problem.Unavailable("the service behind this route cannot be reached")
	}
}
