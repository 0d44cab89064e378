package main

import (
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/foremesh/foremesh/edge/gateway/internal/configuration"
	"github.com/foremesh/foremesh/edge/gateway/internal/front"
	"github.com/foremesh/foremesh/edge/gateway/internal/problem"
	"github.com/foremesh/foremesh/edge/gateway/internal/release"
	"github.com/foremesh/foremesh/edge/gateway/internal/reload"
	"github.com/foremesh/foremesh/edge/gateway/internal/settings"
)

// operations is what the sidecar and operators see: health and metrics are open, the rest wants the token.
func operations(s *settings.Settings, registry *prometheus.Registry, ready *atomic.Bool, reloader *reload.Reloader, people *front.Front, watcher *configuration.Watcher) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Timeout: 5 * time.Second}))
	mux.HandleFunc("/", guarded(s, func(w http.ResponseWriter, _ *http.Request) { problem.NotFound().Write(w) }))
	mux.HandleFunc("GET /status", guarded(s, func(w http.ResponseWriter, _ *http.Request) {
		send(w, status{reloader.State(), people.Rollouts().States(), watcher.States()})
	}))
	mux.HandleFunc("GET /routes", guarded(s, func(w http.ResponseWriter, _ *http.Request) { send(w, people.Table().List()) }))
	mux.HandleFunc("POST /configuration/{store}/{key...}", guarded(s, func(_ http.ResponseWriter, r *http.Request) {
		watcher.Pushed(configuration.Key{Store: r.PathValue("store"), Name: r.PathValue("key")})
	}))
	// A sidecar asks for it when it begins: what the one before it was asked for it does not know.
	mux.HandleFunc("GET /dapr/config", guarded(s, func(w http.ResponseWriter, _ *http.Request) {
		watcher.Renew()
		send(w, struct{}{})
	}))
	// What a profile shows is of the process, not of callers; a profile of 30 s still fits the server's time-outs.
	mux.HandleFunc("GET /debug/pprof/", guarded(s, pprof.Index))
	mux.HandleFunc("GET /debug/pprof/profile", guarded(s, pprof.Profile))
	mux.HandleFunc("GET /debug/pprof/trace", guarded(s, pprof.Trace))
	return mux
}

// status is what is served, and what of it is not as it was meant.
type status struct {
	reload.State
	Rollouts       []release.State       `json:"rollouts"`
	Configurations []configuration.State `json:"configurations"`
}

func send(w http.ResponseWriter, document any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(document)
}

func guarded(s *settings.Settings, handler http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		given := []byte(r.Header.Get("dapr-api-token"))
		if s.AppToken == "" || subtle.ConstantTimeCompare(given, []byte(s.AppToken)) != 1 {
			problem.Unauthorized("a valid dapr-api-token is needed").Write(w)
			return
		}
		handler(w, r)
	}
}
