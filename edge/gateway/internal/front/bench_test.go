package front_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/foremesh/foremesh/edge/gateway/internal/config"
	"github.com/foremesh/foremesh/edge/gateway/internal/front"
	"github.com/foremesh/foremesh/edge/gateway/internal/settings"
	"github.com/foremesh/foremesh/edge/gateway/internal/telemetry"
	"github.com/foremesh/foremesh/edge/gateway/internal/traffic"
)

const benchAnswer = `{"status":200,"body":{"intent":"iot_hue_lighton","score":0.98,"alternatives":[{"intent":"iot_hue_lighton","score":0.98},` +
	`{"intent":"iot_hue_lightup","score":0.01},{"intent":"iot_hue_lightdim","score":0.005}],"model":"intent","tier":"tiny","version":"1","degraded":false,` +
	`"timings_ms":{"total":4.1,"tokenize":1.1,"queue":0.2,"infer":0.9},"trace_id":"0af7651916cd43dd8448eb211c80319c","replica":"inference-1"}}`

// BenchmarkCoalesced is what a request of the coalesced route costs inside the gateway, tracing at its defaults: the
// upstream is a stand-in that answers without reading more than the number of items, 64 callers at once.
func BenchmarkCoalesced(b *testing.B) {
	var answers sync.Map
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		message, _ := io.ReadAll(r.Body)
		n := bytes.Count(message, []byte(`{"body":`))
		reply, found := answers.Load(n)
		if !found {
			reply, _ = answers.LoadOrStore(n, []byte(`{"items":[`+strings.Repeat(benchAnswer+",", n-1)+benchAnswer+`]}`))
		}
		_, _ = w.Write(reply.([]byte))
	}))
	defer upstream.Close()
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer collector.Close()
	where, _ := url.Parse(upstream.URL)
	port, _ := strconv.Atoi(where.Port())
	folder := b.TempDir()
	shipped, err := os.ReadFile("../../routes/foremesh.yaml")
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "r.yaml"), shipped, 0o600); err != nil {
		b.Fatal(err)
	}
	loaded, err := config.Load(folder, config.Options{})
	if err != nil {
		b.Fatal(err)
	}
	tracing, err := telemetry.New(context.Background(), collector.URL, "bench", 0.01, 5)
	if err != nil {
		b.Fatal(err)
	}
	defer tracing.Close(context.Background())
	s := &settings.Settings{DaprPort: port, MaxBodyBytes: 65536, MaxInFlight: 2048, ConnectionsToDapr: 64, BackendTimeout: 10 * time.Second}
	made := front.New(s, traffic.NewCounter("bench"), tracing, prometheus.NewRegistry())
	made.Use(loaded.Table)
	handler := made.On(":0")
	log := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	defer slog.SetDefault(log)
	body := []byte(`{"text": "turn on the kitchen light", "session_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7"}`)
	b.ReportAllocs()
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	before := cpu()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := httptest.NewRequest(http.MethodPost, "/v1/intents", bytes.NewReader(body))
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				b.Errorf("status %d: %s", w.Code, w.Body)
				return
			}
		}
	})
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/float64(b.N)/1000, "cpu-us/op")
}

// cpu is what the whole process has used: on a shared machine it says more than the wall clock.
func cpu() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkForwarded is a plain request to a service, beside a bare reverse proxy on the same upstream.
func BenchmarkForwarded(b *testing.B) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	defer upstream.Close()
	at, _ := url.Parse(upstream.URL)
	text := "apiVersion: foremesh.dev/v1alpha1\nkind: AddressBook\nmetadata: { name: b }\nspec: { services: [ { name: s, port: 80, addresses: [ '" + at.Host + "' ] } ] }\n" +
		"---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: r }\nspec: { rules: [ { backendRefs: [ { name: s, port: 80 } ] } ] }\n"
	loaded, err := config.Parse("", []config.File{{Name: "a.yaml", Text: []byte(text)}}, config.Options{})
	if err != nil {
		b.Fatal(err)
	}
	tracing, err := telemetry.New(context.Background(), "", "bench", 0, 0)
	if err != nil {
		b.Fatal(err)
	}
	made := front.New(&settings.Settings{MaxBodyBytes: 65536, MaxInFlight: 2048, BackendTimeout: 10 * time.Second}, traffic.NewCounter("bench"), tracing, prometheus.NewRegistry())
	made.Use(loaded.Table)
	bare := &httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(at); p.SetXForwarded() },
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
	}
	for name, handler := range map[string]http.Handler{"gateway": made.On(":0"), "bare": bare} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(16)
			before := cpu()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					w := httptest.NewRecorder()
					handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/x", nil))
					if w.Code != http.StatusOK {
						b.Errorf("status %d: %s", w.Code, w.Body)
						return
					}
				}
			})
			b.ReportMetric(float64((cpu()-before).Nanoseconds())/float64(b.N)/1000, "cpu-us/op")
		})
	}
}
