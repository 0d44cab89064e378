// Package routes reads Gateway API objects from a folder and matches requests against them.
package routes

import (
	"sort"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Group is the API group of what Gateway API has no kind for.
const Group = "foremesh.dev"

// Coalesce carries concurrent requests of a route in one call (an ExtensionRef filter of a rule).
type Coalesce struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              CoalesceSpec `json:"spec"`
}

// CoalesceSpec bounds the calls; every field but eager is required.
type CoalesceSpec struct {
	Path        string          `json:"path"`        // of the backend, takes {"items": [...]}
	MaxBatch    int             `json:"maxBatch"`    // requests in a call
	MaxInFlight int             `json:"maxInFlight"` // calls at once
	MaxQueue    int             `json:"maxQueue"`    // requests that wait for a call
	Eager       int             `json:"eager"`       // calls that share what there is to do; more go when half a batch waits; 0: all
	Timeout     metav1.Duration `json:"timeout"`     // of a call
}

// Backend is where a rule sends its requests.
type Backend struct {
	App string // Dapr app-id
}

// Rule is one match of one HTTPRoute rule, ready to be tried.
type Rule struct {
	Route    string // name of the HTTPRoute, for metrics
	Exact    bool
	Path     string // a prefix has no slash at its end, except the root
	Method   string // empty: any
	Backend  Backend
	Coalesce *CoalesceSpec // nil: forwarded as it is
}

// Table holds rules in the order in which they are tried.
type Table struct{ rules []Rule }

// newTable sorts by Gateway API's precedence: Exact before PathPrefix, the longer path, then the one with a method;
// ties keep their order, which is that of the files' names and of the lines in them.
func newTable(rules []Rule) *Table {
	sort.SliceStable(rules, func(i, j int) bool {
		a, b := rules[i], rules[j]
		if a.Exact != b.Exact {
			return a.Exact
		}
		if len(a.Path) != len(b.Path) {
			return len(a.Path) > len(b.Path)
		}
		return a.Method != "" && b.Method == ""
	})
	return &Table{rules}
}

// Match returns the first rule for a method and a decoded path, nil if there is none. The pointer is into Rules.
func (t *Table) Match(method, path string) *Rule {
	for i := range t.rules {
		rule := &t.rules[i]
		if rule.Method != "" && rule.Method != method {
			continue
		}
		if rule.Exact && path == rule.Path || !rule.Exact && hasPrefix(path, rule.Path) {
			return rule
		}
	}
	return nil
}

// Rules returns the rules in order.
func (t *Table) Rules() []Rule { return t.rules }

// hasPrefix matches whole path elements: /v1 matches /v1, /v1/ and /v1/models, not /v10.
func hasPrefix(path, prefix string) bool {
	if prefix == "/" {
		return true
	}
	return strings.HasPrefix(path, prefix) && (len(path) == len(prefix) || path[len(prefix)] == '/')
}
