package config_test

import (
	"errors"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/foremesh/foremesh/edge/gateway/internal/config"
)

// FuzzLoad wants of any text a table that can be asked, or problems with a line and something to read.
func FuzzLoad(f *testing.F) {
	shipped, err := os.ReadFile("../../routes/foremesh.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{
		string(shipped), first, gateway, first + "---\n" + gateway, coalesce, "", "---\n---\n", "a: [", "a: &a [*a]", "\xff", "kind: HTTPRoute", "null", "- 1", "? {a: b}\n: c\n",
		route("r", to("app", "path: { type: RegularExpression, value: '/(a|b)*' }, headers: [ { name: a, value: b } ]")),
		route("r", "    - filters: [ { type: RequestRedirect, requestRedirect: { scheme: https, path: { type: ReplacePrefixMatch, replacePrefixMatch: / } } } ]\n"),
		route("r", "    - timeouts: { request: 1s }\n      retry: { codes: [ 500 ] }\n      filters: [ { type: CORS, cors: { allowOrigins: [ '*' ] } } ]\n"),
		"apiVersion: foremesh.dev/v1alpha1\nkind: AddressBook\nmetadata: { name: b }\nspec: { dns: true, services: [ { name: a, port: 1, addresses: [ 'b:2' ] } ] }\n",
		"apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: { name: g }\nspec: { from: [ {} ], to: [ {} ] }\n",
		guarded, policies + route("r", to("app", "path: { value: / }")), site + route("r", to("app", "path: { value: / }")),
		"apiVersion: v1\nkind: Namespace\nmetadata: { name: n, labels: { a: b } }\n",
	} {
		f.Add(text)
	}
	r := httptest.NewRequest("GET", "http://api.edge.example.com/v1/status?q=1", nil)
	f.Fuzz(func(t *testing.T, text string) {
		loaded, err := config.Parse("dir", []config.File{{Name: "a.yaml", Text: []byte(text)}}, config.Options{Host: "127.0.0.1", Port: 8080})
		if err != nil {
			var problems config.Problems
			if !errors.As(err, &problems) || err.Error() == "" {
				t.Fatalf("an error that says nothing: %#v", err)
			}
			for _, p := range problems {
				if p.Text == "" || p.File == "a.yaml" && p.Line < 1 {
					t.Errorf("a problem without a place or words: %#v", p)
				}
			}
			return
		}
		for _, socket := range loaded.Table.Sockets {
			matched, explained := socket.Match(r), socket.Explain(r).Rule
			if (matched == nil) != (explained == nil) || matched != nil && matched.Action != explained.Action {
				t.Errorf("Match says %v, Explain %v", matched, explained)
			}
		}
	})
}
