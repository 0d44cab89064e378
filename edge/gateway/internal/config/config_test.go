package config_test

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/config"
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

const two = "variants: [ { name: b, weight: 95 }, { name: a, weight: 5 } ]"

// rollout is one with this spec, which begins on line 5.
func rollout(spec string) string {
	return "apiVersion: foremesh.dev/v1alpha1\nkind: Rollout\nmetadata: { name: two }\nspec:\n  " + spec + "\n"
}

// rolled is a rule by that Rollout.
func rolled(backends string) string {
	return "    - filters: [ { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: Rollout, name: two } } ]\n      backendRefs: [ " + backends + " ]\n"
}

func TestARolloutHasTheWeights(t *testing.T) {
	loaded := load(t, map[string]string{"a.yaml": route("r", rolled("{ name: a, port: 80 }, { name: b, port: 80 }")), "b.yaml": rollout(two + "\n  configuration: { store: releases, key: site/answers }\n  guard: { stable: b, canary: a }")})
	action := match(t, loaded, "GET", "/").Action
	if a, b := action.Backends[0], action.Backends[1]; a.Name != "b" || a.Weight != 95 || b.Name != "a" || b.Addresses[0] != "a:80" {
		t.Errorf("got %+v", action.Backends)
	}
	does := action.String()
	for _, word := range []string{"service a at a:80 (5 of 100)", "Rollout 'two'", "b.yaml:1", "key 'site/answers' of store 'releases'", "guard may roll 'a' back"} {
		if !strings.Contains(does, word) {
			t.Errorf("%q does not say %q", does, word)
		}
	}
}

func TestACoalesceGoesWithARollout(t *testing.T) {
	both := strings.Replace(rolled("{ group: foremesh.dev, kind: DaprApp, name: a }, { group: foremesh.dev, kind: DaprApp, name: b }"),
		"[ {", "[ { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: Coalesce, name: many } }, {", 1)
	action := match(t, load(t, map[string]string{"a.yaml": route("r", both), "b.yaml": rollout(two), "c.yaml": coalesce}), "GET", "/").Action
	if action.Coalesce == nil || action.Rollout == nil || len(action.Backends) != 2 || action.Backends[0].App != "b" || action.Backends[0].Weight != 95 {
		t.Errorf("got %+v", action)
	}
	for name, wrong := range map[string]string{
		"a Service":   strings.Replace(both, "{ group: foremesh.dev, kind: DaprApp, name: b }", "{ name: b, port: 80 }", 1),
		"a filter":    strings.Replace(both, "name: b }", "name: b, filters: [ { type: RequestHeaderModifier, requestHeaderModifier: { remove: [ X-A ] } } ] }", 1),
		"a retry":     both + "      retry: { attempts: 1 }\n",
		"time-outs":   both + "      timeouts: { request: 1s }\n",
		"no variants": strings.Replace(both, "{ group: foremesh.dev, kind: DaprApp, name: a }, { group: foremesh.dev, kind: DaprApp, name: b }", "", 1),
	} {
		_, err := config.Load(folder(t, map[string]string{"a.yaml": route("r", wrong), "b.yaml": rollout(two), "c.yaml": coalesce}), config.Options{})
		if err == nil || !strings.Contains(err.Error(), "a.yaml:6: HTTPRoute 'r': rule 1: a Coalesce goes with backendRefs of kind DaprApp") {
			t.Errorf("%s: %v", name, err)
		}
	}
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

func load(t *testing.T, files map[string]string) *config.Config {
	t.Helper()
	loaded, err := config.Load(folder(t, files), config.Options{Host: "127.0.0.1", Port: 8080})
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// match finds the rule for a request to any host, at the address of a folder without a Gateway.
func match(t *testing.T, loaded *config.Config, method, target string) *routes.Rule {
	t.Helper()
	return loaded.Table.Sockets["127.0.0.1:8080"].Match(httptest.NewRequest(method, target, nil))
}

func TestPrecedence(t *testing.T) {
	// The least specific first: order in the file must not decide.
	loaded := load(t, map[string]string{"a.yaml": route("all",
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
		rule := match(t, loaded, c.method, c.path)
		if rule == nil || rule.Action.Backends[0].App != c.app {
			t.Errorf("%s %s went to %+v, want %s", c.method, c.path, rule, c.app)
		}
	}
}

func TestNoRule(t *testing.T) {
	loaded := load(t, map[string]string{"a.yaml": route("r", to("app", "path: { type: Exact, value: /v1/intents }, method: POST"))})
	for _, c := range [][2]string{{"GET", "/v1/intents"}, {"POST", "/v1/intents/"}, {"POST", "/V1/intents"}, {"POST", "/"}, {"post", "/v1/intents"}} {
		if rule := match(t, loaded, c[0], c[1]); rule != nil {
			t.Errorf("%s %s matched %+v", c[0], c[1], rule)
		}
	}
}

func TestSeveralDocumentsAndFiles(t *testing.T) {
	rule := strings.Replace(to("routing", "path: { type: Exact, value: /many }"), "      backendRefs",
		"      filters: [ { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: Coalesce, name: many } } ]\n      backendRefs", 1)
	loaded := load(t, map[string]string{
		"a.yaml": "# comment\n---\n" + route("one", rule) + "--- # another\n# nothing\n---\n" + route("two", to("routing", "path: { value: /two }")),
		"b.yml":  "---\n" + coalesce, // referred to by a file that is read before it
		"c.txt":  "not: yaml: at all",
	})
	if loaded.Table.Rules() != 2 {
		t.Fatalf("got %+v", loaded.Table)
	}
	many := match(t, loaded, "GET", "/many")
	if many.Route != "one" || many.Action.Coalesce == nil {
		t.Fatalf("got %+v", many)
	}
	if c := many.Action.Coalesce; c.Path != "/internal/many" || c.MaxBatch != 64 || c.MaxInFlight != 4 || c.MaxQueue != 1024 || c.Timeout.Duration != 5*time.Second {
		t.Errorf("got %+v", c)
	}
	if two := match(t, loaded, "GET", "/two/x"); two == nil || two.Route != "two" || two.Action.Coalesce != nil {
		t.Errorf("got %+v", two)
	}
}

func TestTheShippedRoutesLoad(t *testing.T) {
	loaded, err := config.Load("../../routes", config.Options{Host: "127.0.0.1", Port: 8080})
	if err != nil {
		t.Fatal(err)
	}
	if rule := match(t, loaded, "POST", "/v1/intents"); rule == nil || rule.Action.Coalesce == nil || rule.Action.Backends[0].App != "routing" {
		t.Errorf("POST /v1/intents goes to %+v", rule)
	}
	for _, c := range [][2]string{{"POST", "/v1/sessions"}, {"GET", "/v1/sessions/7c9e6679"}, {"GET", "/v1/models"}, {"GET", "/v1/status"}} {
		if rule := match(t, loaded, c[0], c[1]); rule == nil || rule.Action.Coalesce != nil {
			t.Errorf("%v goes to %+v", c, rule)
		}
	}
	for _, c := range [][2]string{{"POST", "/internal/intents"}, {"GET", "/healthz"}, {"GET", "/metrics"}, {"GET", "/"}} {
		if rule := match(t, loaded, c[0], c[1]); rule != nil {
			t.Errorf("%v is open: %+v", c, rule)
		}
	}
}

func TestAMistakeIsNamedWithItsLineAndTheWayOut(t *testing.T) {
	ok := route("fine", to("app", "path: { value: / }")) // seven lines and, with `---`, eight
	other := strings.Replace(ok, "fine", "other", 1)
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
		"no name":                {strings.Replace(ok, "name: fine", "labels: {}", 1), 3, []string{"metadata.name"}},
		"no rules":               {"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: r }\nspec: {}\n", 4, []string{"no rules", "at least one"}},
		"app with a slash":       {ref("{ group: foremesh.dev, kind: DaprApp, name: a/b }"), 7, []string{"'a/b'", "app-id"}},
		"no route's hostname":    {strings.Replace(other, "spec:\n", "spec:\n  hostnames: [A.example]\n", 1), 5, []string{"'A.example'", "small letters"}},
		"an address as hostname": {strings.Replace(other, "spec:\n", "spec:\n  hostnames: [10.0.0.1]\n", 1), 5, []string{"'10.0.0.1'", "DNS name"}},
		"session, cookie name":   {with("sessionPersistence: { sessionName: 'a b' }"), 6, []string{"'a b'", "no name of a cookie"}},
		"session, header name":   {with("sessionPersistence: { type: Header, sessionName: set-cookie }"), 6, []string{"'Set-Cookie'", "another meaning"}},
		"session, own header":    {with("sessionPersistence: { type: Header, sessionName: x-forwarded-for }"), 6, []string{"'X-Forwarded-For'", "another meaning"}},
		"session, type":          {with("sessionPersistence: { type: Address }"), 6, []string{"'Address'", "Cookie or Header"}},
		"session, permanent":     {with("sessionPersistence: { cookieConfig: { lifetimeType: Permanent } }"), 6, []string{"Permanent", "absoluteTimeout"}},
		"session, lifetime":      {with("sessionPersistence: { cookieConfig: { lifetimeType: Eternal } }"), 6, []string{"'Eternal'", "Session or Permanent"}},
		"session, no time":       {with("sessionPersistence: { absoluteTimeout: 0s }"), 6, []string{"absoluteTimeout is 0"}},
		"session, cookie config": {with("sessionPersistence: { type: Header, cookieConfig: { lifetimeType: Session } }"), 6, []string{"cookieConfig", "type Cookie"}},
		"session and Coalesce":   {route("r", "    - sessionPersistence: {}\n      filters: [ { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: Coalesce, name: many } } ]\n      backendRefs: [ { group: foremesh.dev, kind: DaprApp, name: app } ]\n") + "---\n" + coalesce, 6, []string{"sessionPersistence", "Coalesce"}},
		"bad duration":           {with("timeouts: { request: 1.5s }"), 6, []string{"'1.5s'", "10s or 300ms"}},
		"longer attempt":         {with("timeouts: { request: 1s, backendRequest: 2s }"), 6, []string{"backendRequest (2s)", "request (1s)"}},
		"too many attempts":      {with("retry: { attempts: 11 }"), 6, []string{"attempts is 11", "0 to 10"}},
		"retry of success":       {with("retry: { codes: [200] }"), 6, []string{"code 200", "400 to 599"}},
		"Service without port":   {ref("{ name: svc }"), 7, []string{"'svc'", "port"}},
		"weight below 0":         {ref("{ group: foremesh.dev, kind: DaprApp, name: app, weight: -3 }"), 7, []string{"weight -3", "0 to"}},
		"unknown filter":         {filter("[ { type: Rewrite } ]"), 6, []string{"'Rewrite'", "not supported"}},
		"filter without field":   {filter("[ { type: URLRewrite } ]"), 6, []string{"'URLRewrite'", "lacks"}},
		"filter twice":           {filter("[ { type: URLRewrite, urlRewrite: { hostname: a } }, { type: URLRewrite, urlRewrite: { hostname: b } } ]"), 6, []string{"'URLRewrite'", "twice"}},
		"external auth":          {filter("[ { type: ExternalAuth, externalAuth: { protocol: HTTP, backendRef: { name: a } } } ]"), 6, []string{"'ExternalAuth'", "not supported"}},
		"redirect and backend":   {filter("[ { type: RequestRedirect, requestRedirect: { hostname: a } } ]"), 6, []string{"RequestRedirect", "no backendRefs"}},
		"redirect status":        {route("r", "    - filters: [ { type: RequestRedirect, requestRedirect: { statusCode: 200 } } ]\n"), 6, []string{"statusCode 200", "301"}},
		"redirect scheme":        {route("r", "    - filters: [ { type: RequestRedirect, requestRedirect: { scheme: ftp } } ]\n"), 6, []string{"'ftp'", "https"}},
		"header of framing":      {filter("[ { type: RequestHeaderModifier, requestHeaderModifier: { set: [ { name: transfer-encoding, value: chunked } ] } } ]"), 6, []string{"transfer-encoding", "gateway's own"}},
		"header of the sidecar":  {filter("[ { type: RequestHeaderModifier, requestHeaderModifier: { add: [ { name: dapr-api-token, value: a } ] } } ]"), 6, []string{"dapr-api-token", "gateway's own"}},
		"header with a newline":  {filter(`[ { type: ResponseHeaderModifier, responseHeaderModifier: { add: [ { name: a, value: "b\r\nc: d" } ] } } ]`), 6, []string{"'a'", "control characters"}},
		"header name":            {filter(`[ { type: ResponseHeaderModifier, responseHeaderModifier: { remove: [ "a b" ] } } ]`), 6, []string{"'a b'", "no name"}},
		"prefix of an Exact":     {route("r", "    - matches: [ { path: { type: Exact, value: /a } } ]\n      filters: [ { type: URLRewrite, urlRewrite: { path: { type: ReplacePrefixMatch, replacePrefixMatch: /b } } } ]\n"), 7, []string{"ReplacePrefixMatch", "PathPrefix"}},
		"rewrite out of bounds":  {filter("[ { type: URLRewrite, urlRewrite: { path: { type: ReplaceFullPath, replaceFullPath: /../b } } } ]"), 6, []string{"'/../b'", "dot segment"}},
		"mirror of too much":     {filter("[ { type: RequestMirror, requestMirror: { percent: 101, backendRef: { group: foremesh.dev, kind: DaprApp, name: a } } } ]"), 6, []string{"101 in 100"}},
		"CORS origin":            {filter(`[ { type: CORS, cors: { allowOrigins: [ "ftp://a" ] } } ]`), 6, []string{"'ftp://a'", "scheme://host"}},
		"filter of a backend":    {ref("{ group: foremesh.dev, kind: DaprApp, name: app, filters: [ { type: URLRewrite, urlRewrite: { hostname: a } } ] }"), 7, []string{"'URLRewrite'", "backendRef"}},
		"Coalesce with more":     {strings.Replace(route("r", "    - filters: [ { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: Coalesce, name: many } } ]\n      backendRefs: [ { name: a, port: 80 } ]\n")+"---\n"+coalesce, "x", "x", 1), 6, []string{"Coalesce", "DaprApp"}},
		"bad expression":         {route("r", to("app", "path: { type: RegularExpression, value: '/a(' }")), 6, []string{"'/a('", "RE2"}},
		"bad header expression":  {route("r", to("app", "headers: [ { type: RegularExpression, name: a, value: '[' } ]")), 6, []string{"'['", "RE2"}},
		"unknown path type":      {route("r", to("app", "path: { type: Prefix, value: /a }")), 6, []string{"'Prefix'", "PathPrefix"}},
		"dot segment":            {route("r", to("app", "path: { value: /a/../b }")), 6, []string{"dot segment"}},
		"route twice":            {strings.Replace(ok, "/ }", "/a }", 1), 3, []string{"'fine'", "no other", "a.yaml:1"}},
		"Gateway, no listener":   {"apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: { name: g }\nspec: { gatewayClassName: foremesh, listeners: [] }\n", 4, []string{"'g'", "no listeners"}},
		"Gateway, no port":       {"apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: { name: g }\nspec:\n  gatewayClassName: foremesh\n  listeners:\n    - { name: a, protocol: HTTP, port: 70000 }\n", 7, []string{"70000", "65535"}},
		"Gateway, address":       {"apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: { name: g }\nspec:\n  gatewayClassName: foremesh\n  addresses: [ { type: Hostname, value: a } ]\n  listeners:\n    - { name: a, protocol: HTTP, port: 80 }\n", 6, []string{"'a'", "IPAddress"}},
		"Gateway, client TLS":    {"apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: { name: g }\nspec:\n  gatewayClassName: foremesh\n  tls: { frontend: { default: {} } }\n  listeners:\n    - { name: a, protocol: HTTP, port: 80 }\n", 6, []string{"tls", "not supported"}},
		"book, address":          {"apiVersion: foremesh.dev/v1alpha1\nkind: AddressBook\nmetadata: { name: b }\nspec:\n  services:\n    - { name: a, port: 80, addresses: [ 10.0.0.1 ] }\n", 6, []string{"'10.0.0.1'", "host:port"}},
		"book, protocol":         {"apiVersion: foremesh.dev/v1alpha1\nkind: AddressBook\nmetadata: { name: b }\nspec:\n  services:\n    - { name: a, port: 80, protocol: grpc }\n", 6, []string{"'grpc'", "h2c"}},
		"book, unknown":          {"apiVersion: foremesh.dev/v1alpha1\nkind: AddressBook\nmetadata: { name: b }\nspec:\n  services:\n    - { name: a, prot: 80 }\n", 6, []string{"prot", "not known"}},
		"RateLimit of nothing":   {"apiVersion: foremesh.dev/v1alpha1\nkind: RateLimit\nmetadata: { name: l }\nspec: {}\n", 4, []string{"'l'", "perClient, total"}},
		"RateLimit without per":  {"apiVersion: foremesh.dev/v1alpha1\nkind: RateLimit\nmetadata: { name: l }\nspec:\n  total: { requests: 1 }\n", 5, []string{"'l'", "total needs requests and per"}},
		"RateLimit below 0":      {"apiVersion: foremesh.dev/v1alpha1\nkind: RateLimit\nmetadata: { name: l }\nspec:\n  perClient: { requests: -1, per: 1s }\n", 5, []string{"'l'", "positive"}},
		"unknown RateLimit":      {filter("[ { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: RateLimit, name: fiar } } ]"), 6, []string{"'fiar'", "no file"}},
		"unknown Rollout":        {filter("[ { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: Rollout, name: anwsers } } ]"), 6, []string{"'anwsers'", "no file"}},
		"Rollout, one variant":   {rollout("variants: [ { name: a, weight: 1 } ]"), 5, []string{"'two'", "1 variants", "2 to 16"}},
		"Rollout, no weight":     {rollout("variants: [ { name: a }, { name: b } ]"), 5, []string{"'two'", "weights of 0"}},
		"Rollout, a name twice":  {rollout("variants: [ { name: a, weight: 1 }, { name: a } ]"), 5, []string{"'two'", "'a'", "each once"}},
		"Rollout, below 0":       {rollout("variants: [ { name: a, weight: -1 }, { name: b, weight: 3 } ]"), 5, []string{"'a'", "weight -1", "0 to 1000000"}},
		"Rollout, key":           {rollout("variants: [ { name: a, weight: 1 }, { name: b } ]\n  configuration: { store: releases, key: /answers }"), 6, []string{"'/answers'", "single slashes"}},
		"Rollout, key with dots": {rollout("variants: [ { name: a, weight: 1 }, { name: b } ]\n  configuration: { store: releases, key: a/../b }"), 6, []string{"'a/../b'"}},
		"Rollout, store":         {rollout("variants: [ { name: a, weight: 1 }, { name: b } ]\n  configuration: { store: 'a/b', key: answers }"), 6, []string{"'a/b'", "Dapr component"}},
		"guard, nobody":          {rollout(two + "\n  guard: { stable: b }"), 6, []string{"'two'", "canary is ''", "another one of the variants"}},
		"guard, itself":          {rollout(two + "\n  guard: { stable: b, canary: b }"), 6, []string{"canary is 'b'"}},
		"guard, unknown":         {rollout(two + "\n  guard: { stable: c, canary: a }"), 6, []string{"stable is 'c'"}},
		"guard, sample":          {rollout(two + "\n  guard: { stable: b, canary: a, sample: 3 }"), 6, []string{"sample is '3'", "20 to"}},
		"guard, confidence":      {rollout(two + "\n  guard: { stable: b, canary: a, confidence: 99 }"), 6, []string{"confidence is '99'", "such as 0.99"}},
		"guard, window":          {rollout(two + "\n  guard: { stable: b, canary: a, window: 1ms }"), 6, []string{"window is '1ms'"}},
		"guard, margin":          {rollout(two + "\n  guard: { stable: b, canary: a, errorMargin: -1 }"), 6, []string{"errorMargin is '-1'"}},
		"guard, factor":          {rollout(two + "\n  guard: { stable: b, canary: a, latencyFactor: 0.5 }"), 6, []string{"latencyFactor is '0.5'"}},
		"guard, cool-down":       {rollout(two + "\n  guard: { stable: b, canary: a, coolDown: -1s }"), 6, []string{"coolDown is '-1s'"}},
		"Rollout, other names":   {route("r", rolled("{ name: a, port: 80 }, { name: c, port: 80 }")) + "---\n" + rollout(two), 7, []string{"'a', 'c'", "'two'", "'b', 'a'", "each of them once"}},
		"Rollout, one too many":  {route("r", rolled("{ name: a, port: 80 }, { name: b, port: 80 }, { name: b, port: 81 }")) + "---\n" + rollout(two), 7, []string{"each of them once"}},
		"Rollout, weight twice":  {route("r", rolled("{ name: a, port: 80, weight: 3 }, { name: b, port: 80 }")) + "---\n" + rollout(two), 7, []string{"'a'", "'two'", "remove it"}},
		"unknown extension":      {filter("[ { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: Magic, name: a } } ]"), 6, []string{"Coalesce, RateLimit, Rollout, JWT or APIKey"}},
		"unknown Coalesce":       {filter("[ { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: Coalesce, name: mayn } } ]"), 6, []string{"'mayn'", "no file", "correct the name"}},
		"relative path":          {route("r", to("app", "path: { value: a }")), 6, []string{"'a'", "begin with one /"}},
		"encoded path":           {route("r", to("app", "path: { value: /a%2fb }")), 6, []string{"'/a%2fb'", "encoding"}},
		"method in small":        {route("r", to("app", "method: get")), 6, []string{"'get'", "capitals"}},
		"the second rule":        {route("r", to("app", "path: { value: /a }")+to("app", "method: get")), 8, []string{"rule 2"}},
		"Coalesce without bound": {strings.Replace(coalesce, "maxQueue: 1024, ", "", 1), 4, []string{"'many'", "maxQueue", "positive"}},
		"Coalesce, eager":        {strings.Replace(coalesce, "maxBatch", "eager: 5, maxBatch", 1), 4, []string{"'many'", "eager is 5", "maxInFlight (4)"}},
		"Coalesce twice":         {coalesce + "---\n" + coalesce, 8, []string{"'many'", "no other"}},
		"Coalesce, unknown":      {strings.Replace(coalesce, "maxQueue", "queue", 1), 4, []string{"queue", "not known"}},
		"Coalesce, bad time":     {strings.Replace(coalesce, "5s", "soon", 1), 0, []string{"Coalesce", "soon"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, map[string]string{"a.yaml": ok + "---\n" + c.yaml})
			_, err := config.Load(dir, config.Options{})
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
		if _, err := config.Load(dir, config.Options{}); err == nil || !strings.Contains(err.Error(), "FOREMESH_ROUTES") || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

const first = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: status }
spec:
  parentRefs: [ { name: edge } ]
  hostnames: [ api.edge.example.com ]
  rules:
    - matches: [ { path: { type: Exact, value: /v1/status } } ]
      backendRefs: [ { name: status-service, port: 80 } ]
`

const gateway = `apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: edge }
spec:
  gatewayClassName: foremesh
  listeners: [ { name: http, protocol: HTTP, port: 80 } ]
`

func TestTheFirstExampleWorksAsWritten(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"alone": {"a.yaml": first}, "with its Gateway": {"a.yaml": first, "b.yaml": strings.Replace(gateway, "port: 80", "port: 8080", 1)},
	} {
		loaded := load(t, files)
		if len(loaded.Problems) > 0 {
			t.Errorf("%s: %v", name, loaded.Problems)
		}
		rule := match(t, loaded, "GET", "http://api.edge.example.com/v1/status")
		if rule == nil || rule.Action.Backends[0].Addresses[0] != "status-service:80" {
			t.Errorf("%s: got %+v", name, rule)
		}
		for _, other := range []string{"http://edge.example.com/v1/status", "http://a.api.edge.example.com/v1/status", "http://api.edge.example.com/v1/status/", "http://api.edge.example.com/"} {
			if rule := match(t, loaded, "GET", other); rule != nil {
				t.Errorf("%s: %s is served by %+v", name, other, rule)
			}
		}
	}
}

// TestWhatLeadsNowhereIsSaidAndTheRestIsServed is of what Gateway API wants answered with 500 or 404 instead of refused.
func TestWhatLeadsNowhereIsSaidAndTheRestIsServed(t *testing.T) {
	in := func(namespace, text string) string {
		return strings.Replace(text, "{ name: status }", "{ name: status, namespace: "+namespace+" }", 1)
	}
	grant := "apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: { name: g, namespace: far }\nspec:\n" +
		"  from: [ { group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default } ]\n  to: [ { group: '', kind: Service, name: status-service } ]\n"
	far := strings.Replace(first, "port: 80", "port: 80, namespace: far", 1)
	book := "apiVersion: foremesh.dev/v1alpha1\nkind: AddressBook\nmetadata: { name: b }\nspec: { services: [ { name: other, port: 80, addresses: [ 'a:80' ] } ] }\n"
	for name, c := range map[string]struct{ yaml, says string }{
		"no such Gateway":         {strings.Replace(first, "name: edge", "name: egde", 1) + "---\n" + gateway, "a.yaml:5: HTTPRoute 'status': Gateway 'egde' is in no file"},
		"no parent":               {strings.Replace(first, "  parentRefs: [ { name: edge } ]\n", "", 1) + "---\n" + gateway, "no parentRefs"},
		"no such listener":        {strings.Replace(first, "name: edge", "name: edge, sectionName: https", 1) + "---\n" + gateway, "no listener with this sectionName"},
		"another port":            {strings.Replace(first, "name: edge", "name: edge, port: 81", 1) + "---\n" + gateway, "no listener with this sectionName and port"},
		"another namespace":       {strings.Replace(in("far", first), "name: edge", "name: edge, namespace: default", 1) + "---\n" + gateway, "allows HTTPRoutes of namespace 'far'"},
		"another hostname":        {first + "---\n" + strings.Replace(gateway, "port: 80", "port: 80, hostname: example.org", 1), "no listener of Gateway 'edge' has a hostname"},
		"another kind of backend": {strings.Replace(first, "name: status-service", "kind: Bucket, name: status-service", 1), "a.yaml:9: HTTPRoute 'status': rule 1: backendRef 'status-service' is of kind 'Bucket'"},
		"no grant":                {far, "no ReferenceGrant of namespace 'far'"},
		"not in the book":         {first + "---\n" + book, "in no AddressBook"},
		"no certificate":          {first + "---\n" + strings.Replace(gateway, "HTTP,", "HTTPS,", 1), "tls.certificateRefs"},
		"a missing certificate":   {first + "---\n" + strings.Replace(gateway, "HTTP,", "HTTPS, tls: { certificateRefs: [ { name: c } ] },", 1), "Secret 'c'"},
		"another protocol":        {first + "---\n" + strings.Replace(gateway, "HTTP,", "TCP,", 1), "'TCP' is not supported"},
		"two of a hostname":       {first + "---\n" + strings.Replace(gateway, "port: 80 }", "port: 80 }, { name: b, protocol: HTTP, port: 80 }", 1), "same port and hostname"},
	} {
		loaded := load(t, map[string]string{"a.yaml": c.yaml + "---\n" + strings.Replace(route("fine", to("app", "path: { value: / }")), "spec:\n", "spec:\n  parentRefs: [ { name: edge } ]\n", 1)})
		var all []string
		for _, p := range loaded.Problems {
			if p.Refused {
				t.Errorf("%s: refused: %v", name, p)
			}
			all = append(all, p.String())
		}
		if text := strings.Join(all, "\n"); !strings.Contains(text, c.says) {
			t.Errorf("%s: got %s", name, text)
		}
	}
	if loaded := load(t, map[string]string{"a.yaml": far + "---\n" + grant}); len(loaded.Problems) > 0 ||
		match(t, loaded, "GET", "http://api.edge.example.com/v1/status").Action.Backends[0].Addresses[0] != "status-service.far:80" {
		t.Errorf("with a grant: %+v", loaded.Problems)
	}
}

func TestTwoGatewaysOnOneAddressAreRefused(t *testing.T) {
	_, err := config.Load(folder(t, map[string]string{"a.yaml": first + "---\n" + gateway + "---\n" + strings.Replace(gateway, "edge", "other", 1)}), config.Options{Host: "127.0.0.1"})
	if err == nil || !strings.Contains(err.Error(), "'edge'") || !strings.Contains(err.Error(), "'other' listens on 127.0.0.1:80") {
		t.Errorf("got %v", err)
	}
}

func TestEveryMistakeIsNamedAtOnce(t *testing.T) {
	_, err := config.Load(folder(t, map[string]string{"a.yaml": route("r", to("app", "method: get")+to("app", "path: { value: a }")), "b.yaml": route("s", to("app", "method: put"))}), config.Options{})
	if err == nil || strings.Count(err.Error(), "\n") != 2 || !strings.Contains(err.Error(), "b.yaml:6: ") {
		t.Errorf("got %v", err)
	}
}
