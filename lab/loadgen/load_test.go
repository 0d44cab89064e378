package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func specFor(url string, connections int) *spec {
	return &spec{URL: url, Bodies: []string{`{"text":"a"}`, `{"text":"b"}`, `{"text":"c"}`}, Expect: `"intent"`,
		Connections: connections, DurationS: 0.4, TimeoutS: 2}
}

func TestConnectionsAreKeptAndBodiesCycle(t *testing.T) {
	var mutex sync.Mutex
	bodies, peers := map[string]int{}, map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mutex.Lock()
		bodies[string(body)]++
		peers[r.RemoteAddr]++
		mutex.Unlock()
		if r.Method != http.MethodPost || r.Header.Get("dapr-api-token") != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		_, _ = w.Write([]byte(`{"intent":"x"}`))
	}))
	defer server.Close()
	s := specFor(server.URL+"/v1/intents", 3)
	s.Headers = map[string]string{"dapr-api-token": "secret"}
	r := run(s)
	if r.Errors != 0 || r.OK < 30 || r.P50Ms == nil || *r.P50Ms <= 0 || *r.P99Ms < *r.P50Ms {
		t.Fatalf("unexpected report %+v", r)
	}
	if len(peers) != 3 {
		t.Errorf("%d connections were used, want 3", len(peers))
	}
	if len(bodies) != 3 {
		t.Errorf("bodies seen: %v, want all 3", bodies)
	}
}

func TestWrongAnswersAreErrors(t *testing.T) {
	var calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch calls.Add(1) % 3 {
		case 0:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 1:
			_, _ = w.Write([]byte(`{"ids":[[1]]}`))
		default:
			_, _ = w.Write([]byte(`{"intent":"x"}`))
		}
	}))
	defer server.Close()
	r := run(specFor(server.URL, 1))
	if r.OK == 0 || r.Errors < r.OK || r.Requests != r.OK+r.Errors {
		t.Fatalf("two of three answers are wrong, got %+v", r)
	}
	if !strings.Contains(r.First, `without "intent"`) {
		t.Errorf("first error %q doesn't say what was missing", r.First)
	}
}

func TestWarmupIsNotMeasured(t *testing.T) {
	cold := time.Now().Add(300 * time.Millisecond)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if time.Now().Before(cold) {
			time.Sleep(50 * time.Millisecond)
		}
		_, _ = w.Write([]byte(`{"intent":"x"}`))
	}))
	defer server.Close()
	s := specFor(server.URL, 1)
	s.WarmupS = 0.5
	if r := run(s); r.P99Ms == nil || *r.P99Ms > 40 {
		t.Fatalf("the slow first answers were measured: %+v", r)
	}
}

func TestNobodyListens(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	address := server.URL
	server.Close()
	r := run(specFor(address, 2))
	if r.OK != 0 || r.Errors == 0 || r.P50Ms != nil || r.First == "" {
		t.Fatalf("want errors only, got %+v", r)
	}
}

func TestSpecIsChecked(t *testing.T) {
	for name, text := range map[string]string{
		"not JSON":          `{`,
		"unknown field":     `{"urls":"http://x"}`,
		"scheme":            `{"url":"https://x/","bodies":["a"],"connections":1,"duration_s":1}`,
		"negative rate":     `{"url":"http://x/","rate":-1,"connections":1,"duration_s":1}`,
		"no connections":    `{"url":"http://x/","bodies":["a"],"duration_s":1}`,
		"too long":          `{"url":"http://x/","bodies":["a"],"connections":1,"duration_s":1e9}`,
		"negative warm-up":  `{"url":"http://x/","bodies":["a"],"connections":1,"duration_s":1,"warmup_s":-1}`,
		"negative time-out": `{"url":"http://x/","bodies":["a"],"connections":1,"duration_s":1,"timeout_s":-1}`,
	} {
		if _, err := readSpec(strings.NewReader(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	s, err := readSpec(strings.NewReader(`{"url":"http://x/","bodies":["a"],"connections":1,"duration_s":1}`))
	if err != nil || s.TimeoutS != 5 {
		t.Errorf("a good document: %+v, %v", s, err)
	}
}

func TestQuantileIsNearestRank(t *testing.T) {
	var sorted []time.Duration
	for i := 1; i <= 100; i++ {
		sorted = append(sorted, time.Duration(i)*time.Millisecond)
	}
	if got := *quantile(sorted, 0.5); got != 50 {
		t.Errorf("p50 of 1..100 is %g, want 50", got)
	}
	if got := *quantile(sorted, 0.99); got != 99 {
		t.Errorf("p99 of 1..100 is %g, want 99", got)
	}
	if got := *quantile(sorted[:1], 0.99); got != 1 {
		t.Errorf("p99 of one is %g, want 1", got)
	}
}
