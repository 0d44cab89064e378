package accesslog

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func dropped(t *testing.T, registry *prometheus.Registry) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatal(families, err)
	}
	return families[0].GetMetric()[0].GetCounter().GetValue()
}

func TestALineIsJSONWhateverItHolds(t *testing.T) {
	var out bytes.Buffer
	l := New(&out, prometheus.NewRegistry())
	l.Write(&Entry{Path: "/a\"b\nc<d>", Status: 200, Why: "sampled"})
	l.Write(&Entry{Path: "/two", Status: 503})
	l.Close(10 * time.Second)
	l.Close(10 * time.Second)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("got %q", lines)
	}
	var first map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &first); err != nil || first["path"] != "/a\"b\nc<d>" || first["status"] != 200.0 || first["why"] != "sampled" {
		t.Errorf("%v: %s", err, lines[0])
	}
}

func TestAReaderThatStandsStillHoldsNobodyUp(t *testing.T) {
	reads, writes := io.Pipe()
	registry := prometheus.NewRegistry()
	l := New(writes, registry)
	began := time.Now()
	const n = 5000
	for range n {
		l.Write(&Entry{Path: "/" + strings.Repeat("x", 100)})
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("%d lines took %s", n, took)
	}
	lost := dropped(t, registry)
	if lost == 0 || lost >= n {
		t.Errorf("%.0f of %d are dropped", lost, n)
	}
	l.Close(10 * time.Millisecond) // gives up
	text := make(chan int, 1)
	go func() {
		all, _ := io.ReadAll(reads)
		text <- bytes.Count(all, []byte("\n"))
	}()
	l.written.Wait()
	_ = writes.Close()
	if got := <-text; got != n-int(lost) {
		t.Errorf("%d lines are written, and %.0f of %d were dropped", got, lost, n)
	}
}
