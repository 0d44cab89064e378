package traffic_test

import (
	"encoding/json"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/traffic"
)

var end = time.Unix(1_790_000_000, 0)

func TestOutcomes(t *testing.T) {
	for status, want := range map[int]traffic.Outcome{
		200: traffic.Answered, 201: traffic.Answered, 400: traffic.Answered, 404: traffic.Answered, 408: traffic.Answered, 413: traffic.Answered,
		429: traffic.Shed, 503: traffic.Shed,
		500: traffic.Failed, 502: traffic.Failed, 504: traffic.Failed, traffic.StatusGone: traffic.Failed,
	} {
		if got := traffic.OutcomeOf(status); got != want {
			t.Errorf("%d is %d, want %d", status, got, want)
		}
	}
}

func TestASecondHoldsWhatHappenedSinceTheLast(t *testing.T) {
	c := traffic.NewCounter("gateway-1")
	for range 6 {
		c.Arrived()
	}
	c.Finished(traffic.Answered, time.Millisecond)
	c.Finished(traffic.Answered, time.Millisecond)
	c.Finished(traffic.Shed, time.Millisecond)
	c.Finished(traffic.Failed, time.Millisecond)
	s := c.Cut(end)
	if s.T != 1_790_000_000 || s.Instance != "gateway-1" || s.Arrivals != 6 || s.Answered != 2 || s.Shed != 1 || s.Failed != 1 || s.InFlight != 2 {
		t.Fatalf("got %+v", s)
	}
	c.Finished(traffic.Answered, time.Millisecond) // arrived in one second, ends in the next
	s = c.Cut(end.Add(time.Second))
	if s.T != 1_790_000_001 || s.Arrivals != 0 || s.Answered != 1 || s.InFlight != 1 {
		t.Fatalf("got %+v", s)
	}
}

func TestPercentilesAreOfThisSecondAlone(t *testing.T) {
	c := traffic.NewCounter("g")
	for ms := 1; ms <= 100; ms++ {
		c.Arrived()
		c.Finished(traffic.Answered, time.Duration(ms)*time.Millisecond)
	}
	s := c.Cut(end)
	for _, p := range []struct{ got, want float64 }{{*s.P50, 50}, {*s.P95, 95}, {*s.P99, 99}} {
		if math.Abs(p.got-p.want) > 0.01*p.want {
			t.Errorf("got %g ms, want %g within 1 %%", p.got, p.want)
		}
	}
	c.Arrived()
	c.Finished(traffic.Answered, 7*time.Millisecond)
	if s := c.Cut(end.Add(time.Second)); math.Abs(*s.P99-7) > 0.07 {
		t.Errorf("p99 %g ms, want 7", *s.P99)
	}
	c.Arrived()
	c.Finished(traffic.Failed, time.Hour) // beyond what is measured: the most that is
	if s := c.Cut(end.Add(2 * time.Second)); *s.P50 < 59_000 || *s.P50 > 61_000 {
		t.Errorf("p50 %g ms, want a minute", *s.P50)
	}
}

func TestPercentilesAreNullWhenIdle(t *testing.T) {
	c := traffic.NewCounter("g")
	c.Arrived() // and not finished
	message, err := json.Marshal(c.Cut(end))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"t":1790000000,"arrivals":1,"answered":0,"shed":0,"failed":0,"in_flight":1,"p50_ms":null,"p95_ms":null,"p99_ms":null,"instance":"g"}`
	if string(message) != want {
		t.Errorf("got  %s\nwant %s", message, want)
	}
}

func TestNothingIsLostBetweenCuts(t *testing.T) {
	c := traffic.NewCounter("g")
	var all sync.WaitGroup
	var done = make(chan struct{})
	var arrivals, answered int64
	var cutting sync.WaitGroup
	cutting.Go(func() {
		for {
			s := c.Cut(end)
			arrivals, answered = arrivals+s.Arrivals, answered+s.Answered
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for range 8 {
		all.Go(func() {
			for range 1000 {
				c.Arrived()
				c.Finished(traffic.Answered, time.Microsecond)
			}
		})
	}
	all.Wait()
	close(done)
	cutting.Wait()
	last := c.Cut(end)
	if arrivals+last.Arrivals != 8000 || answered+last.Answered != 8000 || c.InFlight() != 0 {
		t.Errorf("%d arrived, %d answered, %d in flight", arrivals+last.Arrivals, answered+last.Answered, c.InFlight())
	}
}
