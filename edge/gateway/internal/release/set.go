package release

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/configuration"
	"github.com/foremesh/foremesh/edge/gateway/internal/private"
)

// Set is the Rollouts of a table.
type Set struct {
	State private.Folder // what they know is kept there over a restart; set once

	mu  sync.Mutex
	all map[*Spec]*Rollout // nil: never used

	saving sync.Mutex
	saved  []byte
}

// Use makes a Rollout of each spec. One whose spec is as it was goes on; one that reads the same key as before keeps what
// that said. The first use goes on from what was kept.
func (s *Set) Use(specs []*Spec) map[*Spec]*Rollout {
	next := s.use(specs)
	s.save()
	return next
}

func (s *Set) use(specs []*Spec) map[*Spec]*Rollout {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.known()
	now, next := time.Now(), map[*Spec]*Rollout{}
	for _, spec := range specs {
		if next[spec] != nil {
			continue
		}
		made := begin(spec, now, s.save)
		for before, rollout := range s.all {
			if before.equal(spec) {
				made = rollout
				made.mu.Lock()
				made.at = spec.At
				made.mu.Unlock()
			}
		}
		if before := known[spec.Name]; before != nil && made.spec == spec {
			made.inherit(before, now)
		}
		next[spec] = made
	}
	s.all = next
	return next
}

// memory is what a Rollout knows that no folder says. It outlives another Spec of the same name, and a restart.
type memory struct {
	Spec   *Spec
	Item   configuration.Item // the last of the store that was not wrong
	Rolled *rollBack          `json:",omitempty"`
}

const file = "rollouts.json"

// known is what the Rollouts of before know, by name.
func (s *Set) known() map[string]*memory {
	all := map[string]*memory{}
	for _, r := range s.all {
		all[r.spec.Name] = r.remember()
	}
	if s.all != nil {
		return all
	}
	var kept []*memory
	if s.State.Load(file, &kept) {
		for _, one := range kept {
			if one != nil && one.Spec != nil {
				all[one.Spec.Name] = one
			}
		}
	}
	return all
}

func (r *Rollout) remember() *memory {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := &memory{Spec: r.spec, Item: r.taken}
	if r.rolled != nil {
		rolled := *r.rolled
		m.Rolled = &rolled
	}
	return m
}

// inherit takes over what the one before it knew: what the same key said, and that the same canary was rolled back, which
// another spec is a reason to try again, when its cool-down is over.
func (r *Rollout) inherit(before *memory, now time.Time) {
	if r.spec.Source != nil && before.Spec.reads(r.spec.Source) {
		r.take(before.Item, now)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if g, rolled := r.spec.Guard, before.Rolled; g != nil && rolled != nil && r.spec.Variants[g.Canary] == rolled.Canary {
		r.rolled = rolled
		r.rolled.Changed = rolled.Changed || !before.Spec.equal(r.spec)
	}
	r.settle(now)
}

// save keeps what the Rollouts know, if it is another than before.
func (s *Set) save() {
	if s.State == "" {
		return
	}
	s.saving.Lock()
	defer s.saving.Unlock()
	known := []*memory{}
	for _, r := range s.list() {
		if m := r.remember(); m.Rolled != nil || m.Item.Found {
			known = append(known, m)
		}
	}
	document, err := json.Marshal(known)
	if err == nil && !bytes.Equal(document, s.saved) && s.State.Save(file, json.RawMessage(document)) {
		s.saved = document
	}
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
	s.save()
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
