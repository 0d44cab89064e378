package routes

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

// Load reads every *.yaml and *.yml in dir. An error names the file and line and says what to do; what is in a file
// and not supported is such an error, and never left out in silence.
func Load(dir string) (*Table, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("routes: %w; set FOREMESH_ROUTES to a folder of YAML files", err)
	}
	loader := &loader{coalesce: map[string]*CoalesceSpec{}}
	for _, entry := range entries { // sorted by name
		if entry.IsDir() || !slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(entry.Name())) {
			continue
		}
		if err := loader.file(filepath.Join(dir, entry.Name())); err != nil {
			return nil, err
		}
	}
	var rules []Rule
	for i := range loader.routes {
		more, err := loader.httpRoute(&loader.routes[i])
		if err != nil {
			return nil, err
		}
		rules = append(rules, more...)
	}
	if len(rules) == 0 {
		return nil, fmt.Errorf("%s: no *.yaml file with an HTTPRoute in it, so nothing would be served; set FOREMESH_ROUTES to a folder of them", dir)
	}
	return newTable(rules), nil
}

type parsedRoute struct {
	document
	gatewayv1.HTTPRoute
}

type loader struct {
	coalesce map[string]*CoalesceSpec
	routes   []parsedRoute
}

func (l *loader) file(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("routes: %w", err)
	}
	for _, d := range documents(path, raw) {
		if err := l.document(d); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) document(d document) error {
	if err := d.parse(); err != nil {
		return err
	}
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(d.raw, &kind); err != nil {
		return d.at(0, "not an object with apiVersion and kind: %w", err)
	}
	switch kind.APIVersion + "/" + kind.Kind {
	case "gateway.networking.k8s.io/v1/HTTPRoute":
		route := parsedRoute{document: d}
		if err := yaml.UnmarshalStrict(d.raw, &route.HTTPRoute); err != nil {
			return d.blame(kind.Kind, err)
		}
		if route.Name == "" {
			return d.at(0, "HTTPRoute without metadata.name; metrics need one")
		}
		l.routes = append(l.routes, route)
	case Group + "/v1alpha1/Coalesce":
		var c Coalesce
		if err := yaml.UnmarshalStrict(d.raw, &c); err != nil {
			return d.blame(kind.Kind, err)
		}
		s := c.Spec
		if !strings.HasPrefix(s.Path, "/") || s.MaxBatch < 1 || s.MaxInFlight < 1 || s.MaxQueue < 1 || s.Timeout.Duration <= 0 {
			return d.at(d.line("spec"), "Coalesce '%s': spec needs path (with a leading /), maxBatch, maxInFlight, maxQueue and timeout, all positive", c.Name)
		}
		if s.Eager < 0 || s.Eager > s.MaxInFlight {
			return d.at(d.line("spec", "eager"), "Coalesce '%s': eager is %d; use 1 to maxInFlight (%d), or leave it out", c.Name, s.Eager, s.MaxInFlight)
		}
		if _, twice := l.coalesce[c.Name]; twice || c.Name == "" {
			return d.at(d.line("metadata", "name"), "Coalesce '%s': needs a metadata.name that no other one has", c.Name)
		}
		l.coalesce[c.Name] = &c.Spec
	default:
		return d.at(d.line("kind"), "kind '%s' of '%s' is not known here; use HTTPRoute (gateway.networking.k8s.io/v1) or Coalesce (%s/v1alpha1)",
			kind.Kind, kind.APIVersion, Group)
	}
	return nil
}

// httpRoute turns an HTTPRoute into one Rule for each of its matches.
func (l *loader) httpRoute(r *parsedRoute) ([]Rule, error) {
	wrong := func(line int, format string, args ...any) error {
		return r.at(line, "HTTPRoute '%s': %w", r.Name, fmt.Errorf(format, args...))
	}
	// Served all the same, a route would do something else than it says.
	switch {
	case len(r.Spec.Hostnames) > 0:
		return nil, wrong(r.line("spec", "hostnames"), "hostnames are not supported; remove them, every host is served")
	case len(r.Spec.ParentRefs) > 0:
		return nil, wrong(r.line("spec", "parentRefs"), "parentRefs are not supported; remove them, this gateway serves every route of its folder")
	case r.Spec.UseDefaultGateways != "":
		return nil, wrong(r.line("spec", "useDefaultGateways"), "useDefaultGateways is not supported; remove it")
	case len(r.Spec.Rules) == 0:
		return nil, wrong(r.line("spec"), "has no rules; write at least one")
	}
	var rules []Rule
	for i := range r.Spec.Rules {
		more, key, err := l.rule(r.Name, &r.Spec.Rules[i])
		if err != nil {
			return nil, wrong(r.line(append([]any{"spec", "rules", i}, key...)...), "rule %d: %w", i+1, err)
		}
		rules = append(rules, more...)
	}
	return rules, nil
}

// rule returns a Rule for each match, or an error and the path from the rule to what is wrong.
func (l *loader) rule(route string, rule *gatewayv1.HTTPRouteRule) ([]Rule, []any, error) {
	switch {
	case rule.Timeouts != nil:
		return nil, []any{"timeouts"}, fmt.Errorf("timeouts are not supported; remove them, see FOREMESH_BACKEND_TIMEOUT")
	case rule.Retry != nil:
		return nil, []any{"retry"}, fmt.Errorf("retry is not supported; remove it, see FOREMESH_RETRY_BUDGET")
	case rule.SessionPersistence != nil:
		return nil, []any{"sessionPersistence"}, fmt.Errorf("sessionPersistence is not supported; remove it")
	case len(rule.BackendRefs) != 1:
		return nil, []any{"backendRefs"}, fmt.Errorf("has %d backendRefs; exactly one is supported", len(rule.BackendRefs))
	}
	app, err := daprApp(rule.BackendRefs[0])
	if err != nil {
		return nil, []any{"backendRefs"}, err
	}
	common := Rule{Route: route, Backend: Backend{App: app}}
	if len(rule.Filters) > 1 {
		return nil, []any{"filters"}, fmt.Errorf("has %d filters; at most one, a Coalesce, is supported", len(rule.Filters))
	}
	for _, filter := range rule.Filters {
		ref := filter.ExtensionRef
		if filter.Type != gatewayv1.HTTPRouteFilterExtensionRef || ref == nil || string(ref.Group) != Group || ref.Kind != "Coalesce" {
			return nil, []any{"filters"}, fmt.Errorf("filter '%s' is not supported; only an ExtensionRef to {group: %s, kind: Coalesce} is", filter.Type, Group)
		}
		spec, found := l.coalesce[string(ref.Name)]
		if !found {
			return nil, []any{"filters"}, fmt.Errorf("Coalesce '%s' is in no file of this folder; write it, or correct the name", ref.Name)
		}
		common.Coalesce = spec
	}
	matches := rule.Matches
	if len(matches) == 0 {
		matches = []gatewayv1.HTTPRouteMatch{{}}
	}
	var rules []Rule
	for i := range matches {
		one := common
		if err := one.match(&matches[i]); err != nil {
			return nil, []any{"matches", i}, err
		}
		rules = append(rules, one)
	}
	return rules, nil, nil
}

// daprApp returns the app-id that a reference names; anything else about it is refused.
func daprApp(ref gatewayv1.HTTPBackendRef) (string, error) {
	if ref.Group == nil || string(*ref.Group) != Group || ref.Kind == nil || *ref.Kind != "DaprApp" {
		return "", fmt.Errorf("backendRef '%s' must be {group: %s, kind: DaprApp}", ref.Name, Group)
	}
	if name := string(ref.Name); name == "" || strings.ContainsAny(name, "/?#%. ") {
		return "", fmt.Errorf("backendRef '%s' is no Dapr app-id; use letters, digits and dashes", name)
	}
	if ref.Namespace != nil || ref.Port != nil || ref.Weight != nil || len(ref.Filters) > 0 {
		return "", fmt.Errorf("backendRef '%s': namespace, port, weight and filters are not supported; remove them", ref.Name)
	}
	return string(ref.Name), nil
}

var methods = []gatewayv1.HTTPMethod{
	gatewayv1.HTTPMethodGet, gatewayv1.HTTPMethodHead, gatewayv1.HTTPMethodPost, gatewayv1.HTTPMethodPut, gatewayv1.HTTPMethodDelete,
	gatewayv1.HTTPMethodConnect, gatewayv1.HTTPMethodOptions, gatewayv1.HTTPMethodTrace, gatewayv1.HTTPMethodPatch,
}

// match sets what a request must be like.
func (r *Rule) match(m *gatewayv1.HTTPRouteMatch) error {
	if len(m.Headers) > 0 || len(m.QueryParams) > 0 {
		return fmt.Errorf("header and query matches are not supported; remove them")
	}
	if m.Method != nil {
		if !slices.Contains(methods, *m.Method) {
			return fmt.Errorf("method '%s' is not one of HTTP's; methods are in capitals", *m.Method)
		}
		r.Method = string(*m.Method)
	}
	r.Path = "/"
	if m.Path == nil {
		return nil
	}
	if m.Path.Value != nil {
		r.Path = *m.Path.Value
	}
	if !strings.HasPrefix(r.Path, "/") || strings.Contains(r.Path, "//") || strings.ContainsAny(r.Path, "%\\?#") {
		return fmt.Errorf("path '%s' must begin with one /, and hold no empty segment, backslash, query or encoding", r.Path)
	}
	switch of := m.Path.Type; {
	case of == nil || *of == gatewayv1.PathMatchPathPrefix:
		r.Path = cmp.Or(strings.TrimSuffix(r.Path, "/"), "/")
	case *of == gatewayv1.PathMatchExact:
		r.Exact = true
	default:
		return fmt.Errorf("path type '%s' is not supported; use Exact or PathPrefix", *of)
	}
	return nil
}
