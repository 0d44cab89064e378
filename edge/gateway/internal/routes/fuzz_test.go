package routes_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
)

// tokens keeps the alphabet of fuzzed tables small, so that rules meet requests.
var tokens = []string{"/", "a", "b", "/a", "/a/b", "//", "/b/", "a.", "*.", "c.d", ""}

func spell(code []byte) string {
	var s strings.Builder
	for _, c := range code {
		s.WriteString(tokens[int(c)%len(tokens)])
	}
	return s.String()
}

// tableOf makes rules of bytes: a length, then hostname, kind and method, path, header.
func tableOf(code []byte) *routes.Socket {
	l := &routes.Listener{Name: "l"}
	for n := 0; len(code) > 4 && n < 64; n++ {
		size := 4 + int(code[0]%6)
		if size > len(code) {
			break
		}
		one := code[:size]
		code = code[size:]
		m := routes.Match{Kind: []routes.PathKind{routes.Exact, routes.Prefix}[one[1]&1], Path: "/" + strings.TrimPrefix(spell(one[4:]), "/")}
		if m.Kind == routes.Prefix && m.Path != "/" {
			m.Path = strings.TrimSuffix(m.Path, "/")
		}
		if one[1]&2 > 0 {
			m.Method = "GET"
		}
		if one[1]&4 > 0 {
			m.Headers = []routes.Value{{Name: "X-A", Want: string('a' + rune(one[3]%2))}}
		}
		if one[1]&8 > 0 {
			m.Queries = []routes.Value{{Name: "q", Want: string('a' + rune(one[3]%2))}}
		}
		hostname := []string{"", "a.c.d", "*.c.d", "b.c.d", "*.d", "c.d"}[one[2]%6]
		l.Attach(hostname, []*routes.Rule{{Route: "r", Match: m, Action: &routes.Action{}}})
	}
	l.Ready()
	return routes.NewSocket(":80", false, []*routes.Listener{l})
}

// FuzzMatch compares the fast way with Explain, which tries every rule in the order of the specification.
func FuzzMatch(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 3}, "a.c.d", "/a", "GET", "a", "q=a")
	f.Add([]byte{5, 1, 1, 0, 4, 4, 1, 1, 2, 0, 3, 0, 0, 0, 0, 1}, "b.c.d:80", "/a/b/a/b", "POST", "", "")
	f.Add([]byte{0, 1, 0, 0, 0, 15, 4, 1, 1, 4, 7, 2, 1, 3, 3}, "x.y.d", "//", "get", "b", "q=b;q=a")
	f.Add([]byte{}, "", "", "", "", "")
	f.Add([]byte{2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4}, "[::1]:80", "/a/", "GET", "a,b", "%zz")
	f.Fuzz(func(t *testing.T, code []byte, host, path, method, header, query string) {
		s := tableOf(code)
		r := &http.Request{Method: method, Host: host, URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{}}
		if header != "" {
			r.Header["X-A"] = strings.Split(header, ",")
		}
		matched, explained := s.Match(r), s.Explain(r).Rule
		if matched != explained {
			t.Errorf("Match takes %+v, Explain %+v", matched, explained)
		}
	})
}
