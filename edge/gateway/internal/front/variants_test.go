package front_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/foremesh/foremesh/edge/gateway/internal/settings"
)

const variantsYAML = `apiVersion: foremesh.dev/v1alpha1
kind: Coalesce
metadata: { name: intents }
spec: { path: /internal/intents, maxBatch: 64, maxInFlight: 2, maxQueue: 256, timeout: 2s }
---
apiVersion: foremesh.dev/v1alpha1
kind: Rollout
metadata: { name: answers }
spec:
  variants: [ { name: v2, weight: 1 }, { name: v1, weight: 3 } ]
  configuration: { store: releases, key: answers }
  guard: { stable: v1, canary: v2, sample: 20 }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: intents }
spec:
  rules:
    - filters:
        - { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: Coalesce, name: intents } }
        - { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: Rollout, name: answers } }
      backendRefs: [ { group: foremesh.dev, kind: DaprApp, name: v1 }, { group: foremesh.dev, kind: DaprApp, name: v2 } ]
`

// apps stands for a sidecar and apps behind it that answer coalesced calls by their names.
type apps struct {
	*httptest.Server
	answer map[string]func(w http.ResponseWriter, items int) // by app; none: with its name
	hold   chan struct{}                                     // closed: calls are answered

	mu    sync.Mutex
	calls map[string][]int // the items of each call, by app
	out   atomic.Int64
	most  atomic.Int64 // calls at once
}

func (a *apps) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out := a.out.Add(1)
	defer a.out.Add(-1)
	for most := a.most.Load(); out > most && !a.most.CompareAndSwap(most, out); most = a.most.Load() {
	}
	app, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1.0/invoke/"), "/")
	var message struct{ Items []sentItem }
	_ = json.NewDecoder(r.Body).Decode(&message)
	a.mu.Lock()
	a.calls[app] = append(a.calls[app], len(message.Items))
	a.mu.Unlock()
	select {
	case <-a.hold:
	case <-r.Context().Done():
	}
	if answer := a.answer[app]; answer != nil {
		answer(w, len(message.Items))
		return
	}
	items(200, app)(w, len(message.Items))
}

// items answers a call's items with a status and a body.
func items(status int, body string) func(w http.ResponseWriter, n int) {
	return func(w http.ResponseWriter, n int) {
		one := fmt.Sprintf(`{"status": %d, "body": %q}`, status, body)
		_, _ = io.WriteString(w, `{"items": [`+strings.TrimSuffix(strings.Repeat(one+",", n), ",")+`]}`)
	}
}

func behind(t *testing.T, yaml string, answer map[string]func(w http.ResponseWriter, items int)) (*apps, *gateway) {
	t.Helper()
	a := &apps{answer: answer, hold: make(chan struct{}), calls: map[string][]int{}}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a, startWith(t, a.Listener.Addr().(*net.TCPAddr).Port, yaml, func(s *settings.Settings) { s.MaxInFlight = 1000 })
}

// carried is how many items an app got, and in how many calls.
func (a *apps) carried(app string) (items, calls int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range a.calls[app] {
		items += n
	}
	return items, len(a.calls[app])
}

func TestVariantsNeverShareACall(t *testing.T) {
	const callers = 200
	a, g := behind(t, variantsYAML, nil)
	var all sync.WaitGroup
	var byVariant sync.Map
	for range callers {
		all.Go(func() {
			got := g.send(t, "POST", "/", "{}")
			n, _ := byVariant.LoadOrStore(got.body, new(atomic.Int64))
			n.(*atomic.Int64).Add(1)
		})
	}
	// All are here: of each variant two calls are out, and the others wait.
	until(t, func() bool {
		one, _ := a.carried("v1")
		two, _ := a.carried("v2")
		return g.front.Queued()+one+two == callers
	})
	close(a.hold)
	all.Wait()
	for app, want := range map[string]int{"v1": 150, "v2": 50} {
		items, calls := a.carried(app)
		told, _ := byVariant.Load(`"` + app + `"`)
		if items < want-3 || items > want+3 || calls > items/4 {
			t.Errorf("%s got %d requests in %d calls, want %d in few", app, items, calls, want)
		}
		if told == nil || told.(*atomic.Int64).Load() != int64(items) {
			t.Errorf("%s got %d requests, and %v were answered by it", app, items, told)
		}
	}
	g.weights(t, 1, 0)
	before, _ := a.carried("v2")
	for range 20 {
		if got := g.send(t, "POST", "/", "{}"); got.body != `"v1"` {
			t.Fatalf("got %+v", got)
		}
	}
	if after, _ := a.carried("v2"); after != before {
		t.Error("a variant without weight gets requests")
	}
}

func TestACanaryOfACoalescedRouteIsRolledBack(t *testing.T) {
	for name, c := range map[string]struct {
		canary func(w http.ResponseWriter, items int)
		back   bool
	}{
		"its answers fail":   {items(500, "broken"), true},
		"it has no room":     {items(503, "full"), true},
		"its calls fail":     {func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusInternalServerError) }, true},
		"it answers too few": {func(w http.ResponseWriter, n int) { items(200, "x")(w, n-1) }, true},
		"callers' mistakes":  {items(422, "no text"), false},
		"it is well":         {nil, false},
	} {
		a, g := behind(t, variantsYAML, map[string]func(w http.ResponseWriter, items int){"v2": c.canary})
		close(a.hold)
		for range 30 {
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() { g.send(t, "POST", "/", "{}") })
			}
			all.Wait()
		}
		if state := g.front.Rollouts().States()[0]; state.Guard.RolledBack != c.back {
			t.Errorf("%s: got %+v", name, state.Guard)
		}
	}
}

// limited is the routes of the other tests with a policy of at most so many requests at once for app `routing`.
func limited(bounds string) string {
	return "apiVersion: foremesh.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: { name: p }\nspec:\n  targetRefs: [ { group: foremesh.dev, kind: DaprApp, name: routing } ]\n" +
		"  adaptiveConcurrency: " + bounds + "\n---\n" + routesYAML
}

func TestCoalescedCallsKeepToAnAdaptiveLimit(t *testing.T) {
	for yaml, want := range map[string]int64{limited("{ initial: 1, min: 1, max: 1 }"): 1, routesYAML: 2} {
		a, g := behind(t, yaml, nil)
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if got := g.send(t, "POST", "/v1/intents", "{}"); got.status != 200 { // what waits is not refused
					t.Errorf("got %+v", got)
				}
			})
		}
		until(t, func() bool {
			items, calls := a.carried("routing")
			return int64(calls) == want && g.front.Queued()+items == 100
		})
		close(a.hold)
		all.Wait()
		if most := a.most.Load(); most != want {
			t.Errorf("%d calls at once, want %d", most, want)
		}
		if shed := g.metric(t, "gateway_concurrency_shed_total"); shed > 0 {
			t.Errorf("%v were refused", shed)
		}
		if inFlight := g.metric(t, "gateway_concurrency_in_flight"); inFlight > 0 {
			t.Errorf("%v are in flight when all are answered", inFlight)
		}
	}
}

func TestACoalescedCallIsRefusedWhereOthersHaveAllTheRoom(t *testing.T) {
	a, g := behind(t, limited("{ initial: 1, min: 1, max: 1 }"), map[string]func(w http.ResponseWriter, items int){"routing": items(200, "x")})
	var plain sync.WaitGroup
	plain.Go(func() { g.send(t, "GET", "/v1/other", "") }) // a plain route to the same app
	until(t, func() bool { return a.out.Load() == 1 })
	got := g.send(t, "POST", "/v1/intents", "{}")
	wantProblem(t, got, http.StatusServiceUnavailable, "overloaded")
	if got.header.Get("Retry-After") == "" || g.metric(t, "gateway_concurrency_shed_total") != 1 {
		t.Errorf("got %v, %v shed", got.header, g.metric(t, "gateway_concurrency_shed_total"))
	}
	close(a.hold)
	plain.Wait()
	if got := g.send(t, "POST", "/v1/intents", "{}"); got.status != 200 {
		t.Errorf("with room again: got %+v", got)
	}
}

func TestAnAppThatShedsItemsHasItsLimitLowered(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, items int)
		falls  bool
	}{
		"items":   {items(503, "full"), true},
		"calls":   {func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusTooManyRequests) }, true},
		"answers": {items(200, "fine"), false},
		"errors":  {items(500, "broken"), false},
	} {
		a, g := behind(t, limited("{ initial: 20, min: 1 }"), map[string]func(w http.ResponseWriter, items int){"routing": c.answer})
		close(a.hold)
		lowered := func() bool {
			g.send(t, "POST", "/v1/intents", "{}")
			return g.metric(t, "gateway_concurrency_limit") < 10
		}
		if c.falls {
			until(t, lowered)
			continue
		}
		for range 200 {
			if lowered() {
				t.Errorf("%s: the limit fell", name)
				break
			}
		}
	}
}
