package telemetry

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/foremesh/foremesh/edge/gateway/internal/sampling"
)

const (
	sampled   = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
)

// tracing returns a Tracing and the paths that its collector got.
func tracing(t *testing.T, ratio, perSecond float64) (*Tracing, chan string) {
	paths := make(chan string, 100)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		paths <- r.URL.Path
	}))
	t.Cleanup(collector.Close)
	made, err := New(t.Context(), collector.URL+"/", "gateway-1", ratio, perSecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { made.Close(context.Background()) })
	return made, paths
}

func begin(t *Tracing, traceparent string) trace.SpanContext {
	r := httptest.NewRequest(http.MethodPost, "/v1/intents", nil)
	if traceparent != "" {
		r.Header.Set("traceparent", traceparent)
	}
	_, span := t.Begin(r, "intents", "/v1/intents")
	defer span.End()
	return span.SpanContext()
}

func TestACallersTraceIsFollowed(t *testing.T) {
	none, _ := tracing(t, 0, 0)
	all, _ := tracing(t, 1, 1000)
	for _, tracing := range []*Tracing{none, all} { // whatever the share of roots is
		sc := begin(tracing, sampled)
		if !sc.IsSampled() || sc.TraceID().String() != sampled[3:35] || sc.SpanID().String() == sampled[36:52] {
			t.Errorf("got %s, want a sampled span of its own in the caller's trace", Traceparent(sc))
		}
		sc = begin(tracing, unsampled)
		if sc.IsSampled() || sc.TraceID().String() != unsampled[3:35] {
			t.Errorf("got %s, want the caller's trace, not sampled", Traceparent(sc))
		}
	}
}

func TestRootsBeginByRatio(t *testing.T) {
	none, _ := tracing(t, 0, 1000)
	all, _ := tracing(t, 1, 1000)
	for range 100 {
		if sc := begin(none, ""); sc.IsValid() {
			t.Fatal("a trace began at ratio 0")
		}
		if sc := begin(all, ""); !sc.IsSampled() {
			t.Fatal("none began at ratio 1")
		}
	}
	if sc := begin(all, "not a traceparent"); !sc.IsSampled() {
		t.Error("a broken header must be as none")
	}
	if sc := begin(none, "00-00000000000000000000000000000000-0000000000000000-01"); sc.IsValid() {
		t.Error("an all-zero header must be as none")
	}
}

func TestSpansReachTheCollectorAtClose(t *testing.T) {
	all, paths := tracing(t, 1, 1000)
	begin(all, "")
	all.Close(t.Context())
	select {
	case path := <-paths:
		if path != "/v1/traces" {
			t.Errorf("posted to %s", path)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("nothing came within 5 s")
	}
}

func TestWithoutACollectorATraceIsPassedOn(t *testing.T) {
	made, err := New(t.Context(), "", "g", 1, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if sc := begin(made, ""); sc.IsValid() {
		t.Errorf("a trace began: %s", Traceparent(sc))
	}
	if sc := begin(made, sampled); sc.TraceID().String() != sampled[3:35] {
		t.Errorf("got %s", Traceparent(sc))
	}
	made.Close(t.Context())
}

func TestWhatFailedOrWasSlowIsKeptInItsCallersTrace(t *testing.T) {
	made, _ := tracing(t, 0, 0)
	began := time.Now()
	keep := func(traceparent string, status int, took time.Duration) trace.Span {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if traceparent != "" {
			r.Header.Set("traceparent", traceparent)
		}
		return made.Keep(r.Context(), r, "r", "/", status, began, began.Add(took))
	}
	if keep("", 500, time.Hour) != nil {
		t.Error("without a policy one is kept")
	}
	policy := &sampling.Policy{Errors: true, SlowerThan: time.Second, KeptPerSecond: 2}
	made.Use(policy)
	if keep("", 200, time.Millisecond) != nil {
		t.Error("one that is fine is kept")
	}
	root, child := keep("", 500, 2*time.Second), keep(unsampled, 200, 2*time.Second)
	if root == nil || !root.SpanContext().IsSampled() || root.SpanContext().TraceID().String() == unsampled[3:35] {
		t.Error("an error is not kept")
	}
	if child == nil || !child.SpanContext().IsSampled() || child.SpanContext().TraceID().String() != unsampled[3:35] {
		t.Error("a slow one is not kept, or not in its caller's trace")
	}
	made.Use(&sampling.Policy{Errors: true, SlowerThan: time.Second, KeptPerSecond: 2}) // the same: what was taken stays taken
	if keep("", 500, 2*time.Second) != nil {
		t.Error("more are kept than the rate allows")
	}
	made.Use(nil)
	if keep("", 500, 0) != nil {
		t.Error("a policy that is gone still counts")
	}
	none, _ := New(t.Context(), "", "g", 1, 1)
	none.Use(policy)
	if r := httptest.NewRequest(http.MethodGet, "/", nil); none.Keep(r.Context(), r, "r", "/", 500, began, began) != nil {
		t.Error("without a collector one is kept")
	}
}

func TestTraceparent(t *testing.T) {
	for _, header := range []string{sampled, unsampled} {
		made, _ := New(t.Context(), "", "g", 0, 0)
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("traceparent", header)
		ctx, _ := made.Begin(r, "r", "/")
		if got := Traceparent(trace.SpanContextFromContext(ctx)); got[:35] != header[:35] || got[52:] != header[52:] {
			t.Errorf("got %s, want %s", got, header)
		}
	}
}

func TestTheCollectorIsAskedAgainWhereThatHelps(t *testing.T) {
	for status, want := range map[int]int64{http.StatusServiceUnavailable: 2, http.StatusTooManyRequests: 2, http.StatusBadRequest: 1} {
		var posts atomic.Int64
		spans := make(chan int, 10)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if posts.Add(1) == 1 {
				w.WriteHeader(status)
				return
			}
			body, _ := io.ReadAll(r.Body)
			var request tracepb.TracesData
			if err := proto.Unmarshal(body, &request); err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
				t.Errorf("%v, %s", err, r.Header.Get("Content-Type"))
			}
			spans <- len(request.ResourceSpans[0].ScopeSpans[0].Spans)
		}))
		made, err := New(t.Context(), server.URL, "g", 1, 1000)
		if err != nil {
			t.Fatal(err)
		}
		begin(made, "")
		made.Close(t.Context())
		if posts.Load() != want || want == 2 && <-spans != 1 {
			t.Errorf("after %d it was asked %d times, want %d", status, posts.Load(), want)
		}
		server.Close()
	}
}
