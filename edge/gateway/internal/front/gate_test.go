package front_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/settings"
)

// policed starts a gateway to services of these addresses, whose one route goes to `s` by a policy.
func policed(t *testing.T, spec string, addresses ...string) *gateway {
	t.Helper()
	return startWith(t, 1, "apiVersion: foremesh.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: { name: p }\nspec:\n  targetRefs: [ { name: s } ]\n"+spec+
		"---\napiVersion: foremesh.dev/v1alpha1\nkind: AddressBook\nmetadata: { name: b }\nspec: { services: [ { name: s, port: 80, addresses: [ '"+strings.Join(addresses, "', '")+"' ] } ] }\n"+
		"---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: r }\nspec: { rules: [ { backendRefs: [ { name: s, port: 80 } ] } ] }\n",
		func(s *settings.Settings) { s.MaxInFlight = 10000 })
}

// workers is a service that answers so many requests at once, and lets the others queue.
type workers struct {
	*service
	takes atomic.Int64
	busy  atomic.Int64 // nanoseconds of all of them
}

func work(t *testing.T, n int, takes time.Duration) *workers {
	w, places := &workers{}, make(chan struct{}, n)
	w.takes.Store(int64(takes))
	w.service = serve(t, "s", func(out http.ResponseWriter, r *http.Request) {
		select {
		case places <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		began := time.Now()
		<-time.After(time.Duration(w.takes.Load()))
		w.busy.Add(int64(time.Since(began)))
		<-places
		_, _ = io.WriteString(out, "done")
	})
	return w
}

// load is what came of many requests.
type load struct {
	mu             sync.Mutex
	took           []time.Duration
	answered, shed int
	other          map[int]int
}

// overload sends requests at a rate, whatever becomes of those before.
func overload(t *testing.T, url string, rate int, d time.Duration) *load {
	t.Helper()
	l := &load{other: map[int]int{}}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 500}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	var all sync.WaitGroup
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); {
		<-ticker.C
		all.Go(func() {
			began := time.Now()
			answer, err := client.Get(url)
			if err != nil {
				t.Error(err)
				return
			}
			body, _ := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			l.mu.Lock()
			defer l.mu.Unlock()
			switch {
			case answer.StatusCode == 200:
				l.answered++
				l.took = append(l.took, time.Since(began))
			case answer.StatusCode == 503 && answer.Header.Get("Retry-After") != "" && strings.Contains(string(body), "problems/overloaded"):
				l.shed++
			default:
				l.other[answer.StatusCode]++
			}
		})
	}
	all.Wait()
	slices.Sort(l.took)
	return l
}

func (l *load) p99() time.Duration {
	if len(l.took) == 0 {
		return 0
	}
	return l.took[len(l.took)*99/100]
}

// best fails if none of four rounds is as it should be.
func best(t *testing.T, round func() bool) {
	t.Helper()
	for range 4 {
		if round() {
			return
		}
	}
	t.Error("no round was as it should be")
}

// TestAnAdaptiveLimitKeepsGoodputUnderOverloadAndFollowsItsBackend: a backend of four workers is offered three times what it can do.
func TestAnAdaptiveLimitKeepsGoodputUnderOverloadAndFollowsItsBackend(t *testing.T) {
	w := work(t, 4, 40*time.Millisecond)
	g := policed(t, "  adaptiveConcurrency: {}\n", w.Listener.Addr().String())
	overload(t, g.URL+"/", 300, time.Second) // it finds its limit
	const lasts = 4 * time.Second
	// What else runs on the machine makes workers and callers slower: what counts is how busy the workers are, and the best round.
	best(t, func() bool {
		before := w.busy.Load()
		l := overload(t, g.URL+"/", 300, lasts)
		busy := float64(w.busy.Load()-before) / float64(4*lasts)
		t.Logf("%d answered, %d shed, workers are busy %.2f of the time, p99 %s", l.answered, l.shed, busy, l.p99())
		return busy >= 0.9 && l.shed > 0 && len(l.other) == 0 && l.p99() < time.Second
	})
	w.takes.Store(int64(10 * time.Millisecond)) // now it can do all of it
	best(t, func() bool {
		l := overload(t, g.URL+"/", 300, 2*time.Second)
		t.Logf("after it got faster, %d are answered and %d shed", l.answered, l.shed)
		return float64(l.answered) >= 0.9*float64(l.answered+l.shed)
	})
	families, err := g.registry.Gather()
	if text := fmt.Sprint(families); err != nil || !strings.Contains(text, "gateway_concurrency_limit") || !strings.Contains(text, `value:"s:80"`) {
		t.Errorf("metrics lack the limit: %v", err)
	}
}

func TestWithoutALimitOverloadBecomesLatency(t *testing.T) {
	w := work(t, 4, 40*time.Millisecond)
	g := policed(t, "  outlierDetection: {}\n", w.Listener.Addr().String())
	if l := overload(t, g.URL+"/", 300, 2*time.Second); l.shed > 0 || l.p99() < time.Second {
		t.Errorf("%d were shed, p99 %s: the test of the limit proves nothing", l.shed, l.p99())
	}
}

func TestAnAddressHasSoManyConnectionsAndTheRestIsShed(t *testing.T) {
	release := make(chan struct{})
	s := serve(t, "s", func(http.ResponseWriter, *http.Request) { <-release })
	g := policed(t, "  connections: { max: 2, pending: 1 }\n", s.Listener.Addr().String())
	answers := make(chan reply, 3)
	for n := range 3 {
		go func() { answers <- g.ask(t, "GET", "a", "/", "") }()
		if n < 2 {
			until(t, func() bool { return s.count() == n+1 })
		}
	}
	until(t, func() bool {
		families, err := g.registry.Gather()
		return err == nil && strings.Contains(strings.ReplaceAll(fmt.Sprint(families), " ", ""), "gauge:{value:1}") && strings.Contains(fmt.Sprint(families), "gateway_address_pending")
	})
	got := g.ask(t, "GET", "a", "/", "")
	wantProblem(t, got, 503, "overloaded")
	if got.header.Get("Retry-After") == "" || s.count() != 2 {
		t.Errorf("Retry-After %q, %d calls", got.header.Get("Retry-After"), s.count())
	}
	close(release)
	for range 3 {
		if got := <-answers; got.status != 200 {
			t.Errorf("got %d", got.status)
		}
	}
	for range 5 { // nothing was kept
		if got := g.ask(t, "GET", "a", "/", ""); got.status != 200 {
			t.Errorf("got %d", got.status)
		}
	}
}

func TestACircuitBreakerAnswersForABackendThatFails(t *testing.T) {
	var bad atomic.Bool
	bad.Store(true)
	s := serve(t, "s", func(w http.ResponseWriter, _ *http.Request) {
		if bad.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	g := policed(t, "  outlierDetection: { consecutiveFailures: 3, maxEjectedPercent: 100 }\n", s.Listener.Addr().String())
	began := time.Now()
	for range 100 {
		if got := g.ask(t, "GET", "a", "/", ""); got.status != 503 {
			t.Errorf("got %d", got.status)
		}
	}
	wantProblem(t, g.ask(t, "GET", "a", "/", ""), 503, "unavailable")
	if most := 4 + int(time.Since(began)/time.Second); s.count() < 3 || s.count() > most {
		t.Errorf("%d calls of 101, want 3 to %d", s.count(), most)
	}
	bad.Store(false)
	back := time.Now()
	until(t, func() bool { return g.ask(t, "GET", "a", "/", "").status == 200 })
	if took := time.Since(back); took > 2*time.Second {
		t.Errorf("it is used again after %s", took)
	}
}
