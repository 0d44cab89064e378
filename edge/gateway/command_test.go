package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const statusRoute = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: status }
spec:
  hostnames: [ api.edge.example.com ]
  rules:
    - matches: [ { path: { type: Exact, value: /v1/status }, method: GET } ]
      backendRefs: [ { name: status-service, port: 80 } ]
    - matches: [ { path: { value: /v1 }, headers: [ { name: x-canary, value: "yes" } ] } ]
      backendRefs: [ { name: canary, port: 80, weight: 9 }, { name: stable, port: 80 } ]
`

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCheck(t *testing.T) {
	missing := statusRoute + "---\napiVersion: foremesh.dev/v1alpha1\nkind: AddressBook\nmetadata: { name: b }\nspec: { services: [ { name: canary, port: 80 }, { name: stable, port: 80 } ] }\n"
	for name, c := range map[string]struct {
		arguments []string
		code      int
		says      string
	}{
		"all well":         {[]string{folder(t, map[string]string{"a.yaml": statusRoute})}, 0, ""},
		"shipped":          {[]string{"routes"}, 0, ""},
		"a mistake":        {[]string{folder(t, map[string]string{"a.yaml": strings.Replace(statusRoute, "weight", "wieght", 1)})}, 1, "a.yaml:10: HTTPRoute: field 'wieght' is not known"},
		"leads nowhere":    {[]string{folder(t, map[string]string{"a.yaml": missing})}, 1, "a.yaml:8: warning: HTTPRoute 'status': rule 1: Service 'status-service'"},
		"empty":            {[]string{t.TempDir()}, 1, "no *.yaml file"},
		"no folder":        {nil, 2, "takes one folder"},
		"two folders":      {[]string{"a", "b"}, 2, "takes one folder"},
		"a missing folder": {[]string{"/nowhere"}, 2, "/nowhere"},
		"an unknown flag":  {[]string{"--xml", "routes"}, 2, "xml"},
	} {
		var out, trouble bytes.Buffer
		if code := check(c.arguments, &out, &trouble); code != c.code || !strings.Contains(out.String()+trouble.String(), c.says) {
			t.Errorf("%s: exit %d, %s%s", name, code, &out, &trouble)
		}
	}
	var out bytes.Buffer
	check([]string{"--json", folder(t, map[string]string{"a.yaml": missing})}, &out, &out)
	var problems []struct {
		File, Text string
		Line       int
		Refused    bool
	}
	if err := json.Unmarshal(out.Bytes(), &problems); err != nil || len(problems) != 1 || problems[0].Line != 8 || problems[0].Refused || filepath.Base(problems[0].File) != "a.yaml" {
		t.Errorf("%v: %s", err, &out)
	}
	out.Reset()
	if code := check([]string{"routes", "--json"}, &out, &out); code != 0 || strings.TrimSpace(out.String()) != "[]" {
		t.Errorf("exit %d: %s", code, &out)
	}
}

func TestExplain(t *testing.T) {
	dir := folder(t, map[string]string{"a.yaml": statusRoute})
	for name, c := range map[string]struct {
		request string
		more    []string
		code    int
		says    []string
	}{
		"the first example": {"GET http://api.edge.example.com/v1/status", nil, 0, []string{"HTTPRoute 'status' (" + dir + "/a.yaml:7) matches: GET Exact /v1/status", "goes to service status-service at status-service:80", "not 'status' (" + dir + "/a.yaml:9)", "header 'X-Canary' is not given"}},
		"by a header":       {"GET http://api.edge.example.com/v1/x", []string{"--header", "x-canary=yes"}, 0, []string{"a.yaml:9) matches", "service canary at canary:80 (9 of 10)", "the path is '/v1/x'"}},
		"a lower one":       {"GET http://api.edge.example.com/v1/status", []string{"--header", "x-canary=yes"}, 0, []string{"a.yaml:7) matches", "higher precedence"}},
		"another method":    {"POST http://api.edge.example.com/v1/status", nil, 1, []string{"no route matches: 404", "the method is 'POST'"}},
		"another host":      {"GET http://edge.example.com/v1/status", nil, 1, []string{"404", "its hostname is 'api.edge.example.com', the request's 'edge.example.com'"}},
		"another scheme":    {"GET https://api.edge.example.com/v1/status", nil, 1, []string{"no listener has this scheme"}},
		"never taken":       {"GET http://api.edge.example.com/v1/../status", nil, 1, []string{"refused before any route", "dot segment"}},
		"no method":         {"http://api.edge.example.com/v1/status", nil, 2, []string{"METHOD http://host/path"}},
		"no request":        {"", nil, 2, []string{"--request '' is none"}},
		"a bad header":      {"GET http://a/", []string{"--header", "yes"}, 2, []string{"name=value"}},
	} {
		var out bytes.Buffer
		code := explain(append([]string{"--config", dir, "--request", c.request}, c.more...), &out, &out)
		if code != c.code {
			t.Errorf("%s: exit %d: %s", name, code, &out)
		}
		for _, word := range c.says {
			if !strings.Contains(out.String(), word) {
				t.Errorf("%s: %q is not in %s", name, word, &out)
			}
		}
	}
	var out bytes.Buffer
	if code := explain([]string{"--config", folder(t, map[string]string{"a.yaml": "a: ["}), "--request", "GET http://a/"}, &out, &out); code != 2 || !strings.Contains(out.String(), "not YAML") {
		t.Errorf("exit %d: %s", code, &out)
	}
	out.Reset()
	explain([]string{"--config", dir, "--json", "--request", "GET http://api.edge.example.com/v1/status"}, &out, &out)
	var a struct {
		Does    string
		Sockets []struct {
			Matched struct{ Route, At string }
			Others  []struct{ Why string }
		}
	}
	if err := json.Unmarshal(out.Bytes(), &a); err != nil || a.Sockets[0].Matched.Route != "status" || len(a.Sockets[0].Others) != 1 || !strings.Contains(a.Does, "status-service:80") {
		t.Errorf("%v: %s", err, &out)
	}
}

func TestUnknownCommandsAreRefused(t *testing.T) {
	for _, arguments := range [][]string{{"chekc"}, {"--confg", "a"}} {
		out, err := command(arguments...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), arguments[0][2:]) {
			t.Errorf("%v: %v, %s", arguments, err, out)
		}
	}
}
