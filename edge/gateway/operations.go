package main

import (
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/foremesh/foremesh/edge/gateway/internal/problem"
	"github.com/foremesh/foremesh/edge/gateway/internal/reload"
	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
	"github.com/foremesh/foremesh/edge/gateway/internal/settings"
)

// operations is what the sidecar and operators see: health and metrics are open, the rest wants the token.
func operations(s *settings.Settings, registry *prometheus.Registry, ready *atomic.Bool, reloader *reload.Reloader, table func() *routes.Table) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Timeout: 5 * time.Second}))
	mux.HandleFunc("/", guarded(s, func(w http.ResponseWriter, _ *http.Request) { problem.NotFound().Write(w) }))
	mux.HandleFunc("GET /status", guarded(s, func(w http.ResponseWriter, _ *http.Request) { send(w, reloader.State()) }))
	mux.HandleFunc("GET /routes", guarded(s, func(w http.ResponseWriter, _ *http.Request) { send(w, table().List()) }))
	return mux
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
