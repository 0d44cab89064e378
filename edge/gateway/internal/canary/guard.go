// Package canary judges whether a canary serves worse than the stable variant, beyond what chance would do. It knows
// neither clocks nor HTTP: time and what happened come in, a verdict with its reasons comes out.
package canary

import (
	"fmt"
	"math"
	"time"
)

// Rules are what a Guard judges by.
type Rules struct {
	Sample        int           // requests of each variant before the first look
	Confidence    float64       // 0.99: of a hundred canaries that are as good as stable, one at most is ever found bad
	Window        time.Duration // what is older counts no more
	ErrorMargin   float64       // a share of failures that is higher by less does not matter
	LatencyFactor float64       // a p99 that is less than so many times the stable one does not matter; rounded up to an eighth of an octave
}

// Default are the rules of a guard that says nothing else.
var Default = Rules{Sample: 100, Confidence: 0.99, Window: 5 * time.Minute, ErrorMargin: 0.005, LatencyFactor: 1.25}

const (
	slots  = 30  // of a window
	bounds = 144 // of latencies, an eighth of an octave apart
	tail   = 0.01
	fewest = 10 // of the slowest that are compared: fewer could prove nothing
)

// fastest is the first bound of latencies; the last one is 65 s.
const fastest = 250 * time.Microsecond

// counts are what happened to one variant.
type counts struct {
	requests, failed int
	latencies        [bounds + 1]int32 // of answers that did not fail; [i] took at most edge(i), the last one any time
}

func (c *counts) add(other *counts) {
	c.requests += other.requests
	c.failed += other.failed
	for i, n := range other.latencies {
		c.latencies[i] += n
	}
}

func (c *counts) answered() int { return c.requests - c.failed }

// above is how many answers took longer than edge(i).
func (c *counts) above(i int) int {
	n := 0
	for _, more := range c.latencies[min(i+1, len(c.latencies)):] {
		n += int(more)
	}
	return n
}

// p99 is the first bound that at most a hundredth of the answers are above.
func (c *counts) p99() int {
	above := 0
	for i := bounds; i > 0; i-- {
		if above += int(c.latencies[i]); float64(above) > tail*float64(c.answered()) {
			return i
		}
	}
	return 0
}

func edge(i int) time.Duration {
	return time.Duration(float64(fastest) * math.Exp2(float64(i)/8)).Round(10 * time.Microsecond)
}

func bound(latency time.Duration) int {
	if latency <= fastest {
		return 0
	}
	return min(int(math.Ceil(8*math.Log2(float64(latency)/float64(fastest)))), bounds)
}

// Guard watches a canary and its stable variant. It is not safe for concurrent use.
type Guard struct {
	rules Rules
	ring  [slots][2]counts
	at    int64 // the slot of now, counted from 1970
	fresh int   // requests of the canary since the last look
	looks int
}

// New returns a guard that has seen nothing.
func New(rules Rules) *Guard { return &Guard{rules: rules} }

// Restart forgets what was seen: shares have changed, and what one variant got while the other got little must not be
// compared. The looks that were taken still count.
func (g *Guard) Restart() { g.ring, g.fresh = [slots][2]counts{}, 0 }

// Observe notes a request and returns whether it is time for a look. Latency counts only where it did not fail.
func (g *Guard) Observe(now time.Time, canary, failed bool, latency time.Duration) bool {
	g.turn(now)
	which := 0
	if canary {
		which = 1
		g.fresh++
	}
	c := &g.ring[g.at%slots][which]
	c.requests++
	if failed {
		c.failed++
	} else {
		c.latencies[bound(latency)]++
	}
	return canary && g.fresh >= max(1, g.rules.Sample/4)
}

func (g *Guard) turn(now time.Time) {
	slot := int64(g.rules.Window) / slots
	at := now.UnixNano() / slot
	if at <= g.at { // a clock that was set back: the last slot goes on
		return
	}
	for next := max(g.at+1, at-slots+1); next <= at; next++ {
		g.ring[next%slots] = [2]counts{}
	}
	g.at = at
}

// Verdict is what a look found.
type Verdict struct {
	Bad    bool    `json:"bad"`
	Why    string  `json:"why"`   // with its numbers
	Look   int     `json:"look"`  // 0: none was taken yet
	Limit  float64 `json:"limit"` // a p below it is beyond chance, at this look
	Errors Finding `json:"errors"`
	Slow   Finding `json:"slow"`
}

// Finding is one comparison.
type Finding struct {
	Stable    int     `json:"stable"` // how many did
	StableOf  int     `json:"stableOf"`
	Canary    int     `json:"canary"`
	CanaryOf  int     `json:"canaryOf"`
	P         float64 `json:"p"`                   // chance of a canary that is as good to look this bad or worse
	Than      string  `json:"than,omitempty"`      // slower than that
	StableP99 string  `json:"stableP99,omitempty"` // rounded up to a bound
	CanaryP99 string  `json:"canaryP99,omitempty"`
}

// Look compares what the window holds.
//
// Failures: Fisher's exact test, one-sided, and a difference of at least ErrorMargin. Latency: the same test of who has
// how many of the slowest hundredth of all answers (ten at least), which asks nothing of distributions, and a p99 that is LatencyFactor
// times the stable one. There is a look at every quarter of a Sample, without an end, at windows that overlap: look k may be
// wrong with a chance of (1 - Confidence) * 6/(pi^2 k^2), half of it for either test, and all of that together is
// 1 - Confidence, however the looks depend on each other (Bonferroni).
func (g *Guard) Look(now time.Time) Verdict {
	g.turn(now)
	var all [2]counts
	for i := range g.ring {
		all[0].add(&g.ring[i][0])
		all[1].add(&g.ring[i][1])
	}
	stable, canary := &all[0], &all[1]
	v := Verdict{Look: g.looks}
	v.Errors = Finding{Stable: stable.failed, StableOf: stable.requests, Canary: canary.failed, CanaryOf: canary.requests, P: 1}
	v.Slow = Finding{StableOf: stable.answered(), CanaryOf: canary.answered(), P: 1}
	if stable.requests < g.rules.Sample || canary.requests < g.rules.Sample {
		v.Why = fmt.Sprintf("too little to compare: %d requests of the canary and %d of stable; the first look is at %d of each", canary.requests, stable.requests, g.rules.Sample)
		return v
	}
	if g.fresh >= max(1, g.rules.Sample/4) {
		g.fresh = 0
		g.looks++
	}
	v.Look = max(1, g.looks)
	v.Limit = (1 - g.rules.Confidence) * 6 / (math.Pi * math.Pi * float64(v.Look) * float64(v.Look)) / 2

	v.Errors.P = upperTail(canary.failed, canary.failed+stable.failed, canary.requests, canary.requests+stable.requests)
	difference := share(canary.failed, canary.requests) - share(stable.failed, stable.requests)
	g.slow(stable, canary, &v.Slow)
	switch {
	case v.Errors.P < v.Limit && difference >= g.rules.ErrorMargin:
		v.Bad = true
		v.Why = fmt.Sprintf("%d of the canary's %d requests failed (%.2f %%), of stable's %d of %d (%.2f %%); chance would do so with p = %.2g, and the limit of look %d is %.2g (confidence %g)",
			canary.failed, canary.requests, 100*share(canary.failed, canary.requests), stable.failed, stable.requests, 100*share(stable.failed, stable.requests), v.Errors.P, v.Look, v.Limit, g.rules.Confidence)
	case v.Slow.P < v.Limit && g.slower(stable, canary):
		v.Bad = true
		v.Why = fmt.Sprintf("the canary's p99 is %s and stable's %s: %d of %d answers took longer than %s, of stable's %d of %d; chance would do so with p = %.2g, and the limit of look %d is %.2g (confidence %g)",
			v.Slow.CanaryP99, v.Slow.StableP99, v.Slow.Canary, v.Slow.CanaryOf, v.Slow.Than, v.Slow.Stable, v.Slow.StableOf, v.Slow.P, v.Look, v.Limit, g.rules.Confidence)
	default:
		v.Why = "no worse than chance allows"
	}
	return v
}

// slow compares how many answers of each are among the slowest hundredth of all, and ten at least.
func (g *Guard) slow(stable, canary *counts, into *Finding) {
	if stable.answered() == 0 || canary.answered() == 0 {
		return
	}
	// Of both together, so that who is who has no part in it; the whole of a bound that holds more than a hundredth.
	than, all := bounds, stable.answered()+canary.answered()
	slowest := max(fewest, tail*float64(all))
	for than > 0 && float64(stable.above(than)+canary.above(than)) < slowest {
		than--
	}
	into.Stable, into.Canary = stable.above(than), canary.above(than)
	into.P = upperTail(into.Canary, into.Canary+into.Stable, canary.answered(), all)
	into.Than, into.StableP99, into.CanaryP99 = edge(than).String(), edge(stable.p99()).String(), edge(canary.p99()).String()
}

// slower tells whether the canary's p99 is that many times the stable one.
func (g *Guard) slower(stable, canary *counts) bool {
	return canary.p99()-stable.p99() >= int(math.Ceil(8*math.Log2(g.rules.LatencyFactor)-1e-9))
}

func share(n, of int) float64 { return float64(n) / float64(of) }

// upperTail is the chance that of `draws` out of `all`, among which `marked` are marked, at least k are
// (hypergeometric).
func upperTail(k, draws, marked, all int) float64 {
	if k <= max(0, draws+marked-all) {
		return 1
	}
	most := min(draws, marked)
	if k > most {
		return 0
	}
	p := math.Exp(choose(marked, k) + choose(all-marked, draws-k) - choose(all, draws))
	sum := 0.0
	for ; k <= most && p > sum*1e-17; k++ {
		sum += p
		p *= float64(marked-k) * float64(draws-k) / (float64(k+1) * float64(all-marked-draws+k+1))
	}
	return min(sum, 1)
}

// choose is the logarithm of the binomial coefficient.
func choose(n, k int) float64 {
	a, _ := math.Lgamma(float64(n + 1))
	b, _ := math.Lgamma(float64(k + 1))
	c, _ := math.Lgamma(float64(n - k + 1))
	return a - b - c
}
