package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/config"
	"github.com/foremesh/foremesh/edge/gateway/internal/sampling"
)

const site = `apiVersion: foremesh.dev/v1alpha1
kind: Sampling
metadata: { name: site }
spec:
  traces:
    ratio: 0.05
    slowerThan: 500ms
    routes: [ { name: r, ratio: 1, slowerThan: 100ms } ]
  accessLog:
    query: true
---
`

func TestASamplingPolicyIsRead(t *testing.T) {
	loaded, err := config.Load(folder(t, map[string]string{"a.yaml": site + route("r", to("app", "path: { value: / }"))}), config.Options{Traces: sampling.Policy{Ratio: 0.01, PerSecond: 5}})
	if err != nil || len(loaded.Problems) > 0 {
		t.Fatal(err, loaded.Problems)
	}
	if p := loaded.Table.Traces; p.Ratio != 0.05 || p.PerSecond != 5 || !p.Errors || p.SlowerThan != 500*time.Millisecond || p.KeptPerSecond != 20 || *p.Routes["r"].Ratio != 1 || *p.Routes["r"].SlowerThan != 100*time.Millisecond {
		t.Errorf("got %+v", p)
	}
	if l := loaded.Table.Log; l.Ratio != 0.1 || l.PerSecond != 100 || !l.Errors || !l.Query || l.SlowerThan != 0 {
		t.Errorf("got %+v", l)
	}
	without := load(t, map[string]string{"a.yaml": route("r", to("app", "path: { value: / }"))})
	if without.Table.Traces != nil || without.Table.Log != nil {
		t.Error("there is a policy that nobody wrote")
	}
	if unknown := load(t, map[string]string{"a.yaml": strings.Replace(site, "name: r,", "name: other,", 1) + route("r", to("app", "path: { value: / }"))}); len(unknown.Problems) != 1 || !strings.Contains(unknown.Problems[0].String(), "a.yaml:8: Sampling 'site': HTTPRoute 'other' is in no file") {
		t.Errorf("got %v", unknown.Problems)
	}
}

func TestAMistakeInASamplingPolicyIsNamed(t *testing.T) {
	for name, c := range map[string]struct{ old, new, line, says string }{
		"ratio":       {"ratio: 0.05", "ratio: 1.5", "6", "ratio 1.5 is none"},
		"of a route":  {"ratio: 1,", "ratio: -1,", "8", "ratio -1 is none"},
		"slower":      {"500ms", "-5s", "7", "slowerThan -5s"},
		"rate":        {"query: true", "perSecond: 1e9", "10", "perSecond is 1e+09"},
		"unknown":     {"query: true", "queries: true", "10", "queries"},
		"a second":    {"---\n", "---\n" + strings.Replace(site, "name: site", "name: other", 1), "14", "a folder has one, and"},
		"not a share": {"ratio: 0.05", "ratio: 5%", "6", "ratio"},
	} {
		text := strings.Replace(site, c.old, c.new, 1)
		_, err := config.Load(folder(t, map[string]string{"a.yaml": text + route("r", to("app", "path: { value: / }"))}), config.Options{})
		if err == nil || !strings.Contains(err.Error(), "a.yaml:"+c.line+": ") || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
