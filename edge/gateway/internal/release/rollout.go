// Package release decides which variant of a rule gets how many requests: by the weights of a file, or of a
// configuration store that say otherwise while the gateway runs. Knows nothing of HTTP.
package release

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/canary"
	"github.com/foremesh/foremesh/edge/gateway/internal/configuration"
	"github.com/foremesh/foremesh/edge/gateway/internal/split"
)

// Spec is a Rollout as the folder has it.
type Spec struct {
	Name     string // with its namespace, unless that is `default`
	At       string // file:line
	Variants []string
	Weights  []int              // of the variants, until the store says others
	Source   *configuration.Key // nil: no store
	Guard    *Guard             // nil: nobody watches
}

// Guard rolls a canary back when it serves worse than the stable variant.
type Guard struct {
	Stable, Canary int // among the variants
	Rules          canary.Rules
	CoolDown       time.Duration // after a roll-back, before other weights bring the canary back
}

func (s *Spec) equal(other *Spec) bool {
	return s.Name == other.Name && slices.Equal(s.Variants, other.Variants) && slices.Equal(s.Weights, other.Weights) && s.reads(other.Source) &&
		(s.Guard == other.Guard || s.Guard != nil && other.Guard != nil && *s.Guard == *other.Guard)
}

func (s *Spec) reads(key *configuration.Key) bool {
	return s.Source == key || s.Source != nil && key != nil && *s.Source == *key
}

// String says where the weights come from.
func (s *Spec) String() string {
	text := "Rollout '" + s.Name + "' (" + s.At + ")"
	if s.Source != nil {
		text += ", whose weights key '" + s.Source.Name + "' of store '" + s.Source.Store + "' may change"
	}
	if s.Guard != nil {
		text += ", whose guard may roll '" + s.Variants[s.Guard.Canary] + "' back"
	}
	return text
}

// Rollout is a Spec and what has become of it. Its methods are safe for concurrent use.
type Rollout struct {
	spec  *Spec
	split atomic.Pointer[split.Split] // what counts now

	mu        sync.Mutex
	at        string             // file:line
	item      configuration.Item // as last looked at
	taken     configuration.Item // the last that was not wrong
	weights   []int              // that the file or the store asks for
	from      string             // "file" or "store"
	since     time.Time          // of the weights
	refused   string             // why the store's value is not taken; empty: it is, or there is none
	changes   int                // that were taken over from the store
	outcomes  []outcomes         // by variant
	guard     *canary.Guard      // nil: nobody watches
	verdict   canary.Verdict     // of the last look
	rolled    *rollBack          // nil: the canary is as it is asked for
	rollBacks int
	keep      func() // what must outlive a restart has changed
}

// outcomes are how the requests of a variant ended.
type outcomes struct{ served, failed int }

// rollBack is the guard's decision.
type rollBack struct {
	Canary  string
	At      time.Time
	Why     string
	Changed bool // other weights are asked for since
}

func begin(spec *Spec, now time.Time, keep func()) *Rollout {
	r := &Rollout{spec: spec, at: spec.At, outcomes: make([]outcomes, len(spec.Variants)), keep: keep}
	if spec.Guard != nil {
		r.guard = canary.New(spec.Guard.Rules)
	}
	r.use(spec.Weights, "file", now)
	return r
}

// Split is what each variant gets now, in the order of the Spec's variants; nil of no Rollout.
func (r *Rollout) Split() *split.Split {
	if r == nil {
		return nil
	}
	return r.split.Load()
}

func (r *Rollout) use(weights []int, from string, now time.Time) {
	r.weights, r.from, r.since = weights, from, now
	r.settle(now)
}

// settle lets what is asked for count, but for a canary that was rolled back.
func (r *Rollout) settle(now time.Time) {
	weights := r.weights
	if g := r.spec.Guard; g != nil {
		if r.rolled != nil && r.rolled.Changed && now.Sub(r.rolled.At) >= g.CoolDown {
			slog.Info("a canary that was rolled back gets requests again", "rollout", r.spec.Name, "canary", r.spec.Variants[g.Canary])
			r.rolled, r.guard, r.verdict = nil, canary.New(g.Rules), canary.Verdict{}
		}
		if r.rolled != nil {
			weights = slices.Clone(weights)
			weights[g.Canary] = 0
			if !slices.ContainsFunc(weights, func(weight int) bool { return weight > 0 }) {
				weights[g.Stable] = 1
			}
		}
	}
	next := split.New(weights...)
	if before := r.split.Load(); before != nil && before.Equal(next) {
		return
	}
	r.split.Store(next)
	if r.guard != nil {
		r.guard.Restart()
	}
}

// Observe notes how a request of a variant ended, and rolls the canary back where the guard finds it bad. Latency counts
// only where it did not fail.
func (r *Rollout) Observe(now time.Time, variant int, failed bool, latency time.Duration) {
	if r.observe(now, variant, failed, latency) {
		r.keep()
	}
}

// observe returns whether the canary is rolled back now, or no more.
func (r *Rollout) observe(now time.Time, variant int, failed bool, latency time.Duration) (changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.rolled
	defer func() { changed = r.rolled != before }()
	if failed {
		r.outcomes[variant].failed++
	} else {
		r.outcomes[variant].served++
	}
	if r.rolled != nil && r.rolled.Changed { // its cool-down may be over
		r.settle(now)
	}
	g := r.spec.Guard
	// What was on its way when the canary was rolled back says nothing new.
	if g == nil || r.rolled != nil || variant != g.Canary && variant != g.Stable || !r.guard.Observe(now, variant == g.Canary, failed, latency) {
		return
	}
	r.verdict = r.guard.Look(now)
	if !r.verdict.Bad {
		return
	}
	r.rolled = &rollBack{Canary: r.spec.Variants[g.Canary], At: now, Why: r.verdict.Why}
	r.rollBacks++
	r.settle(now)
	slog.Error("a canary is rolled back", "rollout", r.spec.Name, "canary", r.spec.Variants[g.Canary], "stable", r.spec.Variants[g.Stable],
		"why", r.rolled.Why, "weights", r.described())
	return
}

// take considers what the store has. A value that is wrong changes nothing; a key that is gone gives the file its word back.
func (r *Rollout) take(item configuration.Item, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if item == r.item {
		r.settle(now) // a cool-down may be over
		return
	}
	r.item = item
	weights, from := r.spec.Weights, "file"
	if item.Found {
		parsed, err := parse(item.Value, r.spec.Variants)
		if err != nil {
			r.refused = err.Error()
			slog.Error("a value of the configuration store is refused; the weights before it stay", "rollout", r.spec.Name,
				"store", r.spec.Source.Store, "key", r.spec.Source.Name, "version", item.Version, "error", r.refused)
			return
		}
		weights, from = parsed, "store"
	}
	r.refused = ""
	if r.rolled != nil && item != r.taken {
		r.rolled.Changed = true
	}
	r.taken = item
	r.use(weights, from, now)
	r.changes++
	slog.Info("weights changed", "rollout", r.spec.Name, "from", from, "version", item.Version, "weights", r.described())
}

// described is the weights with their variants' names.
func (r *Rollout) described() map[string]int {
	now, all := r.split.Load(), map[string]int{}
	for i, name := range r.spec.Variants {
		all[name] = now.Weight(i)
	}
	return all
}

// State is how a Rollout does.
type State struct {
	Name    string         `json:"name"`
	At      string         `json:"at"` // file:line
	Store   string         `json:"store,omitempty"`
	Key     string         `json:"key,omitempty"`
	From    string         `json:"from"`    // where the weights are from: file or store
	Version string         `json:"version"` // of the store's value, as it was last looked at
	Refused string         `json:"refused"` // why that value is not taken
	Since   time.Time      `json:"since"`   // of the weights
	Weights map[string]int `json:"weights"` // that count now
	Guard   *GuardState    `json:"guard,omitempty"`
}

// GuardState is what a guard thinks.
type GuardState struct {
	Stable     string         `json:"stable"`
	Canary     string         `json:"canary"`
	RolledBack bool           `json:"rolledBack"`
	At         *time.Time     `json:"at,omitempty"`    // of the roll-back
	Until      *time.Time     `json:"until,omitempty"` // other weights bring it back from then on
	Why        string         `json:"why,omitempty"`   // it was rolled back
	Verdict    canary.Verdict `json:"verdict"`         // of the last look
}

func (r *Rollout) state() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := State{Name: r.spec.Name, At: r.at, From: r.from, Version: r.item.Version, Refused: r.refused, Since: r.since, Weights: r.described()}
	if r.spec.Source != nil {
		s.Store, s.Key = r.spec.Source.Store, r.spec.Source.Name
	}
	if g := r.spec.Guard; g != nil {
		s.Guard = &GuardState{Stable: r.spec.Variants[g.Stable], Canary: r.spec.Variants[g.Canary], Verdict: r.verdict}
		if r.rolled != nil {
			at, until := r.rolled.At, r.rolled.At.Add(g.CoolDown)
			s.Guard.RolledBack, s.Guard.At, s.Guard.Until, s.Guard.Why = true, &at, &until, r.rolled.Why
		}
	}
	return s
}
