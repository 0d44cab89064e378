package routes_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
)

// on is a rule for tests; its name says what it is.
func on(name string, m routes.Match) *routes.Rule {
	if m.Path == "" {
		m.Path = "/"
	}
	if m.Kind == routes.Expression {
		m.Pattern = regexp.MustCompile("^(?:" + m.Path + ")$")
	}
	return &routes.Rule{Route: name, Match: m, Action: &routes.Action{}}
}

func socket(hostnames map[string][]*routes.Rule) *routes.Socket {
	l := &routes.Listener{Name: "edge/http"}
	for hostname, rules := range hostnames {
		l.Attach(hostname, rules)
	}
	l.Ready()
	return routes.NewSocket(":80", false, []*routes.Listener{l})
}

func get(method, target string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// want checks Match, and that Explain, which goes another way, says the same.
func want(t *testing.T, s *routes.Socket, r *http.Request, name string) {
	t.Helper()
	got, explained := "", ""
	if rule := s.Match(r); rule != nil {
		got = rule.Route
	}
	if e := s.Explain(r); e.Rule != nil {
		explained = e.Rule.Route
	}
	if got != name || explained != name {
		t.Errorf("%s %s %s %v goes to '%s', by Explain to '%s', want '%s'", r.Method, r.Host, r.URL, r.Header, got, explained, name)
	}
}

func TestPrecedenceIsGatewayAPIs(t *testing.T) {
	header := func(names ...string) (all []routes.Value) {
		for _, n := range names {
			all = append(all, routes.Value{Name: n, Want: "1"})
		}
		return all
	}
	old := on("old", routes.Match{Kind: routes.Prefix, Path: "/age"})
	old.Made = time.Unix(1, 0)
	young := on("young", routes.Match{Kind: routes.Prefix, Path: "/age"})
	young.Made = time.Unix(2, 0)
	s := socket(map[string][]*routes.Rule{"": {
		on("root", routes.Match{Kind: routes.Prefix}),
		on("v1", routes.Match{Kind: routes.Prefix, Path: "/v1"}),
		on("v1-query", routes.Match{Kind: routes.Prefix, Path: "/v1", Queries: header("q")}),
		on("v1-header", routes.Match{Kind: routes.Prefix, Path: "/v1", Headers: header("X-A")}),
		on("v1-two-headers", routes.Match{Kind: routes.Prefix, Path: "/v1", Headers: header("X-A", "X-B")}),
		on("v1-get", routes.Match{Kind: routes.Prefix, Path: "/v1", Method: "GET"}),
		on("number", routes.Match{Kind: routes.Expression, Path: "/v1/[0-9]+"}),
		on("exact", routes.Match{Kind: routes.Exact, Path: "/v1/7"}),
		on("deep", routes.Match{Kind: routes.Prefix, Path: "/v1/a/b/c", Method: "PUT"}),
		young, old,
	}})
	for _, c := range []struct {
		r    *http.Request
		name string
	}{
		{get("POST", "/"), "root"}, {get("POST", "/v2"), "root"}, {get("POST", "/v1"), "v1"}, {get("POST", "/v1/"), "v1"}, {get("POST", "/v10"), "root"},
		{get("POST", "/v1/x/y"), "v1"},
		{get("POST", "/v1?q=1"), "v1-query"}, {get("POST", "/v1?q=2"), "v1"}, {get("POST", "/v1?q=2&q=1"), "v1"}, // the first of a name counts
		{get("POST", "/v1?q=1", "X-A", "1"), "v1-header"},                                                 // a header before a query
		{get("POST", "/v1", "X-A", "1", "X-B", "1"), "v1-two-headers"},                                    // more before fewer
		{get("POST", "/v1", "X-A", "1", "X-A", "2"), "v1"},                                                // joined, it is another value
		{get("GET", "/v1", "X-A", "1", "X-B", "1"), "v1-get"},                                             // a method before headers
		{get("GET", "/v1/8"), "number"}, {get("GET", "/v1/7"), "exact"}, {get("GET", "/v1/7/"), "v1-get"}, // the whole path
		{get("PUT", "/v1/a/b/c/d"), "deep"}, {get("POST", "/v1/a/b/c/d"), "v1"}, {get("PUT", "/v1/a/b"), "v1"}, // back up where a deeper one does not fit
		{get("GET", "/age"), "old"},
	} {
		want(t, s, c.r, c.name)
	}
}

func TestHostnames(t *testing.T) {
	rule := func(name string) []*routes.Rule {
		return []*routes.Rule{on(name, routes.Match{Kind: routes.Exact, Path: "/a"})}
	}
	s := socket(map[string][]*routes.Rule{
		"api.example.com": rule("exact"), "*.example.com": rule("wildcard"), "*.eu.example.com": rule("longer wildcard"),
		"": {on("any", routes.Match{Kind: routes.Prefix})},
	})
	for target, name := range map[string]string{
		"http://api.example.com/a": "exact", "http://API.Example.COM/a": "exact", "http://api.example.com:8080/a": "exact",
		"http://x.example.com/a": "wildcard", "http://x.y.example.com/a": "wildcard", "http://x.eu.example.com/a": "longer wildcard",
		"http://eu.example.com/a": "wildcard", "http://example.com/a": "any", "http://badexample.com/a": "any", "http://api.example.com.evil.org/a": "any",
		"http://api.example.com/b": "any", // what a more specific host has no rule for
		"http://[::1]:80/a":        "any", "http://10.0.0.1/a": "any",
	} {
		want(t, s, get("GET", target), name)
	}
	only := socket(map[string][]*routes.Rule{"api.example.com": rule("exact")})
	for _, target := range []string{"http://example.com/a", "http://a.api.example.com/a", "http://api.example.com./a", "http://api.example.com/A"} {
		want(t, only, get("GET", target), "")
	}
}

func TestListenersAreApart(t *testing.T) {
	one, other := &routes.Listener{Name: "one", Hostname: "a.example.com"}, &routes.Listener{Name: "other", Hostname: "*.example.com"}
	one.Attach("a.example.com", []*routes.Rule{on("one", routes.Match{Kind: routes.Exact, Path: "/one"})})
	other.Attach("*.example.com", []*routes.Rule{on("other", routes.Match{Kind: routes.Prefix})})
	one.Ready()
	other.Ready()
	s := routes.NewSocket(":80", false, []*routes.Listener{one, other})
	want(t, s, get("GET", "http://a.example.com/one"), "one")
	want(t, s, get("GET", "http://b.example.com/one"), "other")
	want(t, s, get("GET", "http://a.example.com/other"), "") // the better listener has the host, whatever its routes are
	want(t, s, get("GET", "http://example.com/"), "")
}

func TestIntersect(t *testing.T) {
	for _, c := range []struct {
		listener, route, common string
		found                   bool
	}{
		{"", "", "", true}, {"", "a.b", "a.b", true}, {"a.b", "", "a.b", true}, {"a.b", "a.b", "a.b", true}, {"a.b", "c.b", "", false},
		{"*.b", "a.b", "a.b", true}, {"a.b", "*.b", "a.b", true}, {"*.b", "b", "", false}, {"*.b", "*.a.b", "*.a.b", true}, {"*.a.b", "*.b", "*.a.b", true},
		{"*.b", "x.y.b", "x.y.b", true}, {"*.b", "ab", "", false}, {"*.a.b", "*.c.b", "", false},
	} {
		if common, found := routes.Intersect(c.listener, c.route); common != c.common || found != c.found {
			t.Errorf("%s and %s have '%s' in common (%v), want '%s' (%v)", c.listener, c.route, common, found, c.common, c.found)
		}
	}
}

// many is a table in which a tenth of the rules are prefixes, and every tenth host has its own.
func many(n int) *routes.Socket {
	l := &routes.Listener{Name: "edge/http"}
	for i := range n {
		m := routes.Match{Kind: routes.Exact, Path: fmt.Sprintf("/v1/things/%d", i)}
		if i%10 == 0 {
			m = routes.Match{Kind: routes.Prefix, Path: fmt.Sprintf("/v1/folders/%d", i)}
		}
		l.Attach(fmt.Sprintf("h%d.example.com", i%(n/10)), []*routes.Rule{on("r", m)})
	}
	l.Attach("*.example.com", []*routes.Rule{on("rest", routes.Match{Kind: routes.Prefix})})
	l.Ready()
	return routes.NewSocket(":80", false, []*routes.Listener{l})
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		s := many(n)
		for name, r := range map[string]*http.Request{
			"exact":  get("GET", fmt.Sprintf("http://h%d.example.com/v1/things/%d", (n-1)%(n/10), n-1)),
			"prefix": get("GET", "http://h0.example.com/v1/folders/0/a/b"),
			"rest":   get("GET", "http://other.example.com/v1/things/1"),
		} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if s.Match(r) == nil {
						b.Fatal("no rule matched")
					}
				}
			})
		}
	}
}
