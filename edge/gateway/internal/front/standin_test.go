package front_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/foremesh/foremesh/edge/gateway/internal/config"
	"github.com/foremesh/foremesh/edge/gateway/internal/front"
	"github.com/foremesh/foremesh/edge/gateway/internal/settings"
	"github.com/foremesh/foremesh/edge/gateway/internal/telemetry"
	"github.com/foremesh/foremesh/edge/gateway/internal/traffic"
)

const routesYAML = `apiVersion: foremesh.dev/v1alpha1
kind: Coalesce
metadata: { name: intents }
spec: { path: /internal/intents, maxBatch: 64, maxInFlight: 2, maxQueue: 256, timeout: 2s }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: intents }
spec:
  rules:
    - matches: [ { path: { type: Exact, value: /v1/intents }, method: POST } ]
      filters: [ { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: Coalesce, name: intents } } ]
      backendRefs: [ { group: foremesh.dev, kind: DaprApp, name: routing } ]
    - matches: [ { path: { type: Exact, value: /v1/orders }, method: POST } ]
      filters: [ { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: Coalesce, name: intents } } ]
      backendRefs: [ { group: foremesh.dev, kind: DaprApp, name: orders } ]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: plain }
spec:
  rules:
    - matches: [ { path: { value: /v1 } } ]
      backendRefs: [ { group: foremesh.dev, kind: DaprApp, name: routing } ]
`

const method = "/v1.0/invoke/routing/method"

type sentItem struct {
	Body        string  `json:"body"`
	Traceparent *string `json:"traceparent"`
	DeadlineMS  float64 `json:"deadline_ms"`
}

// sidecar stands for a sidecar's HTTP API and what is behind it.
type sidecar struct {
	*httptest.Server
	coalesced http.HandlerFunc // nil: echoes each item
	plain     http.HandlerFunc // nil: 200 {}

	mu       sync.Mutex
	requests []*http.Request // as they came, bodies read
	batches  [][]sentItem
}

func (s *sidecar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.mu.Lock()
	s.requests = append(s.requests, r)
	s.mu.Unlock()
	if r.Header.Get("dapr-api-token") != "to-sidecar" || len(r.Header.Values("dapr-api-token")) != 1 {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if !strings.HasSuffix(r.URL.Path, "/method/internal/intents") {
		if s.plain == nil {
			_, _ = io.WriteString(w, "{}")
			return
		}
		s.plain(w, r)
		return
	}
	var message struct {
		Items []sentItem `json:"items"`
	}
	if err := json.Unmarshal(body, &message); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.batches = append(s.batches, message.Items)
	s.mu.Unlock()
	if s.coalesced != nil {
		s.coalesced(w, r)
		return
	}
	s.echo(w, message.Items)
}

// echo answers each item with its own body.
func (s *sidecar) echo(w io.Writer, items []sentItem) {
	type answer struct {
		Status int               `json:"status"`
		Body   map[string]string `json:"body"`
	}
	answers := make([]answer, len(items))
	for i, one := range items {
		answers[i] = answer{200, map[string]string{"echo": one.Body}}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"items": answers})
}

func (s *sidecar) last() *http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.requests) == 0 {
		return nil
	}
	return s.requests[len(s.requests)-1]
}

func (s *sidecar) calls() (requests, items int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, batch := range s.batches {
		items += len(batch)
	}
	return len(s.requests), items
}

// gateway is the handler under test behind a real listener.
type gateway struct {
	*httptest.Server
	front    *front.Front
	counter  *traffic.Counter
	registry *prometheus.Registry
}

// start runs a gateway in front of a stand-in sidecar.
func start(t *testing.T, s *sidecar, change func(*settings.Settings)) *gateway {
	t.Helper()
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return startAt(t, s.Listener.Addr().(*net.TCPAddr).Port, change)
}

func startAt(t *testing.T, daprPort int, change func(*settings.Settings)) *gateway {
	t.Helper()
	return startWith(t, daprPort, routesYAML, change)
}

func startWith(t *testing.T, daprPort int, yaml string, change func(*settings.Settings)) *gateway {
	t.Helper()
	g, _ := startTraced(t, "", daprPort, yaml, change)
	return g
}

// traced starts a gateway that sends spans to a collector, and whose one route has this rule.
func traced(t *testing.T, collector, rule string) (*gateway, *telemetry.Tracing) {
	t.Helper()
	return startTraced(t, collector, 1, "apiVersion: foremesh.dev/v1alpha1\nkind: AddressBook\nmetadata: { name: b }\nspec: { services: [ { name: nowhere, port: 80, addresses: [ '127.0.0.1:1' ] } ] }\n"+
		"---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: r }\nspec:\n  rules:\n"+rule, nil)
}

func startTraced(t *testing.T, collector string, daprPort int, yaml string, change func(*settings.Settings)) (*gateway, *telemetry.Tracing) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "routes.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(dir, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	given := &settings.Settings{
		DaprPort: daprPort, DaprToken: "to-sidecar", AppToken: "from-sidecar", MaxBodyBytes: 64 << 10, MaxInFlight: 256,
		ConnectionsToDapr: 64, BackendTimeout: 5 * time.Second, RetryBudgetShare: 0.1,
	}
	if change != nil {
		change(given)
	}
	tracing, err := telemetry.New(t.Context(), collector, "test", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{counter: traffic.NewCounter("test"), registry: prometheus.NewRegistry()}
	g.front = front.New(given, g.counter, tracing, g.registry)
	g.front.Use(loaded.Table)
	g.Server = httptest.NewServer(g.front.On(":0"))
	t.Cleanup(g.Close)
	return g, tracing
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (g *gateway) send(t *testing.T, method, path, body string, headers ...string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, g.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return do(t, g, r)
}

func do(t *testing.T, g *gateway, r *http.Request) reply {
	t.Helper()
	answer, err := g.Client().Do(r)
	if err != nil {
		t.Error(err)
		return reply{}
	}
	defer func() { _ = answer.Body.Close() }()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Error(err)
	}
	return reply{answer.StatusCode, answer.Header, string(got)}
}

// raw sends bytes over a connection of its own, as no client would, and returns the answer.
func (g *gateway) raw(t *testing.T, request string) reply {
	t.Helper()
	connection, err := net.Dial("tcp", g.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	_ = connection.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(connection, request); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	got, _ := io.ReadAll(answer.Body)
	return reply{answer.StatusCode, answer.Header, string(got)}
}

// second waits until no counted request is in flight, as a caller has its answer a moment before it is counted, and
// returns what was counted.
func (g *gateway) second(t *testing.T) traffic.Second {
	t.Helper()
	until(t, func() bool { return g.counter.InFlight() == 0 })
	return g.counter.Cut(time.Now())
}

// counts are gateway_requests_total by "route code".
func (g *gateway) counts(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := g.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, family := range families {
		if family.GetName() == "gateway_requests_total" {
			for _, metric := range family.GetMetric() {
				labels := metric.GetLabel() // by name: code, route
				counts[labels[1].GetValue()+" "+labels[0].GetValue()] = metric.GetCounter().GetValue()
			}
		}
	}
	return counts
}

// wantProblem checks that an answer is a problem document of a type, and that it says nothing of the inside.
func wantProblem(t *testing.T, got reply, status int, slug string) {
	t.Helper()
	var document struct {
		Type   string
		Status int
	}
	if err := json.Unmarshal([]byte(got.body), &document); err != nil {
		t.Errorf("got %d %q, which is no document: %v", got.status, got.body, err)
		return
	}
	if got.status != status || document.Status != status || document.Type != "https://foremesh.dev/problems/"+slug ||
		got.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("got %d %s %s, want %d %s", got.status, got.header.Get("Content-Type"), got.body, status, slug)
	}
	for _, inside := range []string{"127.0.0.1", "routing", "dapr", "spiffe", "ERR_", "dial"} {
		if strings.Contains(got.body, inside) {
			t.Errorf("the answer speaks of %q: %s", inside, got.body)
		}
	}
}

func until(t *testing.T, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !true(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("did not happen within 20 s")
		}
	}
}
