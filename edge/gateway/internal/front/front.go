// Package front is what people talk to: it checks a request, finds its route and answers or forwards it.
package front

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"

	"github.com/foremesh/foremesh/edge/gateway/internal/problem"
	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
	"github.com/foremesh/foremesh/edge/gateway/internal/settings"
	"github.com/foremesh/foremesh/edge/gateway/internal/telemetry"
	"github.com/foremesh/foremesh/edge/gateway/internal/traffic"
)

// Front is the handler for people.
type Front struct {
	settings  *settings.Settings
	table     *routes.Table
	traffic   *traffic.Counter
	tracing   *telemetry.Tracing
	transport http.RoundTripper // of routes that are forwarded as they are
	proxy     *httputil.ReverseProxy
	slots     chan struct{} // one for each request in flight
	ways      map[*routes.Rule]way
	requests  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
}

// way is where a rule's requests go.
type way struct {
	backend *backend
	carrier *carrier // nil: forwarded as it is
}

// backend is an app as it is reached from here.
type backend struct {
	app   string
	root  *url.URL // stands for the app's root
	token string   // opens it
}

// New builds the handler and registers its metrics. It returns an error if an app's address is none.
func New(s *settings.Settings, table *routes.Table, counter *traffic.Counter, tracing *telemetry.Tracing, metrics prometheus.Registerer) (*Front, error) {
	f := &Front{
		settings: s, table: table, traffic: counter, tracing: tracing,
		transport: newTransport(s.ConnectionsToDapr),
		slots:     make(chan struct{}, s.MaxInFlight),
		ways:      map[*routes.Rule]way{},
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_requests_total", Help: "Requests by route and status."}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gateway_request_seconds", Help: "Time from a request's header to the end of its answer, by route.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}, []string{"route"}),
	}
	f.proxy = f.newProxy()
	if err := f.layWays(); err != nil {
		return nil, err
	}
	metrics.MustRegister(f.requests, f.seconds,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gateway_in_flight", Help: "Requests in flight."}, func() float64 { return float64(len(f.slots)) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gateway_queued", Help: "Requests that wait for a coalesced call."}, func() float64 { return float64(f.Queued()) }))
	return f, nil
}

// layWays makes one backend for each app and one carrier for each pair of app and Coalesce.
func (f *Front) layWays() error {
	type pair struct {
		app  string
		spec *routes.CoalesceSpec
	}
	backends, carriers := map[string]*backend{}, map[pair]*carrier{}
	budget := &retryBudget{share: f.settings.RetryBudgetShare}
	rules := f.table.Rules()
	for i := range rules {
		rule := &rules[i]
		app := rule.Backend.App
		if backends[app] == nil {
			made, err := f.newBackend(app)
			if err != nil {
				return err
			}
			backends[app] = made
		}
		key := pair{app, rule.Coalesce}
		if rule.Coalesce != nil && carriers[key] == nil {
			carriers[key] = newCarrier(f, backends[app], rule.Coalesce, budget)
		}
		f.ways[rule] = way{backends[app], carriers[key]}
	}
	return nil
}

func (f *Front) newBackend(app string) (*backend, error) {
	address, token := "http://127.0.0.1:"+strconv.Itoa(f.settings.DaprPort)+"/v1.0/invoke/"+app+"/method", f.settings.DaprToken
	if direct, ok := f.settings.Direct[app]; ok {
		address, token = strings.TrimSuffix(direct, "/"), f.settings.AppToken
	}
	root, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("app '%s' cannot be addressed: %w", app, err)
	}
	return &backend{app, root, token}, nil
}

func newTransport(connections int) http.RoundTripper {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: time.Second, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConns:        connections,
		MaxIdleConnsPerHost: connections,
		MaxConnsPerHost:     connections,
		IdleConnTimeout:     60 * time.Second,
		DisableCompression:  true,
	}
}

// Queued returns how many requests wait for a coalesced call.
func (f *Front) Queued() int {
	queued, seen := 0, map[*carrier]bool{}
	for _, way := range f.ways {
		if way.carrier != nil && !seen[way.carrier] {
			seen[way.carrier] = true
			queued += way.carrier.coalescer.Queued()
		}
	}
	return queued
}

// ServeHTTP answers one request.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	if p := unsafePath(r); p != nil {
		f.count("refused", write(w, p), time.Since(began))
		return
	}
	rule := f.table.Match(r.Method, r.URL.Path)
	if rule == nil {
		f.count("unmatched", write(w, problem.NotFound()), time.Since(began))
		return
	}
	counted := rule.Coalesce != nil
	if counted {
		f.traffic.Arrived()
	}
	// An answer that breaks off half way leaves by a panic, net/http's way to close the connection.
	status := http.StatusBadGateway
	defer func() {
		took := time.Since(began)
		if counted {
			f.traffic.Finished(traffic.OutcomeOf(status), took)
		}
		f.count(rule.Route, status, took)
	}()
	status = f.serve(w, r, rule)
}

func (f *Front) serve(w http.ResponseWriter, r *http.Request, rule *routes.Rule) int {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		return write(w, problem.Overloaded("as many requests as the gateway takes at once are in flight"))
	}
	ctx, span := f.tracing.Begin(r, rule.Path)
	defer span.End()
	if ctx != r.Context() {
		r = r.WithContext(ctx)
	}
	sampled := span.SpanContext().IsSampled()
	if sampled {
		span.SetAttributes(attribute.String("http.request.method", r.Method), attribute.String("url.path", r.URL.Path),
			attribute.String("http.route", rule.Path))
		w.Header().Set("X-Trace-Id", span.SpanContext().TraceID().String())
	}
	var status int
	if way := f.ways[rule]; way.carrier != nil {
		status = way.carrier.carry(w, r)
	} else {
		status = f.forward(w, r, way.backend)
	}
	if sampled {
		span.SetAttributes(attribute.Int("http.response.status_code", status))
		if status >= 500 {
			span.SetStatus(codes.Error, http.StatusText(status))
		}
		slog.Info("request", "method", r.Method, "path", r.URL.Path, "status", status,
			"trace_id", span.SpanContext().TraceID().String(), "span_id", span.SpanContext().SpanID().String())
	} else if status >= 500 && status != http.StatusServiceUnavailable {
		slog.Warn("request", "method", r.Method, "path", r.URL.Path, "status", status)
	}
	return status
}

func (f *Front) count(route string, status int, took time.Duration) {
	f.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	f.seconds.WithLabelValues(route).Observe(took.Seconds())
}

// write sends a problem and returns its status.
func write(w http.ResponseWriter, p *problem.Problem) int {
	p.Write(w)
	return p.Status
}

// refused turns a status of a whole call, the sidecar's own, into what the caller is told.
func refused(status int) *problem.Problem {
	switch status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return problem.Overloaded("the service behind this route has no room")
	case http.StatusGatewayTimeout:
		return problem.DeadlineExceeded("the service behind this route did not answer in time")
	default:
		return problem.Unavailable("the service behind this route cannot be reached")
	}
}
