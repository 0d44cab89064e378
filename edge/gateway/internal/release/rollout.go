// Package release decides which variant of a rule gets how many requests: by the weights of a file, or of a
// configuration store that say otherwise while the gateway runs. Knows nothing of HTTP.
package release

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

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
}

func (s *Spec) equal(other *Spec) bool {
	return s.Name == other.Name && slices.Equal(s.Variants, other.Variants) && slices.Equal(s.Weights, other.Weights) && s.reads(other.Source)
}

func (s *Spec) reads(key *configuration.Key) bool {
	return s.Source == key || s.Source != nil && key != nil && *s.Source == *key
}

// String says where the weights come from.
func (s *Spec) String() string {
	if s.Source == nil {
		return "Rollout '" + s.Name + "' (" + s.At + ")"
	}
	return "Rollout '" + s.Name + "' (" + s.At + "), whose weights key '" + s.Source.Name + "' of store '" + s.Source.Store + "' may change"
}

// Rollout is a Spec and what has become of it. Its methods are safe for concurrent use.
type Rollout struct {
	spec  *Spec
	split atomic.Pointer[split.Split] // what counts now

	mu      sync.Mutex
	at      string             // file:line
	item    configuration.Item // as last looked at
	weights []int              // that the file or the store asks for
	from    string             // "file" or "store"
	since   time.Time          // of the weights
	refused string             // why the store's value is not taken; empty: it is, or there is none
	changes int                // that were taken over from the store
}

func begin(spec *Spec, now time.Time) *Rollout {
	r := &Rollout{spec: spec, at: spec.At}
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
	r.split.Store(split.New(weights...))
}

// take considers what the store has. A value that is wrong changes nothing; a key that is gone gives the file its word back.
func (r *Rollout) take(item configuration.Item, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if item == r.item {
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
}

func (r *Rollout) state() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := State{Name: r.spec.Name, At: r.at, From: r.from, Version: r.item.Version, Refused: r.refused, Since: r.since, Weights: r.described()}
	if r.spec.Source != nil {
		s.Store, s.Key = r.spec.Source.Store, r.spec.Source.Name
	}
	return s
}

// Set is the Rollouts of a table.
type Set struct {
	mu  sync.Mutex
	all map[*Spec]*Rollout
}

// Use makes a Rollout of each spec. One whose spec is as it was goes on; one that reads the same key as before keeps what
// that said.
func (s *Set) Use(specs []*Spec) map[*Spec]*Rollout {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, next := time.Now(), map[*Spec]*Rollout{}
	for _, spec := range specs {
		if next[spec] != nil {
			continue
		}
		made := begin(spec, now)
		for before, rollout := range s.all {
			switch {
			case before.equal(spec):
				made = rollout
				made.mu.Lock()
				made.at = spec.At
				made.mu.Unlock()
			case spec.Source != nil && before.reads(spec.Source) && before.Name == spec.Name:
				rollout.mu.Lock()
				item := rollout.item
				rollout.mu.Unlock()
				made.take(item, now)
			}
		}
		next[spec] = made
	}
	s.all = next
	return next
}

// Keys returns what is to be watched.
func (s *Set) Keys() (keys []configuration.Key) {
	for _, r := range s.list() {
		if r.spec.Source != nil {
			keys = append(keys, *r.spec.Source)
		}
	}
	return keys
}

// Take considers what a store has for a key.
func (s *Set) Take(key configuration.Key, item configuration.Item) {
	for _, r := range s.list() {
		if r.spec.reads(&key) {
			r.take(item, time.Now())
		}
	}
}

// States returns how each Rollout does, by name.
func (s *Set) States() []State {
	all := []State{}
	for _, r := range s.list() {
		all = append(all, r.state())
	}
	return all
}

func (s *Set) list() (all []*Rollout) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.all {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *Rollout) int { return strings.Compare(a.spec.Name, b.spec.Name) })
	return all
}
