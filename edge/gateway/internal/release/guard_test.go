package release

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/canary"
	"github.com/foremesh/foremesh/edge/gateway/internal/configuration"
)

func guarded(coolDown time.Duration) *Spec {
	s := spec()
	s.Weights, s.Guard = []int{90, 10}, &Guard{Stable: 0, Canary: 1, Rules: canary.Default, CoolDown: coolDown}
	return s
}

// serve has both variants answer so often, the canary with this share of failures.
func serve(r *Rollout, now time.Time, n int, failing bool) {
	for i := range n {
		r.Observe(now, 0, false, time.Millisecond)
		r.Observe(now, 1, failing && i%2 == 0, time.Millisecond)
	}
}

func only(t *testing.T, s *Set, want map[string]int) State {
	t.Helper()
	state := s.States()[0]
	if !maps.Equal(state.Weights, want) {
		t.Helper()
		t.Errorf("got %+v, want %v", state, want)
	}
	return state
}

func TestABadCanaryIsRolledBack(t *testing.T) {
	set, s := &Set{}, guarded(time.Hour)
	r := set.Use([]*Spec{s})[s]
	now := time.Now()
	serve(r, now, 400, false)
	if state := only(t, set, map[string]int{"v1": 90, "v2": 10}); state.Guard.RolledBack || state.Guard.Verdict.Look == 0 || state.Guard.Verdict.Why != "no worse than chance allows" {
		t.Errorf("got %+v", state.Guard)
	}
	serve(r, now, 400, true)
	state := only(t, set, map[string]int{"v1": 90, "v2": 0})
	if g := state.Guard; !g.RolledBack || g.Canary != "v2" || !strings.Contains(g.Why, "of the canary's") || g.Until.Sub(*g.At) != time.Hour {
		t.Errorf("got %+v", g)
	}
	// Other weights do not bring it back while the cool-down lasts.
	set.Take(source, item(`{"weights": {"v1": 50, "v2": 50}}`))
	only(t, set, map[string]int{"v1": 50, "v2": 0})
	// Nor is there nobody left.
	set.Take(source, item(`{"weights": {"v2": 1}}`))
	only(t, set, map[string]int{"v1": 1, "v2": 0})
}

func TestACanaryComesBackByOtherWeightsAfterItsCoolDown(t *testing.T) {
	coolDown := time.Minute
	for name, c := range map[string]struct {
		change func(set *Set)
		want   map[string]int
	}{
		"nothing changed":   {func(*Set) {}, map[string]int{"v1": 90, "v2": 0}},
		"a bad value":       {func(s *Set) { s.Take(source, item(`{"weights": {"v9": 1}}`)) }, map[string]int{"v1": 90, "v2": 0}},
		"and back":          {func(s *Set) { s.Take(source, item(`{"weights": {"v9": 1}}`)); s.Take(source, configuration.Item{}) }, map[string]int{"v1": 90, "v2": 0}},
		"other weights":     {func(s *Set) { s.Take(source, item(`{"weights": {"v1": 99, "v2": 1}}`)) }, map[string]int{"v1": 99, "v2": 1}},
		"the same, revised": {func(s *Set) { s.Take(source, item(`{"weights": {"v1": 90, "v2": 10}, "revision": "2"}`)) }, map[string]int{"v1": 90, "v2": 10}},
	} {
		set, s := &Set{}, guarded(coolDown)
		r := set.Use([]*Spec{s})[s]
		past := time.Now().Add(-2 * coolDown)
		serve(r, past, 400, true)
		if !set.States()[0].Guard.RolledBack {
			t.Fatal("not rolled back")
		}
		c.change(set)
		state := only(t, set, c.want)
		if back := c.want["v2"] > 0; state.Guard.RolledBack == back {
			t.Errorf("%s: got %+v", name, state.Guard)
		} else if back {
			serve(r, time.Now(), 400, true) // and it is watched as before
			if !set.States()[0].Guard.RolledBack {
				t.Errorf("%s: a canary that came back is watched no more", name)
			}
		}
	}
}

func TestACoolDownThatEndsByItself(t *testing.T) {
	set, s := &Set{}, guarded(time.Minute)
	r := set.Use([]*Spec{s})[s]
	now := time.Now()
	serve(r, now, 400, true)
	set.Take(source, item(`{"weights": {"v1": 99, "v2": 1}}`))
	only(t, set, map[string]int{"v1": 99, "v2": 0})
	r.Observe(now.Add(59*time.Second), 0, false, 0)
	only(t, set, map[string]int{"v1": 99, "v2": 0})
	r.Observe(now.Add(time.Minute), 0, false, 0)
	only(t, set, map[string]int{"v1": 99, "v2": 1})
}

func TestAReloadDoesNotBringABadCanaryBack(t *testing.T) {
	set, s := &Set{}, guarded(time.Hour)
	serve(set.Use([]*Spec{s})[s], time.Now(), 400, true)
	other := guarded(time.Hour)
	other.Weights = []int{50, 50}
	set.Use([]*Spec{other})
	only(t, set, map[string]int{"v1": 50, "v2": 0})
	// Another canary has done nothing wrong.
	third := guarded(time.Hour)
	third.Variants = []string{"v1", "v3"}
	set.Use([]*Spec{third})
	only(t, set, map[string]int{"v1": 90, "v3": 10})
}

func TestChangedSharesBeginAWindowAnew(t *testing.T) {
	set, s := &Set{}, guarded(time.Hour)
	r := set.Use([]*Spec{s})[s]
	now := time.Now()
	for range 99 {
		r.Observe(now, 1, true, 0)
		r.Observe(now, 0, false, 0)
	}
	set.Take(source, item(`{"weights": {"v1": 50, "v2": 50}}`))
	r.Observe(now, 0, false, 0)
	r.Observe(now, 1, true, 0)
	if only(t, set, map[string]int{"v1": 50, "v2": 50}).Guard.RolledBack {
		t.Error("judged by what was before the shares changed")
	}
}
