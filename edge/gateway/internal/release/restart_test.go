package release

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/configuration"
	"github.com/foremesh/foremesh/edge/gateway/internal/private"
)

// restarted is the Rollouts of another process that has the same folder of state.
func restarted(state private.Folder, spec *Spec) *Set {
	set := &Set{State: state}
	set.Use([]*Spec{spec})
	return set
}

const asked = `{"weights": {"v1": 80, "v2": 20}}`

// badCanary is a folder of state in which the canary of guarded(coolDown) is rolled back, some time ago, while the store asked for 80 to 20.
func badCanary(t *testing.T, coolDown, ago time.Duration) private.Folder {
	t.Helper()
	state := private.Folder(t.TempDir())
	set, s := &Set{State: state}, guarded(coolDown)
	r := set.Use([]*Spec{s})[s]
	set.Take(source, item(asked))
	serve(r, time.Now().Add(-ago), 400, true)
	if !set.States()[0].Guard.RolledBack {
		t.Fatal("not rolled back")
	}
	return state
}

func TestARestartDoesNotBringABadCanaryBack(t *testing.T) {
	out := map[string]int{"v1": 80, "v2": 0}
	for name, c := range map[string]struct {
		ago    time.Duration
		change func(s *Spec)
		then   func(set *Set)
		want   map[string]int
	}{
		"before the store is read":     {time.Hour, nil, nil, out},
		"the store says the same":      {time.Hour, nil, func(s *Set) { s.Take(source, item(asked)) }, out},
		"the store says something bad": {time.Hour, nil, func(s *Set) { s.Take(source, item(`{"weights": {"v9": 1}}`)) }, out},
		"other weights, too early":     {0, nil, func(s *Set) { s.Take(source, item(`{"weights": {"v1": 70, "v2": 30}}`)) }, map[string]int{"v1": 70, "v2": 0}},
		"other weights":                {time.Hour, nil, func(s *Set) { s.Take(source, item(`{"weights": {"v1": 70, "v2": 30}}`)) }, map[string]int{"v1": 70, "v2": 30}},
		"the key is gone":              {time.Hour, nil, func(s *Set) { s.Take(source, configuration.Item{}) }, map[string]int{"v1": 90, "v2": 10}},
		"another folder, too early":    {0, func(s *Spec) { s.Weights = []int{50, 50} }, nil, out},
		"another folder":               {time.Hour, func(s *Spec) { s.Weights = []int{50, 50} }, nil, map[string]int{"v1": 80, "v2": 20}},
		"another canary":               {0, func(s *Spec) { s.Variants = []string{"v1", "v3"} }, nil, map[string]int{"v1": 90, "v3": 10}},
		"another Rollout":              {0, func(s *Spec) { s.Name = "questions" }, nil, map[string]int{"v1": 90, "v2": 10}},
	} {
		t.Run(name, func(t *testing.T) {
			state, s := badCanary(t, time.Minute, c.ago), guarded(time.Minute)
			if c.change != nil {
				c.change(s)
			}
			set := restarted(state, s)
			if c.then != nil {
				c.then(set)
			}
			first := set.States()[0].Guard
			only(t, set, c.want)
			// And what became of it is kept as well.
			set = restarted(state, s)
			if c.then != nil {
				c.then(set)
			}
			if again := set.States()[0].Guard; again.RolledBack != first.RolledBack || again.Why != first.Why {
				t.Errorf("after one restart %+v, after two %+v", first, again)
			}
			only(t, set, c.want)
		})
	}
	without := restarted("", guarded(time.Minute))
	only(t, without, map[string]int{"v1": 90, "v2": 10})
}

func TestARestartGoesOnWithWhatTheStoreSaidLast(t *testing.T) {
	state := private.Folder(t.TempDir())
	restarted(state, spec()).Take(source, item(asked))
	if got := weights(restarted(state, spec())); !maps.Equal(got, map[string]int{"v1": 80, "v2": 20}) {
		t.Errorf("got %v", got)
	}
	elsewhere := spec()
	elsewhere.Source = &configuration.Key{Store: "releases", Name: "other"}
	if got := weights(restarted(state, elsewhere)); !maps.Equal(got, map[string]int{"v1": 1, "v2": 0}) {
		t.Errorf("another key's value was taken: %v", got)
	}
}

func TestABrokenStateIsNoState(t *testing.T) {
	for _, text := range []string{"", "{", "[", "null", "[null]", "[{}]", `[{"Spec": {}}]`, `{"Spec": {"Name": "answers"}}`,
		`[{"Spec": {"Name": "answers"}, "Item": {"Found": true, "Value": "x"}, "Rolled": {"Canary": "v9"}}]`} {
		state := private.Folder(t.TempDir())
		if err := os.WriteFile(filepath.Join(string(state), file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		set, s := &Set{State: state}, guarded(time.Minute)
		r := set.Use([]*Spec{s})[s]
		only(t, set, map[string]int{"v1": 90, "v2": 10})
		// It is replaced by what is known next.
		serve(r, time.Now(), 400, true)
		if got := restarted(state, guarded(time.Minute)).States()[0]; !got.Guard.RolledBack {
			t.Errorf("after %q: got %+v", text, got)
		}
	}
}
