package main

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// knock sends a request over a connection of its own, from an address of this machine; nil: it was closed before it was there.
func knock(t *testing.T, p *process, from string) net.Conn {
	t.Helper()
	connection, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}).Dial("tcp", p.public)
	if errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	_, _ = io.WriteString(connection, "GET / HTTP/1.1\r\nHost: a\r\n\r\n") // it may be closed by now
	return connection
}

// heard tells whether a connection is answered, and whether it is closed instead.
func heard(connection net.Conn, within time.Duration) (answered, closed bool) {
	if connection == nil {
		return false, true
	}
	_ = connection.SetReadDeadline(time.Now().Add(within))
	n, err := connection.Read(make([]byte, 1))
	timeout, ok := err.(net.Error)
	return n == 1, err != nil && !(ok && timeout.Timeout())
}

// take opens so many that are answered.
func take(t *testing.T, p *process, from string, n int) (open []net.Conn) {
	t.Helper()
	for i := range n {
		connection := knock(t, p, from)
		if answered, _ := heard(connection, 10*time.Second); !answered {
			t.Fatalf("connection %d of %s has no answer", i+1, from)
		}
		open = append(open, connection)
	}
	return open
}

func TestOnlySoManyConnectionsAreTaken(t *testing.T) {
	p := start(t, "FOREMESH_ROUTES="+folder(t, map[string]string{"a.yaml": to(named(t, "one"))}), "FOREMESH_MAX_CONNECTIONS=3", "FOREMESH_MAX_CONNECTIONS_PER_CLIENT=3").ready(t)
	open := take(t, p, "127.0.0.1", 3)
	gauge := `gateway_connections{address="` + p.public + `"}`
	if n := metric(t, p, gauge); n != 3 {
		t.Errorf("%.0f connections are counted", n)
	}
	more := knock(t, p, "127.0.0.1")
	if answered, closed := heard(more, 300*time.Millisecond); answered || closed {
		t.Error("a fourth is taken, or closed")
	}
	_ = open[0].Close()
	if answered, _ := heard(more, 10*time.Second); !answered {
		t.Error("it gets no turn")
	}
	for _, connection := range append(open, more) {
		_ = connection.Close()
	}
	until(t, func() bool { return metric(t, p, gauge) == 0 })
}

// TestOneClientCannotTakeAllConnections: a quarter is what one may have unless it is set otherwise; what is beyond is closed, others
// are served, and a place that is given back can be taken.
func TestOneClientCannotTakeAllConnections(t *testing.T) {
	for name, setting := range map[string]string{"a quarter": "FOREMESH_MAX_CONNECTIONS=8", "as set": "FOREMESH_MAX_CONNECTIONS_PER_CLIENT=2"} {
		t.Run(name, func(t *testing.T) {
			p := start(t, "FOREMESH_ROUTES="+folder(t, map[string]string{"a.yaml": to(named(t, "one"))}), setting).ready(t)
			open := take(t, p, "127.0.0.1", 2)
			for range 10 {
				if answered, closed := heard(knock(t, p, "127.0.0.1"), 10*time.Second); answered || !closed {
					t.Fatal("a third of one client is taken, or waits")
				}
			}
			take(t, p, "127.0.0.2", 2)
			if n := metric(t, p, `gateway_connections_refused_total{address="`+p.public+`"}`); n != 10 {
				t.Errorf("%.0f are counted as refused", n)
			}
			if n := metric(t, p, `gateway_connections{address="`+p.public+`"}`); n != 4 {
				t.Errorf("%.0f are counted as open", n)
			}
			_ = open[0].Close()
			until(t, func() bool {
				answered, _ := heard(knock(t, p, "127.0.0.1"), 10*time.Second)
				return answered
			})
			if said := strings.Count(p.output(), "FOREMESH_MAX_CONNECTIONS_PER_CLIENT"); said != 1 {
				t.Errorf("the log names the setting %d times", said)
			}
		})
	}
}
