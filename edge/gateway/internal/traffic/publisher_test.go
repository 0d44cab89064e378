package traffic_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/traffic"
)

// topic stands for the sidecar's publish API.
type topic struct {
	*httptest.Server
	mu       sync.Mutex
	broken   bool
	seconds  []traffic.Second
	headers  []http.Header
	received chan traffic.Second
}

func newTopic(t *testing.T) *topic {
	s := &topic{received: make(chan traffic.Second, 100)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.broken {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		var second traffic.Second
		if err := json.NewDecoder(r.Body).Decode(&second); err != nil {
			t.Error(err)
		}
		s.seconds, s.headers = append(s.seconds, second), append(s.headers, r.Header)
		s.received <- second
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *topic) setBroken(broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = broken
}

func (s *topic) times() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []int64
	for _, second := range s.seconds {
		all = append(all, second.T-end.Unix())
	}
	return fmt.Sprint(all)
}

func publisher(url string, keep int, timeout time.Duration) *traffic.Publisher {
	return &traffic.Publisher{Counter: traffic.NewCounter("g"), URL: url, Token: "secret", Client: &http.Client{}, Timeout: timeout, Keep: keep}
}

func second(n int) time.Time { return end.Add(time.Duration(n) * time.Second) }

func TestEachSecondIsPublishedOnceWithTheToken(t *testing.T) {
	s := newTopic(t)
	p := publisher(s.URL+"/v1.0/publish/events/traffic", 5, 5*time.Second)
	p.Counter.Arrived()
	p.Tick(t.Context(), second(1))
	p.Tick(t.Context(), second(2))
	if s.times() != "[1 2]" || s.seconds[0].Arrivals != 1 || s.seconds[1].Arrivals != 0 {
		t.Fatalf("got %+v", s.seconds)
	}
	h := s.headers[0]
	if h.Get("dapr-api-token") != "secret" || h.Get("Content-Type") != "application/json" || h.Get("traceparent") != traffic.Untraced {
		t.Errorf("got %v", h)
	}
}

func TestWhatCouldNotBeSentIsSentLaterInOrder(t *testing.T) {
	s := newTopic(t)
	p := publisher(s.URL, 3, 5*time.Second)
	p.Tick(t.Context(), second(1))
	s.setBroken(true)
	for n := 2; n <= 6; n++ {
		p.Counter.Arrived()
		p.Tick(t.Context(), second(n))
	}
	s.setBroken(false)
	p.Tick(t.Context(), second(7))
	if got := s.times(); got != "[1 5 6 7]" { // three are kept, the oldest go first
		t.Fatalf("got %s", got)
	}
	if s.seconds[1].Arrivals != 1 {
		t.Errorf("got %+v", s.seconds[1])
	}
	p.Tick(t.Context(), second(8))
	if got := s.times(); got != "[1 5 6 7 8]" {
		t.Fatalf("got %s", got)
	}
}

func TestASidecarThatIsAwayIsNoError(t *testing.T) {
	s := newTopic(t)
	p := publisher("http://127.0.0.1:1/", 2, 5*time.Second)
	p.Tick(t.Context(), second(1))
	p.URL = s.URL
	p.Tick(t.Context(), second(2))
	if got := s.times(); got != "[1 2]" {
		t.Fatalf("got %s", got)
	}
}

func TestASidecarThatHangsCostsOneTimeout(t *testing.T) {
	hang := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	defer s.Close()
	defer close(hang)
	p := publisher(s.URL, 5, 100*time.Millisecond)
	for n := range 4 { // however many are waiting to be sent
		began := time.Now()
		p.Tick(t.Context(), second(n))
		if took := time.Since(began); took < 100*time.Millisecond || took > 2*time.Second {
			t.Fatalf("took %s, want its time-out of 100 ms", took)
		}
	}
}

func TestRunPublishesWholeSecondsUntilTold(t *testing.T) {
	s := newTopic(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { publisher(s.URL, 5, 500*time.Millisecond).Run(ctx); close(ended) }()
	var got [2]traffic.Second
	for i := range got {
		select {
		case got[i] = <-s.received:
		case <-time.After(10 * time.Second):
			t.Fatal("no count came within 10 s")
		}
		if late := time.Since(time.Unix(got[i].T, 0)); late < 0 || late > 5*time.Second {
			t.Errorf("second %d came %s after its end", got[i].T, late)
		}
	}
	if got[1].T <= got[0].T {
		t.Errorf("second %d after %d", got[1].T, got[0].T)
	}
	stop()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("Run did not end")
	}
}
