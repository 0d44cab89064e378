package config

import (
	"cmp"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
)

// route makes rules of an HTTPRoute and attaches them to the listeners that its parentRefs lead to.
func (b *builder) route(r *object[gatewayv1.HTTPRoute]) {
	spec, name := &r.it.Spec, full(r.it.Namespace, r.it.Name)
	if spec.UseDefaultGateways != "" {
		b.refuse(&r.document, []any{"spec", "useDefaultGateways"}, "HTTPRoute '%s': useDefaultGateways is not supported; remove it", name)
	}
	if len(spec.Rules) == 0 {
		b.refuse(&r.document, []any{"spec"}, "HTTPRoute '%s': has no rules; write at least one", name)
	}
	for i, h := range spec.Hostnames {
		if !hostname(string(h)) {
			b.refuse(&r.document, []any{"spec", "hostnames", i}, "HTTPRoute '%s': hostname '%s' is none; use a DNS name in small letters, `*.` may stand before it", name, h)
		}
	}
	var rules []*routes.Rule
	var resolved condition
	names := map[gatewayv1.SectionName]bool{}
	for i := range spec.Rules {
		rule := &compiling{b: b, route: r, index: i, path: []any{"spec", "rules", i}, resolved: &resolved}
		if given := spec.Rules[i].Name; given != nil {
			if names[*given] {
				rule.wrong([]any{"name"}, "another rule has the name '%s' too", *given)
			}
			names[*given] = true
		}
		rules = append(rules, rule.compile(&spec.Rules[i])...)
	}
	if len(b.gateways) == 0 {
		// Whatever Gateway it names: there is this one alone.
		b.attach(b.doors[0], spec.Hostnames, rules)
		return
	}
	if len(spec.ParentRefs) == 0 {
		b.note(&r.document, []any{"spec"}, "HTTPRoute '%s': has no parentRefs, so no Gateway serves it; name one", name)
	}
	status := RouteStatus{Namespace: r.it.Namespace, Name: r.it.Name}
	for i, parent := range spec.ParentRefs {
		accepted, ours := b.parent(r, parent, rules)
		if accepted.reason != "" {
			b.note(&r.document, []any{"spec", "parentRefs", i}, "HTTPRoute '%s': %s", name, accepted.message)
		}
		if !ours {
			continue
		}
		generation := r.it.Generation
		parent.Group, parent.Kind = group(or(parent.Group, gatewayv1.GroupName)), kind(or(parent.Kind, "Gateway"))
		status.Status.Parents = append(status.Status.Parents, gatewayv1.RouteParentStatus{
			ParentRef: parent, ControllerName: ControllerName,
			Conditions: []metav1.Condition{
				accepted.as(string(gatewayv1.RouteConditionAccepted), string(gatewayv1.RouteReasonAccepted), false, generation, b.now),
				resolved.as(string(gatewayv1.RouteConditionResolvedRefs), string(gatewayv1.RouteReasonResolvedRefs), false, generation, b.now),
			},
		})
	}
	b.status.Routes = append(b.status.Routes, status)
}

func kind(name gatewayv1.Kind) *gatewayv1.Kind { return &name }

// compiling is a rule of an HTTPRoute on its way into the table.
type compiling struct {
	b        *builder
	route    *object[gatewayv1.HTTPRoute]
	index    int
	path     []any
	resolved *condition // of the route: the first reference that leads nowhere
}

func (c *compiling) wrong(more []any, format string, args ...any) {
	c.b.refuse(&c.route.document, steps(c.path, more...), "HTTPRoute '%s': rule %d: "+format,
		append([]any{full(c.route.it.Namespace, c.route.it.Name), c.index + 1}, args...)...)
}

// compile returns a Rule for each match.
func (c *compiling) compile(rule *gatewayv1.HTTPRouteRule) []*routes.Rule {
	action := &routes.Action{}
	for i := range rule.BackendRefs {
		backend := c.backend(&rule.BackendRefs[i], i)
		action.Backends = append(action.Backends, backend)
	}
	c.filters(rule, action)
	c.shares(rule, action)
	c.session(rule, action)
	c.times(rule, action)
	matches := rule.Matches
	if len(matches) == 0 {
		matches = []gatewayv1.HTTPRouteMatch{{}}
	}
	var rules []*routes.Rule
	for i := range matches {
		rules = append(rules, &routes.Rule{
			Route: full(c.route.it.Namespace, c.route.it.Name), At: c.route.where(c.path...), Match: c.match(&matches[i], i),
			Action: action, Made: c.route.it.CreationTimestamp.Time,
		})
	}
	return rules
}

var duration = regexp.MustCompile(`^([0-9]{1,5}(h|m|s|ms)){1,4}$`)

func (c *compiling) duration(given *gatewayv1.Duration, path ...any) *time.Duration {
	if given == nil {
		return nil
	}
	d, err := time.ParseDuration(string(*given))
	if err != nil || !duration.MatchString(string(*given)) {
		c.wrong(path, "'%s' is no duration; write it like 10s or 300ms", *given)
		return nil
	}
	return &d
}

// times reads time-outs and retries.
func (c *compiling) times(rule *gatewayv1.HTTPRouteRule, action *routes.Action) {
	if t := rule.Timeouts; t != nil {
		action.Timeout = c.duration(t.Request, "timeouts", "request")
		action.Attempt = c.duration(t.BackendRequest, "timeouts", "backendRequest")
		if a, whole := or(action.Attempt, 0), or(action.Timeout, 0); whole > 0 && a > whole {
			c.wrong([]any{"timeouts", "backendRequest"}, "backendRequest (%s) is longer than request (%s)", a, whole)
		}
	}
	if r := rule.Retry; r != nil {
		action.Retry = &routes.Retry{Attempts: or(r.Attempts, 1), Backoff: or(c.duration(r.Backoff, "retry", "backoff"), 25*time.Millisecond)}
		if n := action.Retry.Attempts; n < 0 || n > 10 {
			c.wrong([]any{"retry", "attempts"}, "attempts is %d; use 0 to 10", n)
		}
		for _, code := range r.Codes {
			if code < 400 || code > 599 {
				c.wrong([]any{"retry", "codes"}, "code %d is no error; use 400 to 599", code)
			}
			action.Retry.Codes = append(action.Retry.Codes, int(code))
		}
	}
}

var methods = []gatewayv1.HTTPMethod{
	gatewayv1.HTTPMethodGet, gatewayv1.HTTPMethodHead, gatewayv1.HTTPMethodPost, gatewayv1.HTTPMethodPut, gatewayv1.HTTPMethodDelete,
	gatewayv1.HTTPMethodConnect, gatewayv1.HTTPMethodOptions, gatewayv1.HTTPMethodTrace, gatewayv1.HTTPMethodPatch,
}

// match reads what a request must be like.
func (c *compiling) match(m *gatewayv1.HTTPRouteMatch, i int) routes.Match {
	at := func(more ...any) []any { return steps([]any{"matches", i}, more...) }
	made := routes.Match{Kind: routes.Prefix, Path: "/"}
	if m.Method != nil {
		if !slices.Contains(methods, *m.Method) {
			c.wrong(at("method"), "method '%s' is not one of HTTP's; methods are in capitals", *m.Method)
		}
		made.Method = string(*m.Method)
	}
	if m.Path != nil {
		c.pathMatch(m.Path, &made, at("path"))
	}
	for j, h := range m.Headers {
		name := http.CanonicalHeaderKey(string(h.Name))
		value := c.value(string(h.Name), name, h.Value, string(or(h.Type, gatewayv1.HeaderMatchExact)), at("headers", j))
		if !slices.ContainsFunc(made.Headers, func(v routes.Value) bool { return v.Name == name }) { // the first of a name counts
			made.Headers = append(made.Headers, value)
		}
	}
	for j, q := range m.QueryParams {
		value := c.value(string(q.Name), string(q.Name), q.Value, string(or(q.Type, gatewayv1.QueryParamMatchExact)), at("queryParams", j))
		if !slices.ContainsFunc(made.Queries, func(v routes.Value) bool { return v.Name == string(q.Name) }) {
			made.Queries = append(made.Queries, value)
		}
	}
	return made
}

func (c *compiling) pathMatch(path *gatewayv1.HTTPPathMatch, into *routes.Match, at []any) {
	value := or(path.Value, "/")
	into.Path = value
	if of := or(path.Type, gatewayv1.PathMatchPathPrefix); of == gatewayv1.PathMatchRegularExpression {
		into.Kind, into.Pattern = routes.Expression, c.expression(value, at)
		return
	} else if of == gatewayv1.PathMatchExact {
		into.Kind = routes.Exact
	} else if of != gatewayv1.PathMatchPathPrefix {
		c.wrong(at, "path type '%s' is not known; use Exact, PathPrefix or RegularExpression", of)
		return
	}
	if bad := badPath(value); bad != "" {
		c.wrong(at, "path '%s' %s", value, bad)
	}
	if into.Kind == routes.Prefix {
		into.Path = cmp.Or(strings.TrimSuffix(value, "/"), "/")
	}
}

// badPath says why no request can have this path, empty if one can.
func badPath(path string) string {
	if !strings.HasPrefix(path, "/") || strings.Contains(path, "//") || strings.ContainsAny(path, "%\\?#\x00") {
		return "must begin with one /, and hold no empty segment, backslash, query or encoding"
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return "must hold no dot segment"
		}
	}
	return ""
}

var token = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+\\-.^_`|~]+$")

func (c *compiling) value(given, name, want, of string, at []any) routes.Value {
	v := routes.Value{Name: name, Want: want}
	if !token.MatchString(given) {
		c.wrong(at, "'%s' is no name of a header or query parameter", given)
	}
	switch of {
	case string(gatewayv1.HeaderMatchExact):
	case string(gatewayv1.HeaderMatchRegularExpression):
		v.Pattern = c.expression(want, at)
	default:
		c.wrong(at, "type '%s' is not known; use Exact or RegularExpression", of)
	}
	return v
}

// expression compiles what must match the whole of something. RE2's time is linear in what it reads.
func (c *compiling) expression(pattern string, at []any) *regexp.Regexp {
	compiled, err := regexp.Compile(`^(?:` + pattern + `)$`)
	if err != nil {
		c.wrong(at, "'%s' is no regular expression (RE2): %v", pattern, err)
		return regexp.MustCompile(`$^`)
	}
	return compiled
}
