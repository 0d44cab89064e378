package sockets

import (
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// counted is a listener that knows how many of its connections are open, WebSockets too: those have left the server.
type counted struct {
	net.Listener
	open prometheus.Gauge
}

func (c *counted) Accept() (net.Conn, error) {
	accepted, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.open.Inc()
	return &countedConn{Conn: accepted, open: c.open}, nil
}

type countedConn struct {
	net.Conn
	open   prometheus.Gauge
	closed sync.Once
}

func (c *countedConn) Close() error {
	c.closed.Do(c.open.Dec)
	return c.Conn.Close()
}
