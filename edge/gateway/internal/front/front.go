// Package front is what people talk to: it checks a request, finds its route and answers or forwards it.
package front

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/foremesh/foremesh/edge/gateway/internal/accesslog"
	"github.com/foremesh/foremesh/edge/gateway/internal/auth"
	"github.com/foremesh/foremesh/edge/gateway/internal/concurrency"
	"github.com/foremesh/foremesh/edge/gateway/internal/limit"
	"github.com/foremesh/foremesh/edge/gateway/internal/outlier"
	"github.com/foremesh/foremesh/edge/gateway/internal/power"
	"github.com/foremesh/foremesh/edge/gateway/internal/problem"
	"github.com/foremesh/foremesh/edge/gateway/internal/release"
	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
	"github.com/foremesh/foremesh/edge/gateway/internal/sampling"
	"github.com/foremesh/foremesh/edge/gateway/internal/settings"
	"github.com/foremesh/foremesh/edge/gateway/internal/telemetry"
	"github.com/foremesh/foremesh/edge/gateway/internal/traffic"
)

// Front is the handler for people.
type Front struct {
	AccessLog *accesslog.Log // set once, before the first request; nil: none

	settings *settings.Settings
	traffic  *traffic.Counter
	tracing  *telemetry.Tracing
	sidecar  http.RoundTripper // to apps
	plain    http.RoundTripper // to services
	h2c      http.RoundTripper // to services that speak HTTP/2 without TLS
	proxy    *httputil.ReverseProxy
	buffers  buffers
	slots    chan struct{} // one for each request in flight
	mirrors  chan struct{} // one for each copy in flight
	outliers outlier.Set
	serving  atomic.Pointer[serving]
	rollouts release.Set
	idle     power.Idle
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	dropped  prometheus.Counter

	identified *prometheus.CounterVec
	keyLooks   *prometheus.CounterVec
}

// serving is a table and what its actions need.
type serving struct {
	table    *routes.Table
	carriers map[*routes.Action][]*carrier // of coalesced routes, in the order of the backends
	byKey    map[carrierKey]*carrier
	limiters map[*routes.Limit]*limiter
	budgets  map[string]*retryBudget // of rules that retry, by file:line: one that fails must not use up another's

	verifiers map[*auth.JWT]*auth.Verifier
	gates     map[string]*concurrency.Limiter // by backend
	logs      *sampling.Sampler               // nil: no access log
	rollouts  map[*release.Spec]*release.Rollout
}

// limiter is what a RateLimit has counted so far; it outlives a change of the table unless its own rates change.
type limiter struct {
	*limit.Limiter
	of *routes.Limit
}

// carrierKey is what makes backends of two coalesced routes one: such outlive a change of the table. Requests of one backend
// never share a call with those of another, such as the other variant of a Rollout.
type carrierKey struct {
	backend string // its Key
	spec    routes.CoalesceSpec
	gate    *concurrency.Limiter
}

// New builds the handler and registers its metrics. It answers 404 until Use gives it a table.
func New(s *settings.Settings, counter *traffic.Counter, tracing *telemetry.Tracing, metrics prometheus.Registerer) *Front {
	f := &Front{
		idle:     power.Idle{Cores: runtime.GOMAXPROCS(0)},
		settings: s, traffic: counter, tracing: tracing,
		sidecar: newTransport(s.ConnectionsToDapr),
		plain:   newPlainTransport(false), h2c: newPlainTransport(true),
		slots:   make(chan struct{}, s.MaxInFlight),
		mirrors: make(chan struct{}, maxMirrors),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_requests_total", Help: "Requests by route and status."}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gateway_request_seconds", Help: "Time from a request's header to the end of its answer, by route.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}, []string{"route"}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gateway_mirrors_dropped_total", Help: "Copies of requests that were not sent, as too many were in flight."}),
		identified: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_auth_total", Help: "Requests by the JWT or APIKey that they had to pass, and the result."}, []string{"name", "result"}),
		keyLooks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_key_looks_total", Help: "Looks at key sets of JWTs by result: loaded or failed."}, []string{"name", "result"}),
	}
	f.rollouts.State = s.State
	f.proxy = f.newProxy()
	f.serving.Store(&serving{table: &routes.Table{}})
	metrics.MustRegister(f.requests, f.seconds, f.dropped, f.identified, f.keyLooks, &f.outliers, gates{f}, &f.rollouts,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gateway_in_flight", Help: "Requests in flight."}, func() float64 { return float64(len(f.slots)) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gateway_queued", Help: "Requests that wait for a coalesced call."}, func() float64 { return float64(f.Queued()) }))
	return f
}

// Use serves another table from the next request on. Those in flight end by the one that they began with.
func (f *Front) Use(table *routes.Table) {
	before := f.serving.Load()
	next := &serving{table: table, carriers: map[*routes.Action][]*carrier{}, byKey: map[carrierKey]*carrier{}, limiters: map[*routes.Limit]*limiter{},
		verifiers: map[*auth.JWT]*auth.Verifier{}, gates: map[string]*concurrency.Limiter{}, budgets: map[string]*retryBudget{}}
	type place struct {
		rules   outlier.Rules
		address string
	}
	known := map[place]bool{}
	var rollouts []*release.Spec
	table.Each(func(rule *routes.Rule) {
		for i := range rule.Action.Backends {
			for _, address := range rule.Action.Backends[i].Addresses {
				known[place{rules(&rule.Action.Backends[i]), address}] = true
			}
			next.gate(&rule.Action.Backends[i], before)
		}
		if rule.Action.Retry != nil {
			next.budget(rule.At, before, f.settings.RetryBudgetShare)
		}
		if rule.Action.Rollout != nil {
			rollouts = append(rollouts, rule.Action.Rollout)
		}
		if l := rule.Action.Limit; l != nil && next.limiters[l] == nil {
			next.limiters[l] = before.limiter(l)
		}
		if j := rule.Action.JWT; j != nil && next.verifiers[j] == nil {
			next.verifiers[j] = before.verifier(j, f)
		}
		if rule.Action.Coalesce != nil && next.carriers[rule.Action] == nil {
			for i := range rule.Action.Backends {
				next.carriers[rule.Action] = append(next.carriers[rule.Action], next.carrier(f, &rule.Action.Backends[i], rule.Action.Coalesce, before))
			}
		}
	})
	next.rollouts = f.rollouts.Use(rollouts)
	next.log(before)
	f.tracing.Use(table.Traces)
	f.serving.Store(next)
	f.outliers.Keep(func(rules outlier.Rules, address string) bool { return known[place{rules, address}] })
}

// Table is what is served.
func (f *Front) Table() *routes.Table { return f.serving.Load().table }

// Rollouts are those of what is served.
func (f *Front) Rollouts() *release.Set { return &f.rollouts }

// carrier is the one that a coalesced backend has already, else a new one.
func (s *serving) carrier(f *Front, to *routes.Backend, spec *routes.CoalesceSpec, before *serving) *carrier {
	key := carrierKey{to.Key, *spec, s.gates[to.Key]}
	if s.byKey[key] == nil {
		s.byKey[key] = before.byKey[key]
	}
	if s.byKey[key] == nil {
		s.byKey[key] = newCarrier(f, f.app(to.App), spec, key.gate)
	}
	return s.byKey[key]
}

// budget is the one that a rule has already, else a new one.
func (s *serving) budget(rule string, before *serving, share float64) {
	s.budgets[rule] = before.budgets[rule]
	if s.budgets[rule] == nil {
		s.budgets[rule] = newRetryBudget(share)
	}
}

// limiter is the one that counts for a limit already, else a new one.
func (s *serving) limiter(of *routes.Limit) *limiter {
	for _, one := range s.limiters {
		if one.of.Name == of.Name && one.of.ByIdentity == of.ByIdentity && reflect.DeepEqual(one.of.Rates, of.Rates) {
			return &limiter{one.Limiter, of}
		}
	}
	return &limiter{limit.New(of.Rates), of}
}

// app is how an app is reached: through the own sidecar, or directly where a benchmark asks for it.
func (f *Front) app(name string) *app {
	if direct, ok := f.settings.Direct[name]; ok {
		root, _ := url.Parse(strings.TrimSuffix(direct, "/")) // checked by settings
		return &app{name, root, f.settings.AppToken}
	}
	return &app{name, &url.URL{
		Scheme: "http", Host: "127.0.0.1:" + strconv.Itoa(f.settings.DaprPort), Path: "/v1.0/invoke/" + name + "/method"}, f.settings.DaprToken}
}

// app is an app as it is reached from here.
type app struct {
	name  string
	root  *url.URL // stands for the app's root
	token string   // opens it
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

// newPlainTransport reaches services. It sets no limit to connections: those in flight are limited before it.
func newPlainTransport(h2c bool) http.RoundTripper {
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConns:        256,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     60 * time.Second,
		DisableCompression:  true,
	}
	if h2c {
		t.Protocols = new(http.Protocols)
		t.Protocols.SetUnencryptedHTTP2(true)
	}
	return t
}

// Queued returns how many requests wait for a coalesced call.
func (f *Front) Queued() int {
	queued := 0
	for _, carrier := range f.serving.Load().byKey {
		queued += carrier.coalescer.Queued()
	}
	return queued
}

// On is the handler of the socket of an address.
func (f *Front) On(address string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.handle(address, w, r) })
}

// Certificate finds the certificate for a connection to an address, by the name that the caller asks for.
func (f *Front) Certificate(address string) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if socket := f.serving.Load().table.Sockets[address]; socket != nil {
			if listener := socket.Listener(routes.HostOf(hello.ServerName)); listener != nil {
				return listener.Certificate, nil
			}
		}
		return nil, errNoName
	}
}

var errNoName = errors.New("no listener has this name")

// Quiet tells whether no request came since it was called last. One caller at a time.
func (f *Front) Quiet() bool { return f.idle.Quiet() }

func (f *Front) handle(address string, w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	f.idle.Asked()
	if p := Refusal(r); p != nil {
		// What is left of such a request must not be read as the next one.
		w.Header().Set("Connection", "close")
		f.done(w, r, &exchange{now: f.serving.Load(), route: "refused"}, write(w, p), began)
		return
	}
	if !r.ProtoAtLeast(1, 1) || len(r.TransferEncoding) > 0 {
		// net/http ignores Transfer-Encoding in HTTP/1.0, and hides that a chunked request had a length too: what
		// follows could be a body to one that stands before this gateway, so it must not be read as the next request.
		w.Header().Set("Connection", "close")
	}
	now := f.serving.Load()
	socket := now.table.Sockets[address]
	rule, listener := (*routes.Rule)(nil), (*routes.Listener)(nil)
	if socket != nil {
		host := routes.HostOf(r.Host)
		listener = socket.Listener(host)
		if r.TLS != nil && socket.Listener(routes.HostOf(r.TLS.ServerName)) != listener {
			f.done(w, r, &exchange{now: now, route: "refused"}, write(w, problem.Misdirected()), began)
			return
		}
		if listener != nil {
			rule = listener.Match(host, r)
		}
	}
	if rule == nil {
		f.done(w, r, &exchange{now: now, route: "unmatched"}, write(w, problem.NotFound()), began)
		return
	}
	counted := rule.Action.Coalesce != nil
	if counted {
		f.traffic.Arrived()
	}
	// An answer that breaks off half way leaves by a panic, net/http's way to close the connection.
	status := http.StatusBadGateway
	x := &exchange{front: f, now: now, route: rule.Route, rule: rule, listener: listener, limiter: now.limiters[rule.Action.Limit],
		verifier: now.verifiers[rule.Action.JWT], rollout: now.rollouts[rule.Action.Rollout]}
	defer func() {
		if counted {
			f.traffic.Finished(traffic.OutcomeOf(status), time.Since(began))
		}
		f.done(w, r, x, status, began)
	}()
	status = f.serve(w, r, x)
}

func (f *Front) serve(w http.ResponseWriter, r *http.Request, x *exchange) int {
	if x.limiter != nil && !x.rule.Action.Limit.ByIdentity {
		// Whoever the connection is with: what a header says of it anyone can write.
		if wait, allowed := x.limiter.Allow(limit.Peer(r.RemoteAddr), time.Now()); !allowed {
			return write(w, problem.RateLimited(wait))
		}
	}
	select {
	case f.slots <- struct{}{}:
		defer x.leave()
	default:
		return write(w, problem.Overloaded("as many requests as the gateway takes at once are in flight"))
	}
	path := x.rule.Match.Path
	ctx, span := f.tracing.Begin(r, x.route, path)
	defer span.End()
	if ctx != r.Context() {
		r = r.WithContext(ctx)
	}
	sampled := span.SpanContext().IsSampled()
	if sampled {
		x.span = span
		span.SetAttributes(attribute.String("http.request.method", r.Method), attribute.String("url.path", r.URL.Path),
			attribute.String("http.route", path))
		w.Header().Set("X-Trace-Id", span.SpanContext().TraceID().String())
	}
	status := x.answer(w, r)
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

// done counts a request that has ended, and keeps of it what the policies ask for.
func (f *Front) done(w http.ResponseWriter, r *http.Request, x *exchange, status int, began time.Time) {
	ended := time.Now()
	f.requests.WithLabelValues(x.route, strconv.Itoa(status)).Inc()
	f.seconds.WithLabelValues(x.route).Observe(ended.Sub(began).Seconds())
	if x.span == nil && x.rule != nil {
		if kept := f.tracing.Keep(r.Context(), r, x.route, x.rule.Match.Path, status, began, ended); kept != nil {
			x.span = kept
			kept.SetAttributes(attribute.String("http.request.method", r.Method), attribute.String("url.path", r.URL.Path),
				attribute.String("http.route", x.rule.Match.Path), attribute.Int("http.response.status_code", status))
			if status >= 500 {
				kept.SetStatus(codes.Error, http.StatusText(status))
			}
			kept.End(trace.WithTimestamp(ended))
		}
	}
	if x.now.logs != nil && f.AccessLog != nil {
		f.log(w, r, x, status, began, ended)
	}
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
