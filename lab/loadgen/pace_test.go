package main

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

func TestARateIsKept(t *testing.T) {
	var posted atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.Header.Get("Content-Type") != "" {
			posted.Add(1)
		}
		_, _ = w.Write([]byte(`{"intent":"x"}`))
	}))
	defer server.Close()
	s := specFor(server.URL, 4)
	s.Bodies, s.Rate, s.DurationS = nil, 200, 1
	if r := run(s); r.Errors != 0 || r.RPS < 150 || r.RPS > 205 {
		t.Errorf("200 requests/s were asked for: %+v", r)
	}
	if posted.Load() > 0 {
		t.Errorf("%d requests without a body were not plain GETs", posted.Load())
	}
}

func TestAStallShowsInTheRequestsThatWereDue(t *testing.T) {
	var calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			time.Sleep(300 * time.Millisecond)
		}
		_, _ = w.Write([]byte(`{"intent":"x"}`))
	}))
	defer server.Close()
	s := specFor(server.URL, 1)
	s.Rate, s.DurationS = 100, 0.45
	// 30 of about 45 requests were due during the stall and wait 150 ms of it on average; a closed loop would show one.
	if r := run(s); r.P50Ms == nil || *r.P50Ms < 20 {
		t.Errorf("the stall is hidden: %+v", r)
	}
}
