package sockets

import (
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/foremesh/foremesh/edge/gateway/internal/limit"
)

// counted is a listener that knows whose connections are open, WebSockets too: those have left the server. It closes those
// of a client that has as many as one may have; so what it remembers is bounded as the connections are.
type counted struct {
	net.Listener
	most    int // of a client
	open    prometheus.Gauge
	refused prometheus.Counter

	mu         sync.Mutex
	clients    map[limit.Client]int
	complained time.Time
}

func (c *counted) Accept() (net.Conn, error) {
	for {
		accepted, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c.take(accepted) {
			c.open.Inc()
			return &countedConn{Conn: accepted, of: c}, nil
		}
		c.refused.Inc()
		if refused, ok := accepted.(*net.TCPConn); ok {
			_ = refused.SetLinger(0) // by a reset: nothing of it waits in the system for a minute
		}
		_ = accepted.Close()
	}
}

// take counts a connection, or tells that its client has no room for it.
func (c *counted) take(accepted net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := limit.Peer(accepted.RemoteAddr().String())
	if c.clients[of] < c.most {
		c.clients[of]++
		return true
	}
	if now := time.Now(); now.Sub(c.complained) >= time.Minute { // whoever opens them does so again and again
		c.complained = now
		slog.Warn("a client has as many connections as one may have; more are closed", "client", accepted.RemoteAddr().String(), "most", c.most,
			"setting", "FOREMESH_MAX_CONNECTIONS_PER_CLIENT")
	}
	return false
}

func (c *counted) leave(gone net.Conn) {
	c.open.Dec()
	c.mu.Lock()
	defer c.mu.Unlock()
	of := limit.Peer(gone.RemoteAddr().String())
	if c.clients[of]--; c.clients[of] == 0 {
		delete(c.clients, of)
	}
}

type countedConn struct {
	net.Conn
	of     *counted
	closed sync.Once
}

func (c *countedConn) Close() error {
	c.closed.Do(func() { c.of.leave(c.Conn) })
	return c.Conn.Close()
}
