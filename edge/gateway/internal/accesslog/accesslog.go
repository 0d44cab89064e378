// Package accesslog writes a line of JSON for each request that is kept. It never holds one up: where lines cannot be
// written as fast as they come, they are dropped and counted.
package accesslog

import (
	"bufio"
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// waiting bounds the lines that are not written yet.
const waiting = 512

// Entry is a line. It holds no header and, unless a policy asks for it, no query: those are where secrets are.
type Entry struct {
	Time          time.Time `json:"time"`   // when the request began
	Client        string    `json:"client"` // address of the connection
	Method        string    `json:"method"`
	Host          string    `json:"host"`
	Path          string    `json:"path"`
	Query         string    `json:"query,omitempty"`
	Protocol      string    `json:"protocol"`
	Route         string    `json:"route"`             // as in metrics
	Rule          string    `json:"rule,omitempty"`    // file:line
	Backend       string    `json:"backend,omitempty"` // app-id or Service
	Address       string    `json:"address,omitempty"` // of the Service, that answered
	Status        int       `json:"status"`
	RequestBytes  int64     `json:"request_bytes"`  // of the body; -1: not known before it was read
	ResponseBytes int64     `json:"response_bytes"` // of the body; -1: not known
	DurationMS    float64   `json:"duration_ms"`
	BackendMS     float64   `json:"backend_ms,omitempty"` // until its answer began; of the last call
	TraceID       string    `json:"trace_id,omitempty"`
	Why           string    `json:"why"` // sampled, error or slow
}

// Log writes entries.
type Log struct {
	lines   chan *Entry
	end     chan struct{}
	once    sync.Once
	written sync.WaitGroup
	dropped prometheus.Counter
}

// New writes to out until Close.
func New(out io.Writer, metrics prometheus.Registerer) *Log {
	l := &Log{lines: make(chan *Entry, waiting), end: make(chan struct{}), dropped: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "gateway_access_log_dropped_total", Help: "Lines of the access log that were not written, as too many waited."})}
	metrics.MustRegister(l.dropped)
	l.written.Go(func() { l.write(out) })
	return l
}

func (l *Log) write(out io.Writer) {
	buffered := bufio.NewWriter(out)
	encoder := json.NewEncoder(buffered)
	encoder.SetEscapeHTML(false)
	for {
		select {
		case entry := <-l.lines:
			_ = encoder.Encode(entry)
		case <-l.end:
			for len(l.lines) > 0 {
				_ = encoder.Encode(<-l.lines)
			}
			_ = buffered.Flush()
			return
		}
		if len(l.lines) == 0 { // many at once are one write
			_ = buffered.Flush()
		}
	}
}

// Write takes a line, or drops it.
func (l *Log) Write(e *Entry) {
	select {
	case l.lines <- e:
	default:
		l.dropped.Inc()
	}
}

// Close writes what waits, for at most a time. What comes after it, of WebSockets that end late, is lost.
func (l *Log) Close(within time.Duration) {
	l.once.Do(func() { close(l.end) })
	done := make(chan struct{})
	go func() { l.written.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(within):
	}
}
