// Package concurrency finds how many requests a backend takes at once, by how long its answers take: a gradient, as in
// Netflix's concurrency-limits (Gradient2) and Envoy's adaptive concurrency filter. Knows nothing of HTTP.
package concurrency

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Bounds of a Limiter. They are compared by value.
type Bounds struct {
	Initial, Min, Max int
	// Tolerance is how many times its shortest an answer may take before the limit falls.
	Tolerance float64
	// Probe is how long the shortest is believed without having been seen again.
	Probe time.Duration
}

const (
	// window is what one step looks at, and so are least answers.
	window = 100 * time.Millisecond
	least  = 10
	most   = 256
	// longestProbe bounds a probe of a backend that hardly answers.
	longestProbe = time.Second
)

// Result is how a request ended.
type Result int

const (
	// Answered is a request whose time says something.
	Answered Result = iota
	// Dropped is one that the backend had no room or no time for.
	Dropped
	// Ignored is one whose time says nothing: the caller left, or it failed at once.
	Ignored
)

// Limiter is safe for concurrent use.
//
// In each window with enough answers, limit' = limit * min(1, tolerance * shortest / median) + sqrt(limit), half of the way:
// where answers take their shortest the limit grows by the root, which is what may queue; where they take longer, it falls until they do not.
// It does not grow where it was not needed. A window with drops takes a tenth off.
//
// The shortest is the lowest median of a window. It is measured anew, down or up, by each window with at most Min requests in
// flight, and a window within a tenth of it confirms it. Where there was neither for a time, the limit is Min for as long as ten answers
// take, a probe: a backend that got slower in itself is followed. One that got faster is seen at once, and one with room is never probed.
type Limiter struct {
	bounds Bounds

	mu       sync.Mutex
	limit    float64
	inFlight int
	peak     int // in the window
	began    time.Time
	times    []time.Duration
	dropped  bool
	shortest time.Duration
	believed time.Time // until then
	probe    time.Time // when the one in progress began; zero: none is
	shed     int
}

// New returns a limiter that begins with the initial limit.
func New(b Bounds) *Limiter { return &Limiter{bounds: b, limit: float64(b.Initial)} }

// Of is what it was made with.
func (l *Limiter) Of() Bounds { return l.bounds }

// Begin takes a place, or tells that there is none, and that a request is refused for it.
func (l *Limiter) Begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.take() {
		return true
	}
	l.shed++
	return false
}

// Try takes a place, or tells that there is none: what asks can wait.
func (l *Limiter) Try() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.take()
}

func (l *Limiter) take() bool {
	limit := int(l.limit)
	if !l.probe.IsZero() {
		limit = l.bounds.Min
	}
	if l.inFlight >= limit {
		l.peak = max(l.peak, l.inFlight)
		return false
	}
	l.inFlight++
	l.peak = max(l.peak, l.inFlight)
	return true
}

// End gives the place back; began is when it was taken.
func (l *Limiter) End(result Result, began, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	switch {
	case result == Dropped:
		l.dropped = true
	case result == Answered && len(l.times) < most && !began.Before(l.probe): // what began before a probe waited behind others
		l.times = append(l.times, now.Sub(began))
	}
	if l.began.IsZero() {
		l.began = now
	}
	if !l.probe.IsZero() {
		l.probed(now)
		return
	}
	if now.Sub(l.began) >= window && (len(l.times) >= least || l.dropped) {
		l.step(now)
	}
}

// probed ends a probe that has seen enough.
func (l *Limiter) probed(now time.Time) {
	late := now.Sub(l.probe) > longestProbe
	if len(l.times) < least && !late {
		return
	}
	if len(l.times) > 0 {
		l.believe(l.median(), now)
	} else {
		l.believe(l.shortest, now)
	}
	l.probe = time.Time{}
	l.reset(now)
}

func (l *Limiter) believe(shortest time.Duration, now time.Time) {
	l.shortest = shortest
	// Spread, so that gateways before one backend do not probe together.
	l.believed = now.Add(l.bounds.Probe*9/10 + rand.N(l.bounds.Probe/5+1))
}

func (l *Limiter) step(now time.Time) {
	defer l.reset(now)
	if l.dropped {
		l.set(l.limit * 0.9)
		return
	}
	median := l.median()
	if l.shortest == 0 || median < l.shortest || l.peak <= l.bounds.Min {
		l.believe(median, now)
	} else if median <= l.shortest*11/10 {
		l.believe(l.shortest, now)
	} else if now.After(l.believed) {
		l.probe = now
		return
	}
	gradient := max(0.5, min(1, l.bounds.Tolerance*float64(l.shortest)/float64(median)))
	next := l.limit*gradient + math.Sqrt(l.limit)
	if next > l.limit && float64(l.peak) < l.limit/2 {
		return // nobody needs more
	}
	l.set((l.limit + next) / 2)
}

func (l *Limiter) set(limit float64) {
	l.limit = max(float64(l.bounds.Min), min(float64(l.bounds.Max), limit))
}

func (l *Limiter) median() time.Duration {
	slices.Sort(l.times)
	return max(1, l.times[len(l.times)/2])
}

func (l *Limiter) reset(now time.Time) {
	l.began, l.times, l.dropped, l.peak = now, l.times[:0], false, l.inFlight
}

// State is what a limiter does now.
type State struct{ Limit, InFlight, Shed int }

// State returns it; Shed counts from the beginning.
func (l *Limiter) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return State{int(l.limit), l.inFlight, l.shed}
}
