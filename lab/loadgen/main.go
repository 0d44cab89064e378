// Command loadgen is an HTTP load generator: N persistent connections, each sending its next request when the last is
// answered, or at the times of a steady rate, for a fixed time.
//
// It reads one JSON document from stdin (headers may hold tokens, which have no place in argv) and writes one to
// stdout; see spec and report. Exit code 2 means that the document was wrong, and stderr says how.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"time"
)

// spec says what to send, how and for how long.
type spec struct {
	URL         string            `json:"url"`         // http://host:port/path
	Headers     map[string]string `json:"headers"`     // sent with each request, beside Content-Type: application/json of a body
	Bodies      []string          `json:"bodies"`      // POSTed, cycled over; each connection starts at its own place. None: GET
	Rate        float64           `json:"rate"`        // requests per second of all connections; 0: as many as are answered
	Expect      string            `json:"expect"`      // a 200 whose body doesn't contain this is an error
	Connections int               `json:"connections"` // 1..4096
	DurationS   float64           `json:"duration_s"`  // measured time, after the warm-up
	WarmupS     float64           `json:"warmup_s"`    // requests that end in it are not counted
	TimeoutS    float64           `json:"timeout_s"`   // of one request; 0 means 5
}

// report is what was measured. Quantiles are exact, over the answers that were right.
type report struct {
	Requests int      `json:"requests"` // that ended in the measured time: ok + errors
	OK       int      `json:"ok"`
	Errors   int      `json:"errors"`
	RPS      float64  `json:"rps"` // ok per second
	P50Ms    *float64 `json:"p50_ms"`
	P99Ms    *float64 `json:"p99_ms"`
	Seconds  float64  `json:"seconds"`
	First    string   `json:"first_error,omitempty"`
}

const (
	mostConnections = 4096
	mostSeconds     = 600
	mostRate        = 1_000_000
	mostSpecBytes   = 64 << 20
)

func main() {
	s, err := readSpec(os.Stdin)
	if err != nil {
		fmt.Fprintf(os.Stderr, "loadgen: %v\n", err)
		os.Exit(2)
	}
	if err := json.NewEncoder(os.Stdout).Encode(run(s)); err != nil {
		fmt.Fprintf(os.Stderr, "loadgen: %v\n", err)
		os.Exit(1)
	}
}

func readSpec(from io.Reader) (*spec, error) {
	var s spec
	decoder := json.NewDecoder(io.LimitReader(from, mostSpecBytes))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil {
		return nil, fmt.Errorf("stdin is not the expected JSON document: %w", err)
	}
	if s.TimeoutS == 0 {
		s.TimeoutS = 5
	}
	address, err := url.Parse(s.URL)
	switch {
	case err != nil || address.Scheme != "http" || address.Host == "":
		return nil, fmt.Errorf("url %q is no http://host:port/path address", s.URL)
	case !(s.Rate >= 0 && s.Rate <= mostRate):
		return nil, fmt.Errorf("rate %g is outside 0..%d", s.Rate, mostRate)
	case s.Connections < 1 || s.Connections > mostConnections:
		return nil, fmt.Errorf("connections %d is outside 1..%d", s.Connections, mostConnections)
	case !(s.DurationS > 0 && s.DurationS <= mostSeconds):
		return nil, fmt.Errorf("duration_s %g is outside 0..%d", s.DurationS, mostSeconds)
	case !(s.WarmupS >= 0 && s.WarmupS <= mostSeconds):
		return nil, fmt.Errorf("warmup_s %g is outside 0..%d", s.WarmupS, mostSeconds)
	case !(s.TimeoutS > 0 && s.TimeoutS <= mostSeconds):
		return nil, fmt.Errorf("timeout_s %g is outside 0..%d", s.TimeoutS, mostSeconds)
	}
	return &s, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
