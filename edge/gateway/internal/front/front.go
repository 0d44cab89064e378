// Package front is what people talk to: it checks a request, finds its route and answers or forwards it.
package front

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

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
	transport http.RoundTripper
	slots     chan struct{} // one for each request in flight
	carriers  map[*routes.CoalesceSpec]*carrier
	proxy     *httputil.ReverseProxy
	requests  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
}

// New builds the handler and registers its metrics.
func New(s *settings.Settings, table *routes.Table, counter *traffic.Counter, tracing *telemetry.Tracing, metrics prometheus.Registerer) *Front {
	f := &Front{
		settings: s, table: table, traffic: counter, tracing: tracing,
		slots:    make(chan struct{}, s.MaxInFlight),
		carriers: map[*routes.CoalesceSpec]*carrier{},
		transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: time.Second, KeepAlive: 30 * time.Second}).DialContext,
			MaxIdleConns:        s.ConnectionsToDapr,
			MaxIdleConnsPerHost: s.ConnectionsToDapr,
			MaxConnsPerHost:     s.ConnectionsToDapr,
			IdleConnTimeout:     60 * time.Second,
			DisableCompression:  true,
		},
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_requests_total", Help: "Requests by route and status."}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gateway_request_seconds", Help: "Time from a request's header to the end of its answer, by route.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}, []string{"route"}),
	}
	budget := &retryBudget{share: s.RetryBudgetShare}
	for _, rule := range table.Rules() {
		if rule.Coalesce != nil && f.carriers[rule.Coalesce] == nil {
			f.carriers[rule.Coalesce] = newCarrier(f, rule.Backend, rule.Coalesce, budget)
		}
	}
	f.proxy = f.newProxy()
	metrics.MustRegister(f.requests, f.seconds, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gateway_in_flight", Help: "Requests in flight."}, func() float64 { return float64(len(f.slots)) }))
	return f
}

// ServeHTTP answers one request.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	if p := unsafePath(r); p != nil {
		f.refuse(w, "refused", p, began)
		return
	}
	rule := f.table.Match(r.Method, r.URL.Path)
	if rule == nil {
		f.refuse(w, "unmatched", problem.NotFound(), began)
		return
	}
	counted := rule.Coalesce != nil
	if counted {
		f.traffic.Arrived()
	}
	status := f.serve(w, r, rule)
	took := time.Since(began)
	if counted {
		f.traffic.Finished(traffic.OutcomeOf(status), took)
	}
	f.count(rule.Route, status, took)
}

func (f *Front) serve(w http.ResponseWriter, r *http.Request, rule *routes.Rule) int {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		p := problem.Overloaded("as many requests as the gateway takes at once are in flight")
		p.Write(w)
		return p.Status
	}
	ctx, span := f.tracing.Tracer.Start(telemetry.Extract(r.Context(), r.Header), r.Method+" "+rule.Path,
		trace.WithSpanKind(trace.SpanKindServer))
	sampled := span.SpanContext().IsSampled()
	if sampled {
		span.SetAttributes(attribute.String("http.request.method", r.Method), attribute.String("url.path", r.URL.Path),
			attribute.String("http.route", rule.Path))
		w.Header().Set("X-Trace-Id", span.SpanContext().TraceID().String())
	}
	r = r.WithContext(ctx)
	var status int
	if rule.Coalesce != nil {
		status = f.carry(w, r, rule)
	} else {
		status = f.forward(w, r, rule)
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
	span.End()
	return status
}

func (f *Front) refuse(w http.ResponseWriter, route string, p *problem.Problem, began time.Time) {
	p.Write(w)
	f.count(route, p.Status, time.Since(began))
}

func (f *Front) count(route string, status int, took time.Duration) {
	f.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	f.seconds.WithLabelValues(route).Observe(took.Seconds())
}

// backend returns the address that stands for an app's root, and the token that opens it.
func (f *Front) backend(b routes.Backend) (address, token string) {
	if direct, ok := f.settings.Direct[b.App]; ok {
		return strings.TrimSuffix(direct, "/"), f.settings.AppToken
	}
	return "http://127.0.0.1:" + strconv.Itoa(f.settings.DaprPort) + "/v1.0/invoke/" + b.App + "/method", f.settings.DaprToken
}

// unsafePath refuses what a server behind could read as another path than the one that was matched.
func unsafePath(r *http.Request) *problem.Problem {
	if r.URL.IsAbs() && r.URL.Host != r.Host {
		return problem.BadPath("the request line names another host than the Host header")
	}
	raw := r.URL.EscapedPath()
	if !strings.HasPrefix(raw, "/") {
		return problem.BadPath("the path must begin with /")
	}
	lower := strings.ToLower(raw)
	for _, code := range []string{"%2e", "%2f", "%5c", "%00", "%25"} {
		if strings.Contains(lower, code) {
			return problem.BadPath("the path holds " + code + ", which must not be encoded here")
		}
	}
	if strings.ContainsAny(r.URL.Path, "\\\x00") || strings.Contains(r.URL.Path, "//") {
		return problem.BadPath("the path holds a backslash, a NUL or an empty segment")
	}
	for _, segment := range strings.Split(r.URL.Path, "/") {
		if segment == "." || segment == ".." {
			return problem.BadPath("the path holds a dot segment")
		}
	}
	return nil
}

type ruleKey struct{}

func (f *Front) newProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport:  f.transport,
		BufferPool: &buffers{},
		ErrorLog:   slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
		// Rewrite and not Director: the caller's X-Forwarded-* and Forwarded are gone before it runs.
		Rewrite: func(p *httputil.ProxyRequest) {
			rule, _ := p.In.Context().Value(ruleKey{}).(*routes.Rule)
			address, token := f.backend(rule.Backend)
			target, _ := url.Parse(address)
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = target.Scheme, target.Host, target.Host
			p.Out.URL.Path = target.Path + p.In.URL.Path
			p.Out.URL.RawPath = ""
			for name := range p.Out.Header {
				if strings.HasPrefix(strings.ToLower(name), "dapr-") {
					p.Out.Header.Del(name)
				}
			}
			p.SetXForwarded()
			p.Out.Header.Set("dapr-api-token", token)
			p.Out.Header.Set("Traceparent", traceparent(p.In.Context()))
		},
		ModifyResponse: func(reply *http.Response) error {
			for name := range reply.Header {
				if lower := strings.ToLower(name); strings.HasPrefix(lower, "dapr-") || lower == "traceparent" || lower == "server" {
					reply.Header.Del(name)
				}
			}
			// A sidecar's own error speaks of what is behind the gateway; a problem document is the service's.
			if reply.StatusCode >= 500 && !strings.HasPrefix(reply.Header.Get("Content-Type"), "application/problem+json") {
				_ = reply.Body.Close()
				return problem.Unavailable("the service behind this route cannot be reached")
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) { asProblem(err).Write(w) },
	}
}

func (f *Front) forward(w http.ResponseWriter, r *http.Request, rule *routes.Rule) int {
	if r.ContentLength > f.settings.MaxBodyBytes {
		p := problem.TooLarge(f.settings.MaxBodyBytes)
		p.Write(w)
		return p.Status
	}
	ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), ruleKey{}, rule), f.settings.BackendTimeout)
	defer cancel()
	r = r.WithContext(ctx)
	r.Body = http.MaxBytesReader(w, r.Body, f.settings.MaxBodyBytes)
	seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	f.proxy.ServeHTTP(seen, r)
	return seen.status
}

func traceparent(ctx context.Context) string {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		return telemetry.Traceparent(sc)
	}
	return traffic.Untraced
}

// statusWriter remembers the status that was sent.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// buffers pools what the proxy copies with: 4 KB, as answers here are small and boxes too.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 4096)
}

func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
