package canary

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var began = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func TestTheHypergeometricTail(t *testing.T) {
	for _, c := range []struct {
		k, draws, marked, all int
		want                  float64
	}{
		{3, 4, 4, 8, 17.0 / 70},          // the lady tasting tea: at least 3 of 4 cups (Fisher 1935)
		{4, 4, 4, 8, 1.0 / 70},           // all 4
		{0, 4, 4, 8, 1}, {5, 4, 4, 8, 0}, // certain, impossible
		{1, 10, 0, 100, 0}, {4, 5, 9, 10, 1}, // nothing is marked; 4 of 5 must be
		{5, 10, 100, 1000, 0.0015214219}, // by whole numbers
	} {
		if got := upperTail(c.k, c.draws, c.marked, c.all); math.Abs(got-c.want) > 1e-6 {
			t.Errorf("%+v: got %v", c, got)
		}
	}
	// Against adding up every term from the other end, for many sizes.
	for range 1000 {
		all := 1 + rand.IntN(300)
		marked, draws := rand.IntN(all+1), rand.IntN(all+1)
		k := rand.IntN(draws + 1)
		below := 0.0
		for j := 0; j < k; j++ {
			if j <= marked && draws-j <= all-marked {
				below += math.Exp(choose(marked, j) + choose(all-marked, draws-j) - choose(all, draws))
			}
		}
		if got := upperTail(k, draws, marked, all); math.Abs(got-(1-below)) > 1e-9 {
			t.Fatalf("upperTail(%d, %d, %d, %d) = %v, want %v", k, draws, marked, all, got, 1-below)
		}
	}
}

// behaviour is how a variant serves at a moment (0 to 1 of the trial).
type behaviour struct {
	errors  func(at float64) float64
	latency func(r *rand.Rand, at float64) time.Duration
}

func constant(p float64) func(float64) float64 { return func(float64) float64 { return p } }

// usual answers take 20 ms in the median and 200 ms at p99.
func usual(scale float64) func(*rand.Rand, float64) time.Duration {
	return func(r *rand.Rand, _ float64) time.Duration {
		return time.Duration(scale * 20e6 * math.Exp(r.NormFloat64()*math.Log(10)/2.326))
	}
}

// trial sends n requests, a share of them to the canary, a hundred a second, and returns after how many of the canary it
// was found bad, 0 if it never was.
func trial(r *rand.Rand, rules Rules, n int, canaryShare float64, stable, canary behaviour) (at int, v Verdict) {
	g, seen := New(rules), 0
	for i := range n {
		which, isCanary := stable, r.Float64() < canaryShare
		if isCanary {
			which = canary
			seen++
		}
		progress := float64(i) / float64(n)
		now := began.Add(time.Duration(i) * 10 * time.Millisecond)
		if g.Observe(now, isCanary, r.Float64() < which.errors(progress), which.latency(r, progress)) {
			if v = g.Look(now); v.Bad {
				return seen, v
			}
		}
	}
	return 0, v
}

func TestEqualCanariesAreLeftAlone(t *testing.T) {
	const trials = 2000
	drifting := func(at float64) float64 { return 0.3 * at }
	for name, c := range map[string]struct {
		share float64
		both  behaviour
	}{
		"few errors":               {0.2, behaviour{constant(0.005), usual(1)}},
		"many errors":              {0.2, behaviour{constant(0.3), usual(1)}},
		"half of the requests":     {0.5, behaviour{constant(0.02), usual(1)}},
		"both fail more and more":  {0.2, behaviour{drifting, usual(1)}},
		"all answers are the same": {0.2, behaviour{constant(0), func(*rand.Rand, float64) time.Duration { return 20 * time.Millisecond }}},
		"both get slower":          {0.2, behaviour{constant(0), func(r *rand.Rand, at float64) time.Duration { return usual(1+9*at)(r, at) }}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules, wrong := Default, 0
			rules.Confidence = 0.95 // at 0.99 there is next to nothing to count
			for i := range trials {
				if at, _ := trial(rand.New(rand.NewPCG(1, uint64(i))), rules, int(600/c.share), c.share, c.both, c.both); at > 0 {
					wrong++
				}
			}
			t.Logf("%d of %d found bad", wrong, trials)
			if wrong > trials/20 {
				t.Errorf("%d of %d equal canaries were found bad, at a confidence of 95 %%", wrong, trials)
			}
		})
	}
}

func TestBadCanariesAreFoundSoon(t *testing.T) {
	const trials = 500
	good := behaviour{constant(0.005), usual(1)}
	for name, c := range map[string]struct {
		canary behaviour
		within int // of the canary's requests, in 95 of 100 trials
		says   string
	}{
		"5 % errors against 0.5 %": {behaviour{constant(0.05), usual(1)}, 500, "failed"},
		"all fail":                 {behaviour{constant(1), usual(1)}, 100, "failed"},
		"p99 doubled":              {behaviour{constant(0.005), usual(2)}, 800, "took longer"},
		"p99 tenfold for a few": {behaviour{constant(0.005), func(r *rand.Rand, at float64) time.Duration {
			if r.Float64() < 0.05 {
				return 2 * time.Second
			}
			return usual(1)(r, at)
		}}, 500, "took longer"},
	} {
		var took []int
		reasons := 0
		for i := range trials {
			at, v := trial(rand.New(rand.NewPCG(2, uint64(i))), Default, 50_000, 0.1, good, c.canary)
			if at == 0 {
				at = 1 << 30
			} else if strings.Contains(v.Why, c.says) {
				reasons++
			}
			took = append(took, at)
		}
		if reasons < trials*98/100 { // chance may be quicker with another one
			t.Errorf("%s: the reason is another one in %d of %d", name, trials-reasons, trials)
		}
		slices.Sort(took)
		t.Logf("%s: found after %d requests of the canary in the median, %d in 95 of 100", name, took[trials/2], took[trials*95/100])
		if took[trials*95/100] > c.within {
			t.Errorf("%s: found after %d requests of the canary in 95 of 100", name, took[trials*95/100])
		}
	}
}

func TestADifferenceThatDoesNotMatterIsLeftAlone(t *testing.T) {
	rules := Default
	rules.ErrorMargin = 0.05
	r := rand.New(rand.NewPCG(3, 0))
	if at, v := trial(r, rules, 50_000, 0.5, behaviour{constant(0.01), usual(1)}, behaviour{constant(0.03), usual(1.05)}); at > 0 {
		t.Error(v.Why)
	}
	if at, _ := trial(r, Default, 50_000, 0.5, behaviour{constant(0.01), usual(1)}, behaviour{constant(0.03), usual(1.05)}); at == 0 {
		t.Error("and without that margin it is not found")
	}
	if at, v := trial(r, Default, 50_000, 0.5, behaviour{constant(0.05), usual(2)}, behaviour{constant(0.005), usual(1)}); at > 0 {
		t.Error("a better one: ", v.Why)
	}
}

func TestTooLittleIsNotJudged(t *testing.T) {
	g := New(Default)
	for range 99 {
		g.Observe(began, true, true, 0)
		g.Observe(began, false, false, time.Millisecond)
	}
	if v := g.Look(began); v.Bad || v.Look != 0 || !strings.Contains(v.Why, "99 requests of the canary and 99 of stable; the first look is at 100") {
		t.Errorf("got %+v", v)
	}
	g.Observe(began, true, true, 0)
	if v := g.Look(began); v.Bad { // stable has 99
		t.Errorf("got %+v", v)
	}
	g.Observe(began, false, false, time.Millisecond)
	v := g.Look(began)
	if !v.Bad || !strings.Contains(v.Why, "100 of the canary's 100 requests failed (100.00 %), of stable's 0 of 100 (0.00 %)") || !strings.Contains(v.Why, "look 1") {
		t.Errorf("got %+v", v)
	}
}

func TestWhatIsOldCountsNoMore(t *testing.T) {
	g := New(Default)
	fill := func(now time.Time, failed bool) {
		for range 200 {
			g.Observe(now, true, failed, time.Millisecond)
			g.Observe(now, false, false, time.Millisecond)
		}
	}
	fill(began, true)
	fill(began.Add(6*time.Minute), false)
	if v := g.Look(began.Add(6 * time.Minute)); v.Bad || v.Errors.CanaryOf != 200 {
		t.Errorf("got %+v", v)
	}
	fill(began.Add(-time.Hour), true) // a clock that is set back
	if v := g.Look(began.Add(-time.Hour)); !v.Bad || v.Errors.CanaryOf != 400 {
		t.Errorf("got %+v", v)
	}
	g.Restart()
	if v := g.Look(began); v.Bad || v.Errors.CanaryOf != 0 {
		t.Errorf("got %+v", v)
	}
}

func TestBounds(t *testing.T) {
	for _, latency := range []time.Duration{0, -time.Second, time.Microsecond, fastest, time.Millisecond, 20 * time.Millisecond, 1234567 * time.Microsecond, time.Minute, time.Hour} {
		i := bound(latency)
		if i < bounds && edge(i) < latency-10*time.Microsecond || i > 0 && edge(i-1) > latency+10*time.Microsecond {
			t.Errorf("%s is in %s to %s", latency, edge(i-1), edge(i))
		}
	}
}

func BenchmarkObserveAndLook(b *testing.B) {
	g, r := New(Default), rand.New(rand.NewPCG(4, 0))
	for b.Loop() {
		if g.Observe(began, r.IntN(10) == 0, r.IntN(100) == 0, time.Duration(r.IntN(1e8))) {
			_ = fmt.Sprint(g.Look(began).Bad)
		}
	}
}
