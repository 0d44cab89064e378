// Package sockets holds the listening sockets while the table that names them changes: what stays is never closed.
package sockets

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"

	"github.com/foremesh/foremesh/edge/gateway/internal/limit"
)

// Set is the sockets that are open. Its fields are set once.
type Set struct {
	// Server makes the server of an address. One with a TLSConfig is served with TLS.
	Server      func(address string, tls bool) *http.Server
	Connections int                    // most that are open at each address; more wait in the system's backlog
	PerClient   int                    // most of them that a client has; more are closed
	Open        *prometheus.GaugeVec   // of connections, by address
	Refused     *prometheus.CounterVec // those beyond PerClient, by address
	Drain       time.Duration          // time for what is in flight where an address is given up
	Failed      func(err error)        // a socket that broke
	open        map[string]*door       // by address
	mu          sync.Mutex
}

type door struct {
	tls      bool
	listener net.Listener
	server   *http.Server
	waiting  *unused
}

// Prepare opens what is wanted and not there yet, and returns what swaps the sets; an error leaves everything as it was.
// wanted tells for each address whether it speaks TLS.
func (s *Set) Prepare(wanted map[string]bool) (swap func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := map[string]*door{}
	undo := func() {
		for _, d := range fresh {
			_ = d.listener.Close()
		}
	}
	for address, tls := range wanted {
		if d := s.open[address]; d != nil {
			if d.tls != tls {
				undo()
				return nil, fmt.Errorf("%s cannot change between HTTP and HTTPS while it is served; use another port, or start the gateway again", address)
			}
			continue
		}
		listener, err := net.Listen("tcp", address)
		if err != nil {
			undo()
			return nil, err
		}
		known := &counted{Listener: listener, most: s.PerClient, clients: map[limit.Client]int{},
			open: s.Open.WithLabelValues(address), refused: s.Refused.WithLabelValues(address)}
		fresh[address] = &door{tls: tls, listener: netutil.LimitListener(known, s.Connections)}
	}
	return func() { s.swap(wanted, fresh) }, nil
}

func (s *Set) swap(wanted map[string]bool, fresh map[string]*door) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[string]*door{}
	}
	for address, d := range fresh {
		d.server = s.Server(address, d.tls)
		d.waiting = &unused{connections: map[net.Conn]struct{}{}}
		d.server.ConnState = d.waiting.note
		d.server.RegisterOnShutdown(func() { time.AfterFunc(250*time.Millisecond, d.waiting.close) })
		s.open[address] = d
		go s.serve(d)
	}
	for address, d := range s.open {
		if _, stays := wanted[address]; stays {
			continue
		}
		delete(s.open, address)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), s.Drain)
			defer cancel()
			if d.server.Shutdown(ctx) != nil {
				slog.Warn("requests were still in flight when an address was given up", "address", address)
				_ = d.server.Close()
			}
		}()
	}
}

func (s *Set) serve(d *door) {
	var err error
	if d.tls {
		err = d.server.ServeTLS(d.listener, "", "")
	} else {
		err = d.server.Serve(d.listener)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		s.Failed(err)
	}
}

// Addresses returns where people are listened to.
func (s *Set) Addresses() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, d := range s.open {
		all = append(all, d.listener.Addr().String())
	}
	return all
}

// Shutdown stops accepting and waits for what is in flight, until ctx is done.
func (s *Set) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var wait sync.WaitGroup
	late := make(chan error, len(s.open))
	for _, d := range s.open {
		wait.Go(func() { late <- d.server.Shutdown(ctx) })
	}
	wait.Wait()
	close(late)
	var all []error
	for err := range late {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// unused keeps the connections whose first request has not come yet. Browsers open such ahead of need, and Shutdown
// would wait five seconds for each; what was on its way when the listener closed arrives within a moment.
type unused struct {
	mu          sync.Mutex
	connections map[net.Conn]struct{}
}

func (u *unused) note(connection net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if state == http.StateNew {
		u.connections[connection] = struct{}{}
	} else {
		delete(u.connections, connection)
	}
}

func (u *unused) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for connection := range u.connections {
		_ = connection.Close()
	}
}
