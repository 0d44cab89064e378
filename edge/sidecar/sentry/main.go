// Command sentry is Dapr's certificate authority, self-hosted, with every listener where it is told to be.
//
// Dapr's own cmd/sentry takes --healthz-listen-address and then listens on every interface. This main composes the same
// public packages for standalone mode and keeps health on the given address; JWT issuing, OIDC and Kubernetes are out.
package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/dapr/dapr/cmd/sentry/options"
	"github.com/dapr/dapr/pkg/buildinfo"
	"github.com/dapr/dapr/pkg/healthz"
	"github.com/dapr/dapr/pkg/modes"
	"github.com/dapr/dapr/pkg/sentry"
	"github.com/dapr/dapr/pkg/sentry/config"
	"github.com/dapr/dapr/pkg/sentry/monitoring"
	"github.com/dapr/kit/concurrency"
	"github.com/dapr/kit/fswatcher"
	"github.com/dapr/kit/logger"
	"github.com/dapr/kit/signals"
)

// settle is how long changes of the issuer's files are gathered before they are loaded: they come in threes.
const settle = 2 * time.Second

var log = logger.NewLogger("dapr.sentry")

func main() {
	opts := options.New(os.Args[1:])
	if err := opts.Validate(); err != nil {
		log.Fatalf("options: %s", err)
	}
	if err := logger.ApplyOptionsToLoggers(&opts.Logger); err != nil {
		log.Fatal(err)
	}
	log.Infof("starting Dapr sentry %s", buildinfo.Version())
	if err := run(signals.Context(), opts); err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}

func run(ctx context.Context, opts *options.Options) error {
	if err := monitoring.InitMetrics(); err != nil {
		return err
	}
	cfg, err := config.FromConfigName(opts.ConfigName, opts.Mode)
	if err != nil {
		return err
	}
	dir := opts.IssuerCredentialsPath
	cfg.IssuerCertPath = filepath.Join(dir, opts.X509.IssuerCertFilename)
	cfg.IssuerKeyPath = filepath.Join(dir, opts.X509.IssuerKeyFilename)
	cfg.RootCertPath = filepath.Join(dir, opts.X509.RootCAFilename)
	cfg.TrustDomain = opts.TrustDomain
	cfg.Port = opts.Port
	cfg.ListenAddress = opts.ListenAddress
	cfg.Mode = modes.DaprMode(opts.Mode)

	files, err := fswatcher.New(fswatcher.Options{Targets: []string{dir}})
	if err != nil {
		return err
	}
	changed := make(chan struct{})
	return concurrency.NewRunnerManager(
		func(ctx context.Context) error { return files.Run(ctx, changed) },
		func(ctx context.Context) error {
			// Each pass serves with the issuer that is on disk, until it changes.
			for ctx.Err() == nil {
				if err := serve(ctx, opts, cfg, changed); err != nil {
					return err
				}
			}
			return nil
		},
	).Run(ctx)
}

func serve(ctx context.Context, opts *options.Options, cfg config.Config, changed <-chan struct{}) error {
	health := healthz.New()
	authority, err := sentry.New(ctx, sentry.Options{Config: cfg, Healthz: health})
	if err != nil {
		return err
	}
	address := net.JoinHostPort(opts.HealthzListenAddress, strconv.Itoa(opts.HealthzPort))
	return concurrency.NewRunnerManager(
		authority.Start,
		func(ctx context.Context) error { return answerHealth(ctx, address, health) },
		func(ctx context.Context) error {
			select {
			case <-ctx.Done():
			case <-changed:
				select {
				case <-ctx.Done():
				case <-time.After(settle):
					log.Warn("issuer credentials changed; reloading")
				}
			}
			return nil
		},
	).Run(ctx)
}

func answerHealth(ctx context.Context, address string, health healthz.Healthz) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if !health.IsReady() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return server.Close()
	}
}
