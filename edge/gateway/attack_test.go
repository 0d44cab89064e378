package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"
)

// p99 is of 500 requests over one kept connection.
func p99(t *testing.T, url string) time.Duration {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second}
	var took []time.Duration
	for range 500 {
		began := time.Now()
		answer, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode != 200 {
			t.Fatalf("an honest client got %d", answer.StatusCode)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// TestSlowCallersDoNotHoldUpOthers: a thousand sockets send a header, or a body, and never end it. They are closed in time, and
// honest clients hardly notice them. It looks at the clock: FOREMESH_LONG=yes go test -run SlowCallers .
func TestSlowCallersDoNotHoldUpOthers(t *testing.T) {
	if os.Getenv("FOREMESH_LONG") == "" {
		t.Skip("FOREMESH_LONG=yes runs it")
	}
	for name, sends := range map[string]string{
		"header": "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ",
		"body":   "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{",
	} {
		one := named(t, "one")
		p := start(t, "FOREMESH_ROUTES="+folder(t, map[string]string{"a.yaml": to(one)}), "FOREMESH_HEADER_TIMEOUT=5s", "FOREMESH_READ_TIMEOUT=5s").ready(t)
		quiet := p99(t, "http://"+p.public+"/")
		began := time.Now()
		var sockets []net.Conn
		for range 1000 {
			connection, err := net.Dial("tcp", p.public)
			if err != nil {
				t.Fatal(err)
			}
			sockets = append(sockets, connection)
			if _, err := io.WriteString(connection, sends); err != nil {
				t.Fatal(err)
			}
		}
		attacked := p99(t, "http://"+p.public+"/")
		t.Logf("%s: p99 %s, with 1000 slow callers %s", name, quiet, attacked)
		if attacked > 2*quiet+5*time.Millisecond { // what a busy machine adds to either
			t.Errorf("%s: p99 went from %s to %s", name, quiet, attacked)
		}
		for _, connection := range sockets {
			_ = connection.SetReadDeadline(began.Add(15 * time.Second))
			if _, err := io.Copy(io.Discard, connection); err != nil {
				t.Errorf("%s: a slow caller is not closed: %v", name, err)
				break
			}
			_ = connection.Close()
		}
	}
}
