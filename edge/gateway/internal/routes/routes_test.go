package routes_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
)

const coalesce = `apiVersion: foremesh.dev/v1alpha1
kind: Coalesce
metadata: { name: many }
spec: { path: /internal/many, maxBatch: 64, maxInFlight: 4, maxQueue: 1024, timeout: 5s }
`

// route is an HTTPRoute with one rule, which begins on line 5.
func route(name, rule string) string {
	return "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: " + name + " }\nspec:\n  rules:\n" + rule
}

// to is a rule with one match.
func to(app, match string) string {
	return fmt.Sprintf("    - matches: [ { %s } ]\n      backendRefs: [ { group: foremesh.dev, kind: DaprApp, name: %s } ]\n", match, app)
}

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func load(t *testing.T, files map[string]string) *routes.Table {
	t.Helper()
	table, err := routes.Load(folder(t, files))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestPrecedence(t *testing.T) {
	// The least specific first: order in the file must not decide.
	table := load(t, map[string]string{"a.yaml": route("all",
		to("root", "path: { type: PathPrefix, value: / }")+
			to("v1", "path: { type: PathPrefix, value: /v1 }")+
			to("models", "path: { type: PathPrefix, value: /v1/models/ }")+
			to("models-post", "path: { type: PathPrefix, value: /v1/models }, method: POST")+
			to("exact", "path: { type: Exact, value: /v1/models/tiny }")+
			to("exact-get", "path: { type: Exact, value: /v1/models/tiny }, method: GET")+
			to("exact-slash", "path: { type: Exact, value: /v1/models/tiny/ }"))})
	for _, c := range []struct{ method, path, app string }{
		{"GET", "/", "root"},
		{"GET", "/v2", "root"},
		{"GET", "/v1", "v1"},
		{"GET", "/v1/", "v1"},
		{"GET", "/v1/x/y", "v1"},
		{"GET", "/v10", "root"}, // whole elements, not characters
		{"GET", "/v1/models", "models"},
		{"GET", "/v1/models/", "models"},
		{"GET", "/v1/modelsx", "v1"},
		{"POST", "/v1/models/a", "models-post"}, // a method before none
		{"PUT", "/v1/models/a", "models"},       // the longer path before a method
		{"GET", "/v1/models/tiny", "exact-get"}, // Exact before the prefix, and a method before none
		{"POST", "/v1/models/tiny", "exact"},    // Exact before the prefix with a method
		{"GET", "/v1/models/tiny/", "exact-slash"},
		{"POST", "/v1/models/tiny/x", "models-post"},
	} {
		rule := table.Match(c.method, c.path)
		if rule == nil || rule.Backend.App != c.app {
			t.Errorf("%s %s went to %+v, want %s", c.method, c.path, rule, c.app)
		}
	}
}

func TestNoRule(t *testing.T) {
	table := load(t, map[string]string{"a.yaml": route("r", to("app", "path: { type: Exact, value: /v1/intents }, method: POST"))})
	for _, c := range [][2]string{{"GET", "/v1/intents"}, {"POST", "/v1/intents/"}, {"POST", "/V1/intents"}, {"POST", "/"}, {"post", "/v1/intents"}} {
		if rule := table.Match(c[0], c[1]); rule != nil {
			t.Errorf("%s %s matched %+v", c[0], c[1], rule)
		}
	}
}

func TestSeveralDocumentsAndFiles(t *testing.T) {
	rule := strings.Replace(to("routing", "path: { type: Exact, value: /many }"), "      backendRefs",
		"      filters: [ { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: Coalesce, name: many } } ]\n      backendRefs", 1)
	table := load(t, map[string]string{
		"a.yaml": "# comment\n---\n" + route("one", rule) + "--- # another\n# nothing\n---\n" + route("two", to("routing", "path: { value: /two }")),
		"b.yml":  "---\n" + coalesce, // referred to by a file that is read before it
		"c.txt":  "not: yaml: at all",
	})
	if len(table.Rules()) != 2 {
		t.Fatalf("got %+v", table.Rules())
	}
	many := table.Match("GET", "/many")
	if many.Route != "one" || many.Coalesce == nil {
		t.Fatalf("got %+v", many)
	}
	if c := many.Coalesce; c.Path != "/internal/many" || c.MaxBatch != 64 || c.MaxInFlight != 4 || c.MaxQueue != 1024 || c.Timeout.Duration != 5*time.Second {
		t.Errorf("got %+v", c)
	}
	if two := table.Match("GET", "/two/x"); two == nil || two.Route != "two" || two.Coalesce != nil {
		t.Errorf("got %+v", two)
	}
}

func TestTheShippedRoutesLoad(t *testing.T) {
	table, err := routes.Load("../../routes")
	if err != nil {
		t.Fatal(err)
	}
	if rule := table.Match("POST", "/v1/intents"); rule == nil || rule.Coalesce == nil || rule.Backend.App != "routing" {
		t.Errorf("POST /v1/intents goes to %+v", rule)
	}
	for _, c := range [][2]string{{"POST", "/v1/sessions"}, {"GET", "/v1/sessions/7c9e6679"}, {"GET", "/v1/models"}, {"GET", "/v1/status"}} {
		if rule := table.Match(c[0], c[1]); rule == nil || rule.Coalesce != nil {
			t.Errorf("%v goes to %+v", c, rule)
		}
	}
	for _, c := range [][2]string{{"POST", "/internal/intents"}, {"GET", "/healthz"}, {"GET", "/metrics"}, {"GET", "/"}} {
		if rule := table.Match(c[0], c[1]); rule != nil {
			t.Errorf("%v is open: %+v", c, rule)
		}
	}
}

func TestAMistakeIsNamedWithItsLineAndTheWayOut(t *testing.T) {
	ok := route("fine", to("app", "path: { value: / }")) // seven lines and, with `---`, eight
	filter := func(filters string) string {
		return route("r", "    - filters: "+filters+"\n      backendRefs: [ { group: foremesh.dev, kind: DaprApp, name: app } ]\n")
	}
	ref := func(ref string) string { return route("r", "    - backendRefs:\n        - "+ref+"\n") }
	with := func(field string) string {
		return route("r", "    - "+field+"\n      backendRefs: [ { group: foremesh.dev, kind: DaprApp, name: app } ]\n")
	}
	for name, c := range map[string]struct {
		yaml string
		line int
		says []string
	}{
		"not YAML":               {"apiVersion: v1\nkind: [\n", 2, []string{"not YAML"}},
		"bad indent":             {"a: 1\n b: 2\n", 2, []string{"not YAML"}},
		"a list":                 {"- a\n- b\n", 1, []string{"apiVersion and kind"}},
		"tab":                    {"a:\n\tb: 1\n", 2, []string{"not YAML"}},
		"unknown kind":           {"apiVersion: v1\nkind: Service\n", 2, []string{"'Service'", "use HTTPRoute"}},
		"old version":            {"apiVersion: gateway.networking.k8s.io/v1beta1\nkind: HTTPRoute\n", 2, []string{"v1beta1", "use HTTPRoute"}},
		"unknown field":          {strings.Replace(ok, "    - matches", "    - wieght: 1\n      matches", 1), 6, []string{"wieght", "not known", "remove it"}},
		"unknown field, deep":    {route("r", "    - matches:\n        - path:\n            typ: Exact\n"), 8, []string{"typ", "not known"}},
		"key twice":              {route("r", "    - matches: []\n      matches: []\n"), 7, []string{"matches"}},
		"wrong type":             {route("r", "    - matches: 5\n"), 6, []string{"matches"}},
		"no name":                {strings.Replace(ok, "name: fine", "labels: {}", 1), 1, []string{"metadata.name"}},
		"no rules":               {"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: r }\nspec: {}\n", 4, []string{"no rules", "at least one"}},
		"hostnames":              {strings.Replace(ok, "spec:\n", "spec:\n  hostnames: [a.example]\n", 1), 5, []string{"hostnames", "not supported", "remove"}},
		"parentRefs":             {strings.Replace(ok, "spec:\n", "spec:\n  parentRefs: [{ name: g }]\n", 1), 5, []string{"parentRefs", "not supported", "remove"}},
		"timeouts":               {with("timeouts: { request: 1s }"), 6, []string{"timeouts", "FOREMESH_BACKEND_TIMEOUT"}},
		"retry":                  {with("retry: { attempts: 2 }"), 6, []string{"retry", "FOREMESH_RETRY_BUDGET"}},
		"no backend":             {route("r", "    - backendRefs: []\n"), 6, []string{"rule 1", "0 backendRefs", "exactly one"}},
		"Service backend":        {ref("{ name: svc, port: 80 }"), 6, []string{"'svc'", "DaprApp"}},
		"weight":                 {ref("{ group: foremesh.dev, kind: DaprApp, name: app, weight: 3 }"), 6, []string{"weight", "not supported", "remove"}},
		"app with a slash":       {ref("{ group: foremesh.dev, kind: DaprApp, name: a/b }"), 6, []string{"'a/b'", "app-id"}},
		"rewrite":                {filter("[ { type: URLRewrite, urlRewrite: { hostname: a } } ]"), 6, []string{"'URLRewrite'", "not supported"}},
		"unknown Coalesce":       {filter("[ { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: Coalesce, name: mayn } } ]"), 6, []string{"'mayn'", "no file", "correct the name"}},
		"regular expression":     {route("r", to("app", "path: { type: RegularExpression, value: /a.* }")), 6, []string{"RegularExpression", "Exact or PathPrefix"}},
		"relative path":          {route("r", to("app", "path: { value: a }")), 6, []string{"'a'", "begin with one /"}},
		"encoded path":           {route("r", to("app", "path: { value: /a%2fb }")), 6, []string{"'/a%2fb'", "encoding"}},
		"method in small":        {route("r", to("app", "method: get")), 6, []string{"'get'", "capitals"}},
		"headers":                {route("r", to("app", "headers: [ { name: a, value: b } ]")), 6, []string{"header", "not supported", "remove"}},
		"the second rule":        {route("r", to("app", "path: { value: /a }")+to("app", "method: get")), 8, []string{"rule 2"}},
		"Coalesce without bound": {strings.Replace(coalesce, "maxQueue: 1024, ", "", 1), 4, []string{"'many'", "maxQueue", "positive"}},
		"Coalesce, eager":        {strings.Replace(coalesce, "maxBatch", "eager: 5, maxBatch", 1), 4, []string{"'many'", "eager is 5", "maxInFlight (4)"}},
		"Coalesce twice":         {coalesce + "---\n" + coalesce, 8, []string{"'many'", "no other"}},
		"Coalesce, unknown":      {strings.Replace(coalesce, "maxQueue", "queue", 1), 4, []string{"queue", "not known"}},
		"Coalesce, bad time":     {strings.Replace(coalesce, "5s", "soon", 1), 0, []string{"Coalesce", "soon"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, map[string]string{"a.yaml": ok + "---\n" + c.yaml})
			_, err := routes.Load(dir)
			if err == nil {
				t.Fatal("was accepted")
			}
			want := fmt.Sprintf("%s:%d: ", filepath.Join(dir, "a.yaml"), c.line+8)
			if c.line == 0 {
				want = filepath.Join(dir, "a.yaml") + ":"
			}
			if !strings.HasPrefix(err.Error(), want) {
				t.Errorf("got  %v\nwant %s...", err, want)
			}
			for _, word := range c.says {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
		})
	}
}

func TestAFolderWithoutRoutesIsRefused(t *testing.T) {
	for name, dir := range map[string]string{
		"missing":       filepath.Join(t.TempDir(), "nowhere"),
		"empty":         t.TempDir(),
		"no route":      folder(t, map[string]string{"a.yaml": coalesce}),
		"only comments": folder(t, map[string]string{"a.yaml": "# later\n"}),
	} {
		if _, err := routes.Load(dir); err == nil || !strings.Contains(err.Error(), "FOREMESH_ROUTES") || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
