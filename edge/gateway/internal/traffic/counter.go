// Package traffic counts model requests second by second and publishes the counts.
package traffic

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Outcome is how a request ended.
type Outcome int

// What the forecaster and the autoscaler tell apart.
const (
	Answered Outcome = iota // 2xx and 4xx: the service did its part
	Shed                    // 429 and 503
	Failed                  // any other 5xx, or no answer at all
)

// StatusGone stands for a caller that left before its answer; no status of HTTP does (nginx logs the same number).
const StatusGone = 499

// OutcomeOf classifies a status code.
func OutcomeOf(status int) Outcome {
	switch {
	case status == 429 || status == 503:
		return Shed
	case status >= 500 || status == StatusGone:
		return Failed
	default:
		return Answered
	}
}

// Second is what happened in one second of the wall clock; the message of topic `traffic`.
type Second struct {
	T        int64    `json:"t"` // epoch seconds at its end
	Arrivals int64    `json:"arrivals"`
	Answered int64    `json:"answered"`
	Shed     int64    `json:"shed"`
	Failed   int64    `json:"failed"`
	InFlight int64    `json:"in_flight"` // at its end
	P50      *float64 `json:"p50_ms"`    // of what finished in it; null when nothing did
	P95      *float64 `json:"p95_ms"`
	P99      *float64 `json:"p99_ms"`
	Instance string   `json:"instance"`
}

// Counter is safe for concurrent use.
type Counter struct {
	instance string

	mu       sync.Mutex
	second   Second
	latency  *hdrhistogram.Histogram // microseconds
	inFlight int64
}

// NewCounter returns a counter that signs its seconds with the instance's name.
func NewCounter(instance string) *Counter {
	// 1 us to 60 s at two significant digits: 20 KB.
	return &Counter{instance: instance, latency: hdrhistogram.New(1, 60_000_000, 2)}
}

// Arrived counts a request the moment it is seen, whatever becomes of it.
func (c *Counter) Arrived() {
	c.mu.Lock()
	c.second.Arrivals++
	c.inFlight++
	c.mu.Unlock()
}

// Finished counts its end.
func (c *Counter) Finished(outcome Outcome, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight--
	switch outcome {
	case Answered:
		c.second.Answered++
	case Shed:
		c.second.Shed++
	case Failed:
		c.second.Failed++
	}
	_ = c.latency.RecordValue(min(max(took.Microseconds(), 1), 60_000_000))
}

// InFlight returns how many requests have arrived and not finished.
func (c *Counter) InFlight() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inFlight
}

// Cut ends the current second: it returns what was counted since the last cut and starts over.
func (c *Counter) Cut(end time.Time) Second {
	c.mu.Lock()
	defer c.mu.Unlock()
	cut := c.second
	cut.T, cut.Instance, cut.InFlight = end.Unix(), c.instance, c.inFlight
	if c.latency.TotalCount() > 0 {
		cut.P50, cut.P95, cut.P99 = c.quantile(50), c.quantile(95), c.quantile(99)
	}
	c.second = Second{}
	c.latency.Reset()
	return cut
}

func (c *Counter) quantile(percent float64) *float64 {
	ms := float64(c.latency.ValueAtQuantile(percent)) / 1000
	return &ms
}
