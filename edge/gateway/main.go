// Command gateway is Foremesh's front door: routes from files, many requests in one hop, traffic counted by the second.
package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"github.com/foremesh/foremesh/edge/gateway/internal/front"
	"github.com/foremesh/foremesh/edge/gateway/internal/problem"
	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
	"github.com/foremesh/foremesh/edge/gateway/internal/settings"
	"github.com/foremesh/foremesh/edge/gateway/internal/telemetry"
	"github.com/foremesh/foremesh/edge/gateway/internal/traffic"
)

func main() {
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: gateway [-settings]\n\nServes the routes of a folder. Everything is set in the environment:")
		settings.List(flag.CommandLine.Output())
		fmt.Fprintln(flag.CommandLine.Output(), "\n-settings prints that list as JSON.")
	}
	list := flag.Bool("settings", false, "print the settings as JSON")
	flag.Parse()
	if *list {
		if err := settings.JSON(os.Stdout); err != nil {
			os.Exit(1)
		}
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}

func run() error {
	s, err := settings.FromEnvironment()
	if err != nil {
		return err
	}
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("app", "gateway", "instance", s.Instance))
	table, err := routes.Load(s.Routes)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	tracing, err := telemetry.New(ctx, s.OTLPEndpoint, s.Instance, s.TraceRatio, s.TracesPerSecond)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	counter := traffic.NewCounter(s.Instance)

	var ready atomic.Bool
	handler, err := front.New(s, table, counter, tracing, registry)
	if err != nil {
		return err
	}
	people := server(s, handler)
	waiting := &unused{connections: map[net.Conn]struct{}{}}
	people.ConnState = waiting.note
	people.RegisterOnShutdown(func() { time.AfterFunc(250*time.Millisecond, waiting.close) })
	operators := server(s, operations(s, registry, &ready))
	public, err := listen(s.Host, s.PublicPort, s.MaxConnections)
	if err != nil {
		return err
	}
	inside, err := listen(s.Host, s.Port, 256)
	if err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() { failed <- people.Serve(public) }()
	go func() { failed <- operators.Serve(inside) }()

	publishing, endPublishing := context.WithCancel(context.Background())
	publisher := &traffic.Publisher{
		Counter: counter, Token: s.DaprToken, Timeout: s.PublishTimeout, Keep: s.MaxUnsentCounts,
		URL:    "http://127.0.0.1:" + strconv.Itoa(s.DaprPort) + "/v1.0/publish/events/traffic",
		Client: &http.Client{},
	}
	var publisherDone sync.WaitGroup
	if len(s.Direct) == 0 {
		publisherDone.Go(func() { publisher.Run(publishing) })
	}
	ready.Store(true)
	slog.Info("serving", "address", public.Addr().String(), "rules", len(table.Rules()))

	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	stop() // a second signal ends the process at once
	ready.Store(false)
	grace, cancel := context.WithTimeout(context.Background(), s.ShutdownTimeout)
	defer cancel()
	if late := people.Shutdown(grace); late != nil {
		err = errors.Join(err, fmt.Errorf("requests were still in flight %s after the signal: %w", s.ShutdownTimeout, late))
	}
	endPublishing()
	publisherDone.Wait()
	tracing.Close(grace)
	return errors.Join(ignoreClosed(err), operators.Close())
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func server(s *settings.Settings, handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: s.HeaderTimeout,
		ReadTimeout:       s.ReadTimeout,
		WriteTimeout:      s.ReadTimeout + 2*s.BackendTimeout,
		IdleTimeout:       s.IdleTimeout,
		MaxHeaderBytes:    s.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
	}
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

func listen(host string, port, connections int) (net.Listener, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	return netutil.LimitListener(listener, connections), nil
}

// operations is what the sidecar and operators see: health and metrics are open, the rest wants the token.
func operations(s *settings.Settings, registry *prometheus.Registry, ready *atomic.Bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Timeout: 5 * time.Second}))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		given := []byte(r.Header.Get("dapr-api-token"))
		if s.AppToken == "" || subtle.ConstantTimeCompare(given, []byte(s.AppToken)) != 1 {
			problem.Unauthorized().Write(w)
			return
		}
		problem.NotFound().Write(w)
	})
	return mux
}
