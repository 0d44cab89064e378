package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/net/netutil"

	"github.com/foremesh/foremesh/edge/gateway/internal/accesslog"
	"github.com/foremesh/foremesh/edge/gateway/internal/config"
	"github.com/foremesh/foremesh/edge/gateway/internal/configuration"
	"github.com/foremesh/foremesh/edge/gateway/internal/front"
	"github.com/foremesh/foremesh/edge/gateway/internal/power"
	"github.com/foremesh/foremesh/edge/gateway/internal/reload"
	"github.com/foremesh/foremesh/edge/gateway/internal/resets"
	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
	"github.com/foremesh/foremesh/edge/gateway/internal/sampling"
	"github.com/foremesh/foremesh/edge/gateway/internal/settings"
	"github.com/foremesh/foremesh/edge/gateway/internal/sockets"
	"github.com/foremesh/foremesh/edge/gateway/internal/telemetry"
	"github.com/foremesh/foremesh/edge/gateway/internal/traffic"
)

// gcPercent is more than Go's own 100: what is alive is a few megabytes, and would be looked through thirty times a second
// under load. Measured there: 3 % less CPU for 2 MB; 200 would be 5 % for 4 MB, and more than 30 MB in all.
const gcPercent = 150

// run serves until a signal ends it. A folder that is given goes before the setting.
func run(folder string) error {
	s, err := settings.FromEnvironment()
	if err != nil {
		return err
	}
	if folder != "" {
		s.Routes = folder
	}
	if err := s.State.Make(); err != nil {
		return fmt.Errorf("FOREMESH_STATE: %w", err)
	}
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("app", "gateway", "instance", s.Instance))
	// So that garbage is collected before a box's limit ends the process; GOMEMLIMIT of the environment goes first.
	if _, err := memlimit.Set(); err != nil {
		slog.Warn("the cgroup's memory limit cannot be read", "error", err.Error())
	}
	if _, given := os.LookupEnv("GOGC"); !given {
		debug.SetGCPercent(gcPercent)
	}
	power.Cores()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	tracing, err := telemetry.New(ctx, s.OTLPEndpoint, s.Instance, s.TraceRatio, s.TracesPerSecond)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	counter := traffic.NewCounter(s.Instance)
	handler := front.New(s, counter, tracing, registry)
	handler.AccessLog = accesslog.New(os.Stdout, registry)

	guard := &resets.Guard{Most: s.MaxResets, Closed: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "gateway_connections_reset_total", Help: "Connections that were closed as their client gave up too many streams."})}
	connections := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "gateway_connections", Help: "Open connections of people by the address that they came to."}, []string{"address"})
	crowded := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_connections_refused_total", Help: "Connections that were closed as their client had as many as one may have, by the address that they came to."}, []string{"address"})
	registry.MustRegister(guard.Closed, connections, crowded)

	failed := make(chan error, 16)
	people := &sockets.Set{
		Connections: s.MaxConnections, PerClient: s.ConnectionsPerClient(), Open: connections, Refused: crowded, Drain: s.ShutdownTimeout, Failed: func(err error) { failed <- err },
		Server: func(address string, encrypted bool) *http.Server {
			made := server(s, guard.Handler(handler.On(address)))
			made.ConnContext = guard.Context
			made.Protocols = new(http.Protocols)
			made.Protocols.SetHTTP1(true)
			made.Protocols.SetHTTP2(encrypted)
			made.Protocols.SetUnencryptedHTTP2(!encrypted)
			made.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 128}
			if encrypted {
				made.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: handler.Certificate(address)}
			}
			return made
		},
	}
	publishing, endPublishing := context.WithCancel(context.Background())
	defer endPublishing()
	var publisherDone sync.WaitGroup
	publish := sync.OnceFunc(func() {
		publisher := &traffic.Publisher{
			Counter: counter, Token: s.DaprToken, Timeout: s.PublishTimeout, Keep: s.MaxUnsentCounts,
			URL:    "http://127.0.0.1:" + strconv.Itoa(s.DaprPort) + "/v1.0/publish/events/traffic",
			Client: &http.Client{},
		}
		publisherDone.Go(func() { publisher.Run(publishing) })
	})
	watcher := &configuration.Watcher{
		Address: "http://127.0.0.1:" + strconv.Itoa(s.DaprPort), Token: s.DaprToken, Timeout: time.Second, Every: s.StoresInterval,
		Client: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		Tell:   handler.Rollouts().Take,
	}
	defer watcher.Watch(nil)
	apply := func(c *config.Config) error {
		wanted := map[string]bool{}
		for address, socket := range c.Table.Sockets {
			wanted[address] = socket.TLS
		}
		swap, err := people.Prepare(wanted)
		if err != nil {
			return err
		}
		// The table first: a socket that has just opened knows its routes, and one that goes has none.
		handler.Use(c.Table)
		swap()
		watcher.Watch(handler.Rollouts().Keys())
		if len(s.Direct) == 0 && counts(c.Table) {
			publish()
		}
		for _, problem := range c.Problems {
			slog.Warn("a part of the routes is not as it was meant", "problem", problem.String())
		}
		return nil
	}
	reloader := reload.New(s.Routes, options(s), apply, registry)
	reloader.Quiet = handler.Quiet

	var ready atomic.Bool
	inside, err := listen(s.Host, s.Port, 256)
	if err != nil {
		return err
	}
	operators := server(s, operations(s, registry, &ready, reloader, handler, watcher))
	if err := reloader.Load(); err != nil {
		_ = inside.Close()
		return err
	}
	go func() { failed <- operators.Serve(inside) }()
	now := make(chan struct{}, 1)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for range hangups {
			now <- struct{}{}
		}
	}()
	go reloader.Watch(ctx, s.ReloadInterval, now)
	ready.Store(true)
	slog.Info("serving", "addresses", people.Addresses(), "rules", reloader.State().Rules)

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
	handler.AccessLog.Close(time.Second)
	return errors.Join(ignoreClosed(err), operators.Close())
}

func options(s *settings.Settings) config.Options {
	return config.Options{Host: cmp.Or(s.PublicHost, s.Host), Port: s.PublicPort, Secrets: s.SecretsFolder(),
		Traces: sampling.Policy{Ratio: s.TraceRatio, PerSecond: s.TracesPerSecond}}
}

// counts tells whether requests are counted for the forecaster: those that are coalesced are.
func counts(table *routes.Table) bool {
	found := false
	table.Each(func(rule *routes.Rule) { found = found || rule.Action.Coalesce != nil })
	return found
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
		// Otherwise net/http answers OPTIONS * for every host.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
	}
}

func listen(host string, port, connections int) (net.Listener, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	return netutil.LimitListener(listener, connections), nil
}
