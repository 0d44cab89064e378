package outlier

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var quick = Rules{
	Name: "quick", Consecutive: 3, Share: 0.5, Volume: 10, Window: time.Minute,
	Ejection: 20 * time.Millisecond, MaxEjection: 100 * time.Millisecond, MaxEjected: 0.5,
}

// call makes one of a service's addresses answer as `results` says, Served where it says nothing.
func call(t *testing.T, s *Set, rules Rules, addresses []string, results map[string]Result) string {
	t.Helper()
	c, err := s.Begin(t.Context(), rules, addresses)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Leave()
	c.Note(results[c.Address], addresses)
	return c.Address
}

// calls makes many, and counts them by address.
func calls(t *testing.T, n int, s *Set, rules Rules, addresses []string, results map[string]Result) map[string]int {
	t.Helper()
	seen := map[string]int{}
	for range n {
		seen[call(t, s, rules, addresses, results)]++
	}
	return seen
}

func until(t *testing.T, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !true(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("did not happen within 10 s")
		}
	}
}

// slow are rules whose ejections outlast a test.
func slow(change func(*Rules)) Rules {
	r := quick
	r.Ejection, r.MaxEjection = time.Hour, time.Hour
	if change != nil {
		change(&r)
	}
	return r
}

var abcd = []string{"a", "b", "c", "d"}

func TestFailuresInARowEject(t *testing.T) {
	s := &Set{}
	seen := calls(t, 1000, s, slow(nil), abcd, map[string]Result{"a": Failed})
	if seen["a"] != 3 || seen["b"] < 200 || seen["c"] < 200 || seen["d"] < 200 {
		t.Errorf("got %v", seen)
	}
	if got := calls(t, 400, s, slow(nil), []string{"a", "b"}, nil); got["a"] != 0 {
		t.Errorf("another service that has the address uses it: %v", got)
	}
	if got := calls(t, 400, s, slow(func(r *Rules) { r.Name = "other" }), []string{"a", "b"}, nil); got["a"] == 0 {
		t.Errorf("other rules know of it: %v", got)
	}
}

func TestAShareOfFailuresEjectsOnceThereAreEnough(t *testing.T) {
	s, rules, n := &Set{}, slow(func(r *Rules) { r.Consecutive = 1000 }), 0
	for range 2000 {
		c, err := s.Begin(t.Context(), rules, abcd)
		if err != nil {
			t.Fatal(err)
		}
		result := Served
		if c.Address == "a" {
			if n++; n%2 == 0 { // never two in a row
				result = Failed
			}
		}
		c.Note(result, abcd)
		c.Leave()
	}
	if n != 10 {
		t.Errorf("the address that fails half of the time got %d requests, want 10", n)
	}
	if seen := calls(t, 400, &Set{}, rules, abcd, map[string]Result{"a": Unknown}); seen["a"] < 50 {
		t.Errorf("a caller that leaves counts: %v", seen)
	}
}

func TestWhatHasNoConnectionIsOutAtOnce(t *testing.T) {
	for _, out := range [][]string{{"a"}, {"a", "b", "c"}} {
		s, results := &Set{}, map[string]Result{}
		for _, address := range out {
			results[address] = Unreachable
		}
		seen := calls(t, 1000, s, slow(nil), abcd, results)
		for _, address := range out {
			if seen[address] != 1 {
				t.Errorf("%v: got %v", out, seen)
			}
		}
	}
}

func TestWhereMostFailNoneMoreIsEjected(t *testing.T) {
	s := &Set{}
	all := map[string]Result{"a": Failed, "b": Failed, "c": Failed, "d": Failed}
	seen := calls(t, 1000, s, slow(nil), abcd, all)
	few := 0
	for _, n := range seen {
		if n <= 3 {
			few++
		}
	}
	if few != 2 {
		t.Errorf("%d of 4 are ejected, want half: %v", few, seen)
	}
	// Of a service with one address none is, unless a circuit breaker is asked for.
	if seen := calls(t, 50, &Set{}, slow(nil), []string{"a"}, all); seen["a"] != 50 {
		t.Errorf("got %v", seen)
	}
}

func TestACircuitBreakerRefusesAndLetsOneThroughToTry(t *testing.T) {
	s, rules := &Set{}, quick
	rules.MaxEjected = 1
	calls(t, 3, s, rules, []string{"a"}, map[string]Result{"a": Failed})
	if _, err := s.Begin(t.Context(), rules, []string{"a"}); !errors.Is(err, ErrEjected) {
		t.Fatalf("it is closed: %v", err)
	}
	var trial *Call
	until(t, func() bool {
		c, err := s.Begin(t.Context(), rules, []string{"a"})
		trial = c
		return err == nil
	})
	if _, err := s.Begin(t.Context(), rules, []string{"a"}); !errors.Is(err, ErrEjected) {
		t.Errorf("a second one is let through: %v", err)
	}
	trial.Note(Unknown, []string{"a"}) // its caller left: another one may try
	trial.Leave()
	again, err := s.Begin(t.Context(), rules, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	again.Note(Served, []string{"a"})
	again.Leave()
	if seen := calls(t, 10, s, rules, []string{"a"}, nil); seen["a"] != 10 {
		t.Errorf("it is still open: %v", seen)
	}
}

func TestAnEjectionGrowsUpToItsBoundAndStartsAnewAfterALongTime(t *testing.T) {
	s, a := &Set{}, []string{"a"}
	rules := quick
	rules.MaxEjected = 1
	var pauses []time.Duration
	for range 6 {
		h := func() *host { return s.hosts[key{rules, "a"}] }
		until(t, func() bool {
			c, err := s.Begin(t.Context(), rules, a)
			if err != nil {
				return false
			}
			c.Note(Failed, a)
			c.Leave()
			return h().ejected && h().until.After(time.Now())
		})
		pauses = append(pauses, time.Until(h().until))
	}
	for i, want := range []time.Duration{20, 40, 80, 100, 100, 100} {
		if least, most := want*70/100*time.Millisecond, want*121/100*time.Millisecond; pauses[i] > most || pauses[i] < least && i > 0 {
			t.Errorf("pause %d is %s, want %d ms with a fifth more or less", i+1, pauses[i], want)
		}
	}
	h := s.hosts[key{rules, "a"}]
	h.ejected, h.returned, h.inARow, h.calls, h.failures = false, time.Now().Add(-time.Minute), 0, 0, 0
	calls(t, 3, s, rules, a, map[string]Result{"a": Failed})
	if pause := time.Until(h.until); pause > 25*time.Millisecond {
		t.Errorf("after a minute that was well the pause is %s", pause)
	}
}

func TestOneThatIsBackIsUsedWithinTwoSeconds(t *testing.T) {
	s, ab := &Set{}, []string{"a", "b"}
	for range 4 { // so that the ejection has grown to its bound
		h := func() *host { return s.hosts[key{Default, "a"}] }
		until(t, func() bool {
			call(t, s, Default, ab, map[string]Result{"a": Unreachable})
			return h() != nil && h().ejected && h().until.After(time.Now())
		})
		h().until = time.Now()
	}
	until(t, func() bool { return call(t, s, Default, ab, map[string]Result{"a": Unreachable}) == "a" })
	back := time.Now()
	until(t, func() bool { return call(t, s, Default, ab, nil) == "a" })
	if took := time.Since(back); took > 2*time.Second || took < 500*time.Millisecond {
		t.Errorf("it is used again after %s", took)
	}
	if seen := calls(t, 200, s, Default, ab, nil); seen["a"] < 50 {
		t.Errorf("got %v", seen)
	}
}

func TestAnAddressHasSoManyAtOnceAndSoManyWait(t *testing.T) {
	s, a := &Set{}, []string{"a"}
	rules := slow(func(r *Rules) { r.Requests, r.Pending = 2, 1 })
	begin := func() *Call {
		c, err := s.Begin(t.Context(), rules, a)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first, second := begin(), begin()
	third := make(chan *Call)
	go func() { third <- begin() }()
	pending := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.hosts[key{rules, "a"}].pending
	}
	until(t, func() bool { return pending() == 1 })
	if _, err := s.Begin(t.Context(), rules, a); !errors.Is(err, ErrFull) {
		t.Errorf("a second one waits: %v", err)
	}
	if c, err := s.Begin(t.Context(), rules, []string{"a", "b"}); err != nil || c.Address != "b" {
		t.Errorf("the other address has room: %v", err)
	}
	first.Note(Served, a)
	first.Leave()
	first.Leave() // twice is once
	waited := <-third
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() { _, err := s.Begin(ctx, rules, a); left <- err }()
	until(t, func() bool { return pending() == 1 })
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) || pending() != 0 {
		t.Errorf("who leaves still waits: %v, %d", err, pending())
	}
	for _, c := range []*Call{second, waited} {
		c.Note(Served, a)
		c.Leave()
	}
	begin()
	begin()
}

func TestMetricsAndWhatIsForgotten(t *testing.T) {
	s, registry := &Set{}, prometheus.NewRegistry()
	registry.MustRegister(s)
	calls(t, 100, s, slow(nil), abcd, map[string]Result{"a": Failed})
	text := func() string {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(families)
	}
	if got := text(); !containsAll(got, `gateway_ejections_total`, `value:"a"`, `value:"d"`) {
		t.Errorf("got %s", got)
	}
	s.Keep(func(_ Rules, address string) bool { return address == "a" })
	if got := text(); !containsAll(got, `value:"a"`) || containsAll(got, `value:"d"`) {
		t.Errorf("got %s", got)
	}
}

func containsAll(text string, parts ...string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}
