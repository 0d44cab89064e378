package release

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
)

// MaxWeight is the largest weight, as Gateway API has it.
const MaxWeight = 1_000_000

// value is what a store holds for a Rollout.
type value struct {
	Weights  map[string]int `json:"weights"`  // by variant; one that is left out gets nothing
	Revision string         `json:"revision"` // any text; another one makes the same weights another value
}

// parse reads a value for these variants, and returns their weights in the same order.
func parse(text string, variants []string) ([]int, error) {
	const form = `write {"weights": {"NAME": 95, ...}}`
	var v value
	if err := json.Unmarshal([]byte(text), &v, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("the value %.200q is not as it should be; %s: %w", text, form, err)
	}
	if len(v.Weights) == 0 {
		return nil, fmt.Errorf("the value %.200q has no weights; %s", text, form)
	}
	weights, total := make([]int, len(variants)), 0
	for name, weight := range v.Weights {
		at := slices.Index(variants, name)
		if at < 0 {
			return nil, fmt.Errorf("'%.100s' is no variant of this Rollout; use '%s'", name, strings.Join(variants, "', '"))
		}
		if weight < 0 || weight > MaxWeight {
			return nil, fmt.Errorf("weight %d of '%s' is none; use 0 to %d", weight, name, MaxWeight)
		}
		weights[at] = weight
		total += weight
	}
	if total == 0 {
		return nil, errors.New("no variant has a weight above 0; give one to at least one")
	}
	return weights, nil
}
