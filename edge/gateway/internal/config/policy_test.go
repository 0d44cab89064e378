package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/config"
	"github.com/foremesh/foremesh/edge/gateway/internal/outlier"
)

const policies = `apiVersion: foremesh.dev/v1alpha1
kind: BackendTrafficPolicy
metadata: { name: all }
spec:
  targetRefs: [ { name: s }, { group: foremesh.dev, kind: DaprApp, name: app } ]
  adaptiveConcurrency: { max: 50 }
---
apiVersion: foremesh.dev/v1alpha1
kind: BackendTrafficPolicy
metadata: { name: one }
spec:
  targetRefs: [ { name: s, port: 81 } ]
  outlierDetection: { consecutiveFailures: 3, maxEjectedPercent: 100, ejection: 100ms }
  connections: { max: 4, pending: 2 }
---
`

func TestAPolicyIsOfItsTargets(t *testing.T) {
	rules := "    - matches: [ { path: { value: /a } } ]\n      backendRefs: [ { name: s, port: 80 } ]\n    - matches: [ { path: { value: /b } } ]\n      backendRefs: [ { name: s, port: 81 } ]\n" +
		to("app", "path: { value: /c }") + to("free", "path: { value: /d }")
	loaded := load(t, map[string]string{"a.yaml": policies + route("r", rules)})
	policy := func(path string) string {
		b := match(t, loaded, "GET", path).Action.Backends[0]
		if b.Policy == nil {
			return b.Key
		}
		return b.Key + " " + b.Policy.Name
	}
	for path, want := range map[string]string{"/a": "s:80 all", "/b": "s:81 one", "/c": "app all", "/d": "free"} {
		if got := policy(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	all, one := match(t, loaded, "GET", "/a").Action.Backends[0].Policy, match(t, loaded, "GET", "/b").Action.Backends[0].Policy
	if c := all.Concurrency; c == nil || c.Initial != 20 || c.Min != 3 || c.Max != 50 || c.Tolerance != 1.5 || c.Probe != 30*time.Second || all.Outliers.Consecutive != outlier.Default.Consecutive {
		t.Errorf("got %+v", all)
	}
	if o := one.Outliers; one.Concurrency != nil || o.Name != "one" || o.Consecutive != 3 || o.MaxEjected != 1 || o.Ejection != 100*time.Millisecond || o.MaxEjection != outlier.Default.MaxEjection || o.Share != 0.5 || o.Requests != 4 || o.Pending != 2 {
		t.Errorf("got %+v", one)
	}
	if says := match(t, loaded, "GET", "/a").Action.String(); !strings.Contains(says, "by BackendTrafficPolicy all") {
		t.Errorf("explain says %s", says)
	}
}

func TestAMistakeInAPolicyIsNamed(t *testing.T) {
	for name, c := range map[string]struct{ old, new, line, says string }{
		"no target":            {"[ { name: s }, { group: foremesh.dev, kind: DaprApp, name: app } ]", "[]", "5", "needs targetRefs"},
		"nothing":              {"  adaptiveConcurrency: { max: 50 }\n", "", "5", "needs targetRefs, and adaptiveConcurrency"},
		"another kind":         {"{ name: s }, {", "{ kind: Bucket, name: s }, {", "5", "'s' is of kind 'Bucket'; use Service"},
		"twice":                {"{ name: s, port: 81 }", "{ name: s }", "12", "'s' has another policy, 'all'"},
		"max below initial":    {"max: 50", "max: 10", "6", "1 <= min (3) <= initial (20) <= max (10)"},
		"tolerance":            {"max: 50", "tolerance: 0.5", "6", "tolerance is 0.5"},
		"outliers of an app":   {"{ name: s, port: 81 }", "{ group: foremesh.dev, kind: DaprApp, name: other }", "12", "only adaptiveConcurrency goes with it"},
		"failures":             {"consecutiveFailures: 3", "consecutiveFailures: -1", "13", "consecutiveFailures (-1)"},
		"share":                {"maxEjectedPercent: 100", "maxEjectedPercent: 101", "13", "maxEjectedPercent (101)"},
		"ejection beyond most": {"ejection: 100ms", "ejection: 5s", "13", "ejection (5s) <= maxEjection (1.6s)"},
		"connections":          {"max: 4", "max: 0", "14", "max (0) must be positive"},
		"unknown field":        {"pending: 2", "waiting: 2", "14", "waiting"},
	} {
		text := strings.Replace(policies, c.old, c.new, 1)
		if text == policies {
			t.Fatalf("%s changes nothing", name)
		}
		_, err := config.Load(folder(t, map[string]string{"a.yaml": text + route("r", to("app", "path: { value: / }"))}), config.Options{})
		if err == nil || !strings.Contains(err.Error(), "a.yaml:"+c.line+": ") || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
