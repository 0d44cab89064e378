// Package routes reads Gateway API objects from a folder and matches requests against them.
package routes

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

// Group is the API group of what Gateway API has no kind for.
const Group = "foremesh.dev"

// Coalesce carries concurrent requests of a route in one call (an ExtensionRef filter of a rule).
type Coalesce struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              CoalesceSpec `json:"spec"`
}

// CoalesceSpec bounds the calls; every field is required.
type CoalesceSpec struct {
	Path        string          `json:"path"`        // of the backend, takes {"items": [...]}
	MaxBatch    int             `json:"maxBatch"`    // requests in a call
	MaxInFlight int             `json:"maxInFlight"` // calls at once
	MaxQueue    int             `json:"maxQueue"`    // requests that wait for a call
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
	Path     string
	Method   string // empty: any
	Backend  Backend
	Coalesce *CoalesceSpec // nil: forwarded as it is
}

// Table holds rules in the order in which they are tried.
type Table struct{ rules []Rule }

// Match returns the first rule for a method and a decoded path, nil if there is none.
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

// hasPrefix matches whole path elements: /v1 matches /v1 and /v1/models, not /v10.
func hasPrefix(path, prefix string) bool {
	prefix = strings.TrimSuffix(prefix, "/")
	return strings.HasPrefix(path, prefix) && (len(path) == len(prefix) || path[len(prefix)] == '/')
}

// Load reads every *.yaml below dir. An error names the file and line and says what to do.
func Load(dir string) (*Table, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: no *.yaml file with an HTTPRoute in it; set FOREMESH_ROUTES to a folder of them", dir)
	}
	sort.Strings(files)
	loader := &loader{coalesce: map[string]*CoalesceSpec{}}
	for _, file := range files {
		if err := loader.file(file); err != nil {
			return nil, err
		}
	}
	return loader.table()
}

type document struct {
	file string
	line int
	raw  []byte
}

func (d document) errorf(format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w", d.file, d.line, fmt.Errorf(format, args...))
}

type loader struct {
	coalesce map[string]*CoalesceSpec
	routes   []struct {
		document
		route gatewayv1.HTTPRoute
	}
}

func (l *loader) file(path string) error {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", path, err)
	} else if err != nil {
		return err
	}
	line := 1
	for _, part := range bytes.Split(append([]byte("\n"), raw...), []byte("\n---")) {
		if len(bytes.TrimSpace(stripComments(part))) > 0 {
			if err := l.document(document{path, line, part}); err != nil {
				return err
			}
		}
		line += bytes.Count(part, []byte("\n")) + 1
	}
	return nil
}

func stripComments(part []byte) []byte {
	var kept [][]byte
	for _, line := range bytes.Split(part, []byte("\n")) {
		if trimmed := bytes.TrimSpace(line); len(trimmed) > 0 && trimmed[0] != '#' {
			kept = append(kept, line)
		}
	}
	return bytes.Join(kept, []byte("\n"))
}

func (l *loader) document(d document) error {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(d.raw, &kind); err != nil {
		return d.errorf("not YAML: %w", err)
	}
	switch kind.APIVersion + "/" + kind.Kind {
	case "gateway.networking.k8s.io/v1/HTTPRoute":
		var route gatewayv1.HTTPRoute
		if err := yaml.UnmarshalStrict(d.raw, &route); err != nil {
			return d.errorf("HTTPRoute: %w", err)
		}
		l.routes = append(l.routes, struct {
			document
			route gatewayv1.HTTPRoute
		}{d, route})
	case Group + "/v1alpha1/Coalesce":
		var c Coalesce
		if err := yaml.UnmarshalStrict(d.raw, &c); err != nil {
			return d.errorf("Coalesce: %w", err)
		}
		s := c.Spec
		if !strings.HasPrefix(s.Path, "/") || s.MaxBatch < 1 || s.MaxInFlight < 1 || s.MaxQueue < 1 || s.Timeout.Duration <= 0 {
			return d.errorf("Coalesce '%s': spec needs path (with a leading /), maxBatch, maxInFlight, maxQueue and timeout, all positive", c.Name)
		}
		l.coalesce[c.Name] = &c.Spec
	default:
		return d.errorf("kind %q of %q is not known here; HTTPRoute (gateway.networking.k8s.io/v1) and Coalesce (%s/v1alpha1) are", kind.Kind, kind.APIVersion, Group)
	}
	return nil
}

func (l *loader) table() (*Table, error) {
	table := &Table{}
	for _, entry := range l.routes {
		for number, rule := range entry.route.Spec.Rules {
			rules, err := l.rule(entry.route.Name, rule)
			if err != nil {
				return nil, entry.errorf("HTTPRoute '%s', rule %d: %w", entry.route.Name, number+1, err)
			}
			table.rules = append(table.rules, rules...)
		}
	}
	if len(table.rules) == 0 {
		return nil, errors.New("no HTTPRoute has a rule; nothing would be served")
	}
	// Gateway API's precedence: Exact before PathPrefix, the longer path, then the one with a method; ties keep order.
	sort.SliceStable(table.rules, func(i, j int) bool {
		a, b := table.rules[i], table.rules[j]
		if a.Exact != b.Exact {
			return a.Exact
		}
		if len(a.Path) != len(b.Path) {
			return len(a.Path) > len(b.Path)
		}
		return a.Method != "" && b.Method == ""
	})
	return table, nil
}

func (l *loader) rule(route string, rule gatewayv1.HTTPRouteRule) ([]Rule, error) {
	common := Rule{Route: route}
	if len(rule.BackendRefs) != 1 {
		return nil, fmt.Errorf("has %d backendRefs; exactly one is supported", len(rule.BackendRefs))
	}
	ref := rule.BackendRefs[0].BackendObjectReference
	if ref.Group == nil || string(*ref.Group) != Group || ref.Kind == nil || *ref.Kind != "DaprApp" {
		return nil, fmt.Errorf("backendRef '%s' must be {group: %s, kind: DaprApp}", ref.Name, Group)
	}
	common.Backend.App = string(ref.Name)
	for _, filter := range rule.Filters {
		if filter.Type != gatewayv1.HTTPRouteFilterExtensionRef || filter.ExtensionRef == nil || string(filter.ExtensionRef.Group) != Group || filter.ExtensionRef.Kind != "Coalesce" {
			return nil, fmt.Errorf("filter %q is not supported; ExtensionRef to {group: %s, kind: Coalesce} is", filter.Type, Group)
		}
		spec, found := l.coalesce[string(filter.ExtensionRef.Name)]
		if !found {
			return nil, fmt.Errorf("Coalesce '%s' is in no file of this folder", filter.ExtensionRef.Name)
		}
		common.Coalesce = spec
	}
	matches := rule.Matches
	if len(matches) == 0 {
		matches = []gatewayv1.HTTPRouteMatch{{}}
	}
	var rules []Rule
	for _, match := range matches {
		one := common
		one.Path = "/"
		if match.Path != nil {
			if match.Path.Value != nil {
				one.Path = *match.Path.Value
			}
			switch {
			case match.Path.Type == nil || *match.Path.Type == gatewayv1.PathMatchPathPrefix:
			case *match.Path.Type == gatewayv1.PathMatchExact:
				one.Exact = true
			default:
				return nil, fmt.Errorf("path type %q is not supported; Exact and PathPrefix are", *match.Path.Type)
			}
		}
		if !strings.HasPrefix(one.Path, "/") {
			return nil, fmt.Errorf("path %q must begin with /", one.Path)
		}
		if match.Method != nil {
			one.Method = string(*match.Method)
		}
		if len(match.Headers) > 0 || len(match.QueryParams) > 0 {
			return nil, errors.New("header and query matches are not supported")
		}
		rules = append(rules, one)
	}
	return rules, nil
}
