package front_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/foremesh/foremesh/edge/gateway/internal/accesslog"
	"github.com/foremesh/foremesh/edge/gateway/internal/config"
)

// logged is what a gateway with this access log writes of what `ask` sends.
func logged(t *testing.T, s *service, accessLog string, ask func(g *gateway)) (lines []accesslog.Entry, text string) {
	t.Helper()
	var out bytes.Buffer
	log := accesslog.New(&out, prometheus.NewRegistry())
	g := with(t, map[string]*service{"a": s}, "    - matches: [ { path: { value: /a } } ]\n"+toA+"    - matches: [ { path: { value: /gone } } ]\n      backendRefs: [ { name: nowhere, port: 80 } ]\n"+
		"---\napiVersion: foremesh.dev/v1alpha1\nkind: Sampling\nmetadata: { name: site }\nspec:\n"+accessLog, nil)
	g.front.AccessLog = log
	ask(g)
	// A caller has its answer a moment before it is counted, and it is written then.
	until(t, func() bool {
		all := 0.0
		for _, n := range g.counts(t) {
			all += n
		}
		return int(all) >= 1
	})
	g.Close()
	log.Close(10 * time.Second)
	text = out.String()
	for line := range strings.Lines(text) {
		var e accesslog.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Errorf("%v: %s", err, line)
		}
		lines = append(lines, e)
	}
	return lines, text
}

func TestALineSaysWhatBecameOfARequestAndNoSecret(t *testing.T) {
	a := serve(t, "a", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 5000)) })
	lines, text := logged(t, a, "  accessLog: { ratio: 1 }\n", func(g *gateway) {
		g.ask(t, "POST", "api.example", "/a/b?token=secret", "hello", "Authorization", "Bearer secret", "Cookie", "secret", "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		g.ask(t, "GET", "api.example", "/gone", "")
		g.ask(t, "GET", "api.example", "/else", "")
		g.ask(t, "GET", "api.example", "/a/%2e%2e", "")
	})
	if len(lines) != 4 || strings.Contains(text, "secret") {
		t.Fatalf("%d lines: %s", len(lines), text)
	}
	e := lines[0]
	if e.Method != "POST" || e.Host != "api.example" || e.Path != "/a/b" || e.Query != "" || e.Protocol != "HTTP/1.1" || e.Route != "r" || !strings.Contains(e.Rule, "routes.yaml:") || e.Backend != "a:80" ||
		e.Address != a.Listener.Addr().String() || e.Status != 200 || e.RequestBytes != 5 || e.ResponseBytes != 5000 || e.DurationMS <= 0 || e.BackendMS <= 0 || e.BackendMS > e.DurationMS ||
		e.Why != "sampled" || !strings.HasPrefix(e.Client, "127.0.0.1:") || time.Since(e.Time) > time.Minute || e.TraceID != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("got %+v", e)
	}
	if e := lines[1]; e.Status != 503 || e.Why != "error" || e.Backend != "nowhere:80" || e.ResponseBytes < 50 {
		t.Errorf("got %+v", e)
	}
	if e := lines[2]; e.Status != 404 || e.Route != "unmatched" || e.Rule != "" || e.Backend != "" || e.ResponseBytes < 50 {
		t.Errorf("got %+v", e)
	}
	if e := lines[3]; e.Status != 400 || e.Route != "refused" {
		t.Errorf("got %+v", e)
	}
	if _, text := logged(t, a, "  accessLog: { ratio: 1, query: true }\n", func(g *gateway) { g.ask(t, "GET", "a", "/a?q=1", "") }); !strings.Contains(text, `"query":"q=1"`) {
		t.Errorf("a query that is asked for is missing: %s", text)
	}
}

func TestALogHoldsWhatItsPolicySays(t *testing.T) {
	slow := serve(t, "a", func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/a/slow" {
			<-time.After(60 * time.Millisecond)
		}
	})
	for policy, want := range map[string]string{
		"  traces: {}\n":                                                                "map[]",
		"  accessLog: { ratio: 0 }\n":                                                   "map[error:3]",
		"  accessLog: { ratio: 0, errors: false }\n":                                    "map[]",
		"  accessLog: { ratio: 0, slowerThan: 50ms }\n":                                 "map[error:3 slow:1]",
		"  accessLog: { ratio: 0, routes: [ { name: r, slowerThan: 50ms } ] }\n":        "map[error:3 slow:1]",
		"  accessLog: { ratio: 1, perSecond: 2 }\n":                                     "map[error:3 sampled:2]",
		"  accessLog: { ratio: 0, keptPerSecond: 1 }\n":                                 "map[error:1]",
		"  accessLog: { ratio: 1, routes: [ { name: r, ratio: 0 } ], perSecond: 99 }\n": "map[error:3]",
	} {
		lines, _ := logged(t, slow, policy, func(g *gateway) {
			for range 3 {
				g.ask(t, "GET", "a", "/gone", "")
			}
			for range 4 {
				g.ask(t, "GET", "a", "/a", "")
			}
			g.ask(t, "GET", "a", "/a/slow", "")
		})
		why := map[string]int{}
		for _, e := range lines {
			why[e.Why]++
		}
		if got := fmt.Sprint(why); got != want {
			t.Errorf("%s: %s, want %s", policy, got, want)
		}
	}
}

func TestAPolicyIsAnotherAfterAReloadAndWhatWasTakenStaysTaken(t *testing.T) {
	var out bytes.Buffer
	log := accesslog.New(&out, prometheus.NewRegistry())
	a := serve(t, "a", nil)
	g := with(t, map[string]*service{"a": a}, "    -"+toA[5:], nil)
	g.front.AccessLog = log
	use := func(policy string) {
		t.Helper()
		text := "apiVersion: foremesh.dev/v1alpha1\nkind: AddressBook\nmetadata: { name: b }\nspec: { services: [ { name: a, port: 80, addresses: [ '" + a.Listener.Addr().String() + "' ] } ] }\n" +
			"---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: r }\nspec: { rules: [ { backendRefs: [ { name: a, port: 80 } ] } ] }\n" + policy
		loaded, err := config.Parse("", []config.File{{Name: "a.yaml", Text: []byte(text)}}, config.Options{})
		if err != nil {
			t.Fatal(err)
		}
		g.front.Use(loaded.Table)
	}
	const policy = "---\napiVersion: foremesh.dev/v1alpha1\nkind: Sampling\nmetadata: { name: site }\nspec: { accessLog: { ratio: 1, perSecond: 0.001 } }\n"
	n := 0.0
	ask := func() {
		t.Helper()
		g.ask(t, "GET", "a", "/", "")
		n++
		until(t, func() bool { return g.counts(t)["r 200"] == n })
	}
	ask() // nothing is logged
	for _, p := range []string{policy, policy, strings.Replace(policy, "0.001", "0.002", 1), ""} {
		use(p)
		ask()
		ask()
	}
	g.Close()
	log.Close(10 * time.Second)
	if got := strings.Count(out.String(), "\n"); got != 2 { // one by each rate
		t.Errorf("%d lines: %s", got, out.String())
	}
}

// TestErrorsAreTracedWhateverTheRatio sends them to a collector that counts.
func TestErrorsAreTracedWhateverTheRatio(t *testing.T) {
	bodies := make(chan string, 100)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- string(body)
	}))
	defer collector.Close()
	g, tracing := traced(t, collector.URL, "    - backendRefs: [ { name: nowhere, port: 80 } ]\n---\napiVersion: foremesh.dev/v1alpha1\nkind: Sampling\nmetadata: { name: site }\nspec: { traces: { ratio: 0 }, accessLog: { ratio: 0 } }\n")
	var out bytes.Buffer
	g.front.AccessLog = accesslog.New(&out, prometheus.NewRegistry())
	if got := g.ask(t, "GET", "a", "/x", ""); got.status != 503 {
		t.Fatalf("got %d", got.status)
	}
	until(t, func() bool { return g.counts(t)["r 503"] == 1 })
	g.Close()
	tracing.Close(t.Context())
	g.front.AccessLog.Close(10 * time.Second)
	select {
	case body := <-bodies:
		if !strings.Contains(body, "sampling.kept") || !strings.Contains(body, "/x") {
			t.Errorf("got %q", body)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no span came within 10 s")
	}
	var e accesslog.Entry
	if err := json.Unmarshal(out.Bytes(), &e); err != nil || len(e.TraceID) != 32 || e.Why != "error" {
		t.Errorf("%v: %s", err, out.String())
	}
}
