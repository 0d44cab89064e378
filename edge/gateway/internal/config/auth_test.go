package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/foremesh/foremesh/edge/gateway/internal/config"
)

const guarded = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: r }
spec:
  rules:
    - filters:
        - { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: JWT, name: staff } }
        - { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: APIKey, name: machines } }
      backendRefs: [ { group: foremesh.dev, kind: DaprApp, name: app } ]
---
apiVersion: foremesh.dev/v1alpha1
kind: JWT
metadata: { name: staff }
spec:
  issuers: [ https://id.example.com ]
  audiences: [ edge ]
  keys: { secret: staff }
  require: [ { claim: scope, values: [ intents ] } ]
  claimHeaders: [ { claim: sub, header: x-user } ]
---
apiVersion: foremesh.dev/v1alpha1
kind: APIKey
metadata: { name: machines }
spec:
  secret: machines
  clientHeader: x-client
`

// secrets writes files below a folder of secrets; their modes are 0600 unless the name ends with +0666.
func secrets(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		name, open := strings.CutSuffix(name, "+0666")
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if open {
			if err := os.Chmod(path, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func keySet(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	document, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "a"}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(document)
}

func TestSecretsOfClients(t *testing.T) {
	const key = "0123456789abcdef0123"
	for name, c := range map[string]struct {
		files   map[string]string
		clients int
		keys    int
		says    string // empty: nothing is wrong
	}{
		"as they should be": {map[string]string{"staff/jwks.json": keySet(t), "machines/till": key + "\n", "machines/door": key + "4", "machines/.hidden": "x"}, 2, 1, ""},
		"open to others":    {map[string]string{"staff/jwks.json": keySet(t), "machines/till+0666": key, "machines/door": key + "4"}, 1, 1, "till has mode 0666, so that others can read or change it; use chmod 600"},
		"short":             {map[string]string{"staff/jwks.json": keySet(t), "machines/till": "0123"}, 0, 1, "a key of 4 bytes; use 16 or more"},
		"empty folder":      {map[string]string{"staff/jwks.json": keySet(t), "machines/.x": ""}, 0, 1, "machines is empty"},
		"no folder":         {map[string]string{"staff/jwks.json": keySet(t)}, 0, 1, "put a file for each client into that folder"},
		"a folder in it":    {map[string]string{"staff/jwks.json": keySet(t), "machines/a/b": key}, 0, 1, "a is no file"},
		"large":             {map[string]string{"staff/jwks.json": keySet(t), "machines/till": strings.Repeat("x", 5000)}, 0, 1, "5000 bytes; at most 4096"},
		"no key set":        {map[string]string{"machines/till": key}, 1, 0, "jwks.json: no such file or directory; until then its rules get status 503"},
		"a key set of all":  {map[string]string{"staff/jwks.json+0666": keySet(t), "machines/till": key}, 1, 0, "jwks.json has mode 0666"},
		"a broken key set":  {map[string]string{"staff/jwks.json": "{", "machines/till": key}, 1, 0, "no key set (RFC 7517)"},
	} {
		files := map[string]string{}
		for file, text := range c.files {
			files["default/"+file] = text
		}
		loaded, err := config.Load(folder(t, map[string]string{"a.yaml": guarded}), config.Options{Host: "127.0.0.1", Port: 8080, Secrets: secrets(t, files)})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		action := match(t, loaded, "GET", "/").Action
		if len(action.APIKey.Clients) != c.clients || len(action.JWT.Keys) != c.keys {
			t.Errorf("%s: %d clients, %d keys", name, len(action.APIKey.Clients), len(action.JWT.Keys))
		}
		if all := loaded.Problems; (len(all) == 0) != (c.says == "") || c.says != "" && !strings.Contains(all[0].String(), c.says) {
			t.Errorf("%s: %v", name, all)
		}
		if strings.Contains(loaded.Problems.Error(), key) {
			t.Errorf("%s: a key is shown", name)
		}
		if name == "as they should be" && (action.APIKey.Clients[1].Name != "till" || action.APIKey.Clients[1].Hash != sha256.Sum256([]byte(key)) ||
			action.APIKey.ClientHeader != "X-Client" || action.APIKey.Header != "X-Api-Key" || action.JWT.Headers[0].Header != "X-User") {
			t.Errorf("got %+v, %+v", action.APIKey, action.JWT)
		}
		if says := action.String(); says != "with a token that JWT 'staff' takes, with a key of APIKey 'machines' in header X-Api-Key, goes to app app" {
			t.Errorf("explain says %s", says)
		}
	}
}

func TestAMistakeInAnAuthenticationIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		old, new string
		line     string
		says     []string
	}{
		"no issuers":          {"  issuers: [ https://id.example.com ]\n", "", "14", []string{"'staff'", "issuers and audiences"}},
		"an empty audience":   {"[ edge ]", "[ '' ]", "15", []string{"issuers and audiences"}},
		"HS256":               {"  audiences", "  algorithms: [ HS256 ]\n  audiences", "16", []string{"'HS256' is not allowed", "ES256"}},
		"none":                {"  audiences", "  algorithms: [ none ]\n  audiences", "16", []string{"'none' is not allowed"}},
		"no keys":             {"{ secret: staff }", "{}", "17", []string{"either secret", "url"}},
		"two sources of keys": {"{ secret: staff }", "{ secret: staff, url: https://a/ }", "17", []string{"either secret", "url"}},
		"http":                {"{ secret: staff }", "{ url: http://id.example.com/keys }", "17", []string{"use https"}},
		"a password":          {"{ secret: staff }", "{ url: https://a:b@id.example.com/keys }", "17", []string{"name or password", "remove"}},
		"refresh":             {"{ secret: staff }", "{ url: https://a/, refresh: 1s }", "17", []string{"refresh 1s", "10s or more"}},
		"keep":                {"{ secret: staff }", "{ url: https://a/, keep: 5m }", "17", []string{"keep is 5m0s", "refresh (10m0s)", "168h"}},
		"timeout":             {"{ secret: staff }", "{ url: https://a/, timeout: 1h }", "17", []string{"timeout is 1h0m0s", "30s"}},
		"skew":                {"  audiences", "  skew: 1h\n  audiences", "16", []string{"skew is 1h0m0s", "5m"}},
		"claim":               {"claim: sub", "claim: 'a\"b'", "19", []string{"claim 'a\"b'", "without quotes"}},
		"header":              {"x-user", "x_user", "19", []string{"'x_user'", "dashes"}},
		"header of its own":   {"x-user", "x-forwarded-for", "19", []string{"'x-forwarded-for'", "meaning of its own"}},
		"header authorize":    {"x-user", "authorization", "19", []string{"'authorization'", "meaning of its own"}},
		"client's header":     {"x-client", "cookie", "26", []string{"'machines'", "clientHeader 'cookie'"}},
		"unknown JWT":         {"kind: JWT, name: staff", "kind: JWT, name: stuff", "7", []string{"JWT 'stuff'", "no file"}},
		"unknown field":       {"  secret: machines", "  secrets: machines", "25", []string{"secrets", "not known"}},
	} {
		text := strings.Replace(guarded, c.old, c.new, 1)
		if text == guarded {
			t.Fatalf("%s changes nothing", name)
		}
		_, err := config.Load(folder(t, map[string]string{"a.yaml": text}), config.Options{})
		if err == nil || !strings.Contains(err.Error(), "a.yaml:"+c.line+": ") {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		for _, word := range c.says {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %q does not say %q", name, err, word)
			}
		}
	}
}

func TestAnIdentityMustComeFromSomewhereAndACoalescePassesNoHeader(t *testing.T) {
	limit := "---\napiVersion: foremesh.dev/v1alpha1\nkind: RateLimit\nmetadata: { name: fair }\nspec: { client: Identity, perClient: { requests: 1, per: 1s } }\n"
	filter := func(kind, name string) string {
		return "{ type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: " + kind + ", name: " + name + " } }"
	}
	rule := func(filters ...string) string {
		return route("one", "    - filters: [ "+strings.Join(filters, ", ")+" ]\n      backendRefs: [ { group: foremesh.dev, kind: DaprApp, name: app } ]\n") + "---\n"
	}
	for name, c := range map[string]struct{ yaml, says string }{
		"no identity":        {rule(filter("RateLimit", "fair")) + guarded + limit, "counts by Identity"},
		"with an identity":   {rule(filter("RateLimit", "fair"), filter("APIKey", "machines")) + guarded + limit, ""},
		"another client":     {guarded + strings.Replace(limit, "Identity", "Name", 1), "client 'Name' is not known"},
		"coalesced":          {rule(filter("Coalesce", "many"), filter("APIKey", "machines")) + guarded + "---\n" + coalesce, "carries bodies and no headers"},
		"coalesced, without": {rule(filter("Coalesce", "many"), filter("APIKey", "machines")) + strings.Replace(guarded, "  clientHeader: x-client\n", "", 1) + "---\n" + coalesce, ""},
	} {
		_, err := config.Load(folder(t, map[string]string{"a.yaml": c.yaml}), config.Options{})
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
