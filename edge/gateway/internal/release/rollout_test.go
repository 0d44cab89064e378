package release

import (
	"maps"
	"strings"
	"testing"

	"github.com/foremesh/foremesh/edge/gateway/internal/configuration"
)

var source = configuration.Key{Store: "releases", Name: "answers"}

func spec() *Spec {
	return &Spec{Name: "answers", At: "a.yaml:1", Variants: []string{"v1", "v2"}, Weights: []int{1, 0}, Source: &source}
}

func item(value string) configuration.Item {
	return configuration.Item{Found: true, Value: value, Version: "7"}
}

func weights(s *Set) map[string]int { return s.States()[0].Weights }

func TestAStoreChangesWeights(t *testing.T) {
	set := &Set{}
	set.Use([]*Spec{spec()})
	if got := weights(set); !maps.Equal(got, map[string]int{"v1": 1, "v2": 0}) {
		t.Errorf("before the store said anything: %v", got)
	}
	set.Take(source, item(`{"weights": {"v1": 95, "v2": 5}}`))
	if got := set.States()[0]; !maps.Equal(got.Weights, map[string]int{"v1": 95, "v2": 5}) || got.From != "store" || got.Version != "7" {
		t.Errorf("got %+v", got)
	}
	set.Take(source, item(`{"weights": {"v2": 5}}`)) // v1 is no more
	if got := weights(set); !maps.Equal(got, map[string]int{"v1": 0, "v2": 5}) {
		t.Errorf("got %v", got)
	}
	set.Take(configuration.Key{Store: "releases", Name: "other"}, item(`{"weights": {"v1": 1}}`))
	if got := weights(set); got["v2"] != 5 {
		t.Errorf("another key's value was taken: %v", got)
	}
	set.Take(source, configuration.Item{})
	if got := set.States()[0]; !maps.Equal(got.Weights, map[string]int{"v1": 1, "v2": 0}) || got.From != "file" {
		t.Errorf("a key that is gone leaves %+v", got)
	}
}

func TestAWrongValueChangesNothing(t *testing.T) {
	for name, c := range map[string]struct{ value, says string }{
		"not JSON":       {"v1=5", "not as it should be"},
		"empty":          {"", "not as it should be"},
		"another field":  {`{"weights": {"v1": 1}, "wieght": 2}`, "wieght"},
		"a name twice":   {`{"weights": {"v1": 1, "v1": 2}}`, "duplicate"},
		"no weights":     {`{}`, `write {"weights"`},
		"unknown":        {`{"weights": {"v3": 1}}`, "'v3' is no variant of this Rollout; use 'v1', 'v2'"},
		"below 0":        {`{"weights": {"v1": -1, "v2": 3}}`, "weight -1 of 'v1'"},
		"too large":      {`{"weights": {"v1": 1000001}}`, "0 to 1000000"},
		"a fraction":     {`{"weights": {"v1": 0.5}}`, "not as it should be"},
		"nobody":         {`{"weights": {"v1": 0}}`, "no variant has a weight above 0"},
		"two values":     {`{"weights": {"v1": 1}} {}`, "not as it should be"},
		"much of it":     {`{"weights": {"` + strings.Repeat("a", 10_000) + `": 1}}`, "is no variant"},
		"an address too": {`{"weights": {"http://169.254.169.254": 1}}`, "is no variant"},
	} {
		set := &Set{}
		set.Use([]*Spec{spec()})
		set.Take(source, item(`{"weights": {"v1": 60, "v2": 40}}`))
		set.Take(source, item(c.value))
		got := set.States()[0]
		if !maps.Equal(got.Weights, map[string]int{"v1": 60, "v2": 40}) || !strings.Contains(got.Refused, c.says) || len(got.Refused) > 1000 {
			t.Errorf("%s: got %+v", name, got)
		}
		set.Take(source, item(`{"weights": {"v1": 50, "v2": 50}}`))
		if got := set.States()[0]; got.Refused != "" || got.Weights["v1"] != 50 {
			t.Errorf("%s: afterwards %+v", name, got)
		}
	}
}

func TestAReloadKeepsWhatTheStoreSaid(t *testing.T) {
	set := &Set{}
	first := spec()
	before := set.Use([]*Spec{first})[first]
	set.Take(source, item(`{"weights": {"v1": 60, "v2": 40}}`))

	same := spec()
	same.At = "a.yaml:9"
	if after := set.Use([]*Spec{same, same})[same]; after != before || set.States()[0].At != "a.yaml:9" {
		t.Errorf("a Rollout that is as it was began anew: %+v", set.States())
	}
	wider := spec()
	wider.Variants, wider.Weights = []string{"v1", "v2", "v3"}, []int{1, 0, 0}
	set.Use([]*Spec{wider})
	if got := weights(set); !maps.Equal(got, map[string]int{"v1": 60, "v2": 40, "v3": 0}) {
		t.Errorf("got %v", got)
	}
	elsewhere := spec()
	elsewhere.Source = &configuration.Key{Store: "releases", Name: "other"}
	set.Use([]*Spec{elsewhere})
	if got := weights(set); !maps.Equal(got, map[string]int{"v1": 1, "v2": 0}) {
		t.Errorf("another key's value was taken: %v", got)
	}
	if set.Use(nil); len(set.States()) != 0 || len(set.Keys()) != 0 {
		t.Error("a Rollout that no rule has is still there")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"weights": {"v1": 95, "v2": 5}, "revision": "2"}`)
	f.Add(`{"weights": {"v1": -1}}`)
	f.Add(`{"weights": {"v1": 1e3}}`)
	f.Fuzz(func(t *testing.T, text string) {
		weights, err := parse(text, []string{"v1", "v2"})
		switch {
		case err != nil && len(err.Error()) > 2000:
			t.Errorf("%d characters to say what is wrong", len(err.Error()))
		case err == nil && (len(weights) != 2 || min(weights[0], weights[1]) < 0 || max(weights[0], weights[1]) > MaxWeight || weights[0]+weights[1] == 0):
			t.Errorf("%q became %v", text, weights)
		}
	})
}
