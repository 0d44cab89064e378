package front_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/settings"
)

func TestASlowBackendIsADeadline(t *testing.T) {
	s := &sidecar{coalesced: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}
	g := start(t, s, func(s *settings.Settings) { s.BackendTimeout = 100 * time.Millisecond })
	got := g.send(t, "POST", "/v1/intents", "{}")
	wantProblem(t, got, 504, "deadline-exceeded")
	if second := g.second(t); second.Failed != 1 {
		t.Errorf("got %+v", second)
	}
	g.CloseClientConnections()
}

func TestACallThatIsTooSlowIsGivenUp(t *testing.T) {
	gone := make(chan struct{}, 1)
	s := &sidecar{coalesced: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done(); gone <- struct{}{} }}
	g := start(t, s, nil) // 2 s for a call, 5 s for a request
	wantProblem(t, g.send(t, "POST", "/v1/intents", "{}"), 504, "deadline-exceeded")
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Error("the call is still out")
	}
}

func TestABackendThatIsGoneAndComesBack(t *testing.T) {
	s := &sidecar{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()
	g := startAt(t, port, nil)
	for _, path := range []string{"/v1/intents", "/v1/status"} {
		got := g.send(t, "POST", path, "{}")
		wantProblem(t, got, 503, "unavailable")
		if got.header.Get("Retry-After") != "1" {
			t.Errorf("%s: Retry-After %q", path, got.header.Get("Retry-After"))
		}
	}
	if second := g.second(t); second.Shed != 1 {
		t.Errorf("got %+v", second)
	}
	listener, err = net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
	if err != nil {
		t.Skipf("the port was taken by another process meanwhile: %v", err)
	}
	s.Server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: s}}
	s.Start()
	defer s.Close()
	echoed(t, g.send(t, "POST", "/v1/intents", "{}"))
	if got := g.send(t, "GET", "/v1/status", ""); got.status != 200 {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestTooManyAtOnceAreRefused(t *testing.T) {
	release, began := make(chan struct{}), make(chan struct{})
	s := &sidecar{plain: func(http.ResponseWriter, *http.Request) { close(began); <-release }}
	g := start(t, s, func(s *settings.Settings) { s.MaxInFlight = 1 })
	first := make(chan reply, 1)
	go func() { first <- g.send(t, "GET", "/v1/slow", "") }()
	<-began
	got := g.send(t, "POST", "/v1/intents", "{}")
	wantProblem(t, got, 503, "overloaded")
	if got.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", got.header.Get("Retry-After"))
	}
	if second := g.second(t); second.Arrivals != 1 || second.Shed != 1 {
		t.Errorf("got %+v", second)
	}
	close(release)
	if got := <-first; got.status != 200 {
		t.Errorf("got %d", got.status)
	}
	until(t, func() bool { return g.send(t, "POST", "/v1/intents", "{}").status == 200 })
}

func TestSlowPlainRoutesLeaveConnectionsToTheCoalescedOne(t *testing.T) {
	release, began := make(chan struct{}), make(chan struct{})
	s := &sidecar{plain: func(http.ResponseWriter, *http.Request) { close(began); <-release }}
	g := start(t, s, func(s *settings.Settings) { s.ConnectionsToDapr = 1 })
	first := make(chan reply, 1)
	go func() { first <- g.send(t, "GET", "/v1/slow", "") }()
	<-began
	echoed(t, g.send(t, "POST", "/v1/intents", "{}"))
	close(release)
	<-first
}

func TestACallerThatLeavesIsNotSentAndCountsAsFailed(t *testing.T) {
	release := make(chan struct{})
	s := &sidecar{coalesced: func(w http.ResponseWriter, _ *http.Request) {
		<-release
		_, _ = io.WriteString(w, `{"items":[{"status":200,"body":{}}]}`)
	}}
	g := start(t, s, nil)
	var others sync.WaitGroup
	for i := range 2 { // both calls are out
		others.Go(func() { g.send(t, "POST", "/v1/intents", "{}") })
		until(t, func() bool { _, carried := s.calls(); return carried == i+1 })
	}
	ctx, leave := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "POST", g.URL+"/v1/intents", strings.NewReader(`{"text": "never mind"}`))
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if answer, err := g.Client().Do(r); err == nil {
			_ = answer.Body.Close()
		}
	}()
	until(t, func() bool { return g.front.Queued() == 1 })
	leave()
	<-gone
	until(t, func() bool { return g.front.Queued() == 0 && g.counter.InFlight() == 2 })
	close(release)
	others.Wait()
	if _, carried := s.calls(); carried != 2 {
		t.Errorf("%d requests were carried, want the 2 that stayed", carried)
	}
	if second := g.second(t); second.Arrivals != 3 || second.Answered != 2 || second.Failed != 1 {
		t.Errorf("got %+v", second)
	}
}

func TestMetricsCountByRouteAndStatus(t *testing.T) {
	g := start(t, &sidecar{}, nil)
	g.send(t, "POST", "/v1/intents", "{}")
	g.send(t, "POST", "/v1/intents", "\xff")
	g.send(t, "GET", "/v1/status", "")
	g.send(t, "GET", "/else", "")
	g.send(t, "GET", "/v1/%2e%2e/x", "")
	want := "map[intents 200:1 intents 400:1 plain 200:1 refused 400:1 unmatched 404:1]"
	// The client has its answer a moment before it is counted.
	until(t, func() bool { return fmt.Sprint(g.counts(t)) == want })
}
