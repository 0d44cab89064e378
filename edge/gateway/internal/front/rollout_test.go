package front_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const watched = rolled + "  guard: { stable: v1, canary: v2, sample: 50, window: 1m, coolDown: 1h }\n"

func (g *gateway) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	families, err := g.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
	next:
		for _, metric := range family.GetMetric() {
			for i := 0; i < len(labels); i += 2 {
				found := false
				for _, label := range metric.GetLabel() {
					found = found || label.GetName() == labels[i] && label.GetValue() == labels[i+1]
				}
				if !found {
					continue next
				}
			}
			return metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
		}
	}
	return -1
}

func TestACanaryThatFailsIsRolledBack(t *testing.T) {
	for name, canary := range map[string]http.HandlerFunc{
		"errors": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"breaks off": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"is slow":  func(w http.ResponseWriter, _ *http.Request) { time.Sleep(200 * time.Millisecond) }, // more than a busy machine adds
	} {
		services := map[string]*service{"v1": serve(t, "v1", nil), "v2": serve(t, "v2", canary)}
		g := with(t, services, "    -\n"+watched, nil)
		sent := 0
		until(t, func() bool {
			var all sync.WaitGroup
			for range 8 {
				sent++
				all.Go(func() { g.quietly(t.Context()) })
			}
			all.Wait()
			return g.front.Rollouts().States()[0].Guard.RolledBack
		})
		state := g.front.Rollouts().States()[0]
		t.Logf("%s: after %d requests: %s", name, sent, state.Guard.Why)
		if state.Weights["v2"] != 0 || g.metric(t, "gateway_rollout_rolled_back", "canary", "v2") != 1 || g.metric(t, "gateway_rollout_rollbacks_total") != 1 || g.metric(t, "gateway_rollout_weight", "variant", "v2") != 0 {
			t.Errorf("%s: got %+v", name, state)
		}
		before := services["v2"].count()
		for range 50 {
			if got := g.ask(t, "GET", "a", "/", ""); got.body != "v1" {
				t.Fatalf("%s: got %+v", name, got)
			}
		}
		if services["v2"].count() != before {
			t.Errorf("%s: a canary that is rolled back gets requests", name)
		}
	}
}

// quietly sends a request whatever comes of it.
func (g *gateway) quietly(ctx context.Context) {
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, g.URL, nil)
	if answer, err := g.direct().Do(r); err == nil {
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
	}
}

func TestWhatIsNotTheCanarysFaultRollsNothingBack(t *testing.T) {
	var waiting atomic.Int64
	for name, c := range map[string]struct {
		stable, canary http.HandlerFunc
		ask            func(t *testing.T, g *gateway)
	}{
		"callers' mistakes": {nil, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, func(t *testing.T, g *gateway) { g.quietly(t.Context()) }},
		"callers that leave": {nil, func(_ http.ResponseWriter, r *http.Request) { waiting.Add(1); <-r.Context().Done() }, func(t *testing.T, g *gateway) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
			defer cancel()
			g.quietly(ctx)
		}},
		"bodies that are too large": {nil, nil, func(t *testing.T, g *gateway) {
			if got := g.ask(t, "POST", "a", "/", strings.Repeat("a", 65<<10)); got.status != http.StatusRequestEntityTooLarge {
				t.Errorf("got %d", got.status)
			}
		}},
		"both are as bad": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, func(t *testing.T, g *gateway) { g.quietly(t.Context()) }},
	} {
		g := with(t, map[string]*service{"v1": serve(t, "v1", c.stable), "v2": serve(t, "v2", c.canary)}, "    -\n"+watched, nil)
		for range 300 {
			c.ask(t, g)
		}
		if state := g.front.Rollouts().States()[0]; state.Guard.RolledBack {
			t.Errorf("%s: %s", name, state.Guard.Why)
		}
		if failed := g.metric(t, "gateway_rollout_requests_total", "variant", "v2", "result", "failed"); failed != 0 && name != "both are as bad" {
			t.Errorf("%s: %v failed", name, failed)
		}
	}
	if waiting.Load() == 0 {
		t.Error("nobody reached the canary that waits")
	}
}

func TestWeightsThatChangeDropNothing(t *testing.T) {
	g := with(t, variants(t), "    -\n"+rolled, nil)
	stop, failed := make(chan struct{}), make(chan string, 4)
	for range 4 {
		go func() {
			var first string
			for n := 0; ; n++ {
				select {
				case <-stop:
					failed <- first
					return
				default:
				}
				answer, err := g.Client().Get(g.URL)
				if err == nil {
					_, err = io.Copy(io.Discard, answer.Body)
					_ = answer.Body.Close()
					if err == nil && answer.StatusCode != http.StatusOK {
						err = fmt.Errorf("status %d", answer.StatusCode)
					}
				}
				if err != nil && first == "" {
					first = err.Error()
				}
			}
		}()
	}
	for i := range 500 {
		g.weights(t, i%100, 100-i%100)
	}
	close(stop)
	for range 4 {
		if first := <-failed; first != "" {
			t.Error(first)
		}
	}
}
