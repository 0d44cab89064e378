package front_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/foremesh/foremesh/edge/gateway/internal/config"
)

const identities = `apiVersion: foremesh.dev/v1alpha1
kind: JWT
metadata: { name: staff }
spec: { issuers: [ me ], audiences: [ edge ], keys: { url: '%s' }, require: [ { claim: scope, values: [ intents ] } ], claimHeaders: [ { claim: sub, header: X-User } ] }
---
apiVersion: foremesh.dev/v1alpha1
kind: APIKey
metadata: { name: machines }
spec: { secret: machines, clientHeader: X-Client }
---
apiVersion: foremesh.dev/v1alpha1
kind: RateLimit
metadata: { name: each }
spec: { client: Identity, perClient: { requests: 2, per: 1m } }
---
apiVersion: foremesh.dev/v1alpha1
kind: AddressBook
metadata: { name: b }
spec: { services: [ { name: a, port: 80, addresses: [ '%s' ] } ] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: r }
spec:
  rules:
    - matches: [ { path: { value: /staff } } ]
      filters:
        - { type: CORS, cors: { allowOrigins: [ 'https://app.example' ], allowMethods: [ GET ] } }
        - &staff { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: JWT, name: staff } }
      backendRefs: [ { name: a, port: 80 } ]
    - matches: [ { path: { value: /machines } } ]
      filters:
        - &machines { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: APIKey, name: machines } }
        - { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: RateLimit, name: each } }
      backendRefs: [ { name: a, port: 80 } ]
    - matches: [ { path: { value: /both } } ]
      filters: [ *staff, *machines ]
      backendRefs: [ { name: a, port: 80 } ]
    - matches: [ { path: { value: /away } } ]
      filters: [ *staff, { type: RequestRedirect, requestRedirect: { hostname: inside.example } } ]
`

func TestOnlyWhoIsKnownGetsIn(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
	if err != nil {
		t.Fatal(err)
	}
	token := func(scope string) string {
		text, err := jwt.Signed(signer).Claims(map[string]any{"iss": "me", "aud": "edge", "sub": "ada", "scope": scope, "exp": time.Now().Add(time.Minute).Unix()}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + text
	}
	issuer := serve(t, "issuer", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k"}}})
	})
	a := serve(t, "a", nil)
	secrets := t.TempDir()
	keep := func(client, key string) {
		t.Helper()
		path := filepath.Join(secrets, "default", "machines", client)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keep("till", "the key of the till")
	keep("door", "the key of the door")
	yaml := fmt.Sprintf(identities, issuer.URL, a.Listener.Addr())
	g := startWith(t, 1, "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: r }\nspec: { rules: [ {} ] }\n", nil)
	use := func() {
		t.Helper()
		loaded, err := config.Parse("", []config.File{{Name: "a.yaml", Text: []byte(yaml)}}, config.Options{Secrets: secrets})
		if err != nil || len(loaded.Problems) > 0 {
			t.Fatal(err, loaded.Problems)
		}
		g.front.Use(loaded.Table)
	}
	use()
	const till, door = "the key of the till", "the key of the door"
	for name, c := range map[string]struct {
		path    string
		headers []string
		status  int
		slug    string
	}{
		"a token":                    {"/staff", []string{"Authorization", token("intents"), "X-User", "root", "X_User", "root"}, 200, ""},
		"no token":                   {"/staff", nil, 401, "unauthorized"},
		"a token without the scope":  {"/staff", []string{"Authorization", token("read")}, 403, "forbidden"},
		"two tokens":                 {"/staff", []string{"Authorization", token("intents"), "Authorization", token("intents")}, 401, "unauthorized"},
		"a key instead of a token":   {"/staff", []string{"X-API-Key", till}, 401, "unauthorized"},
		"no key":                     {"/machines", nil, 401, "unauthorized"},
		"a key that is wrong":        {"/machines", []string{"X-API-Key", "the key of the roof"}, 401, "unauthorized"},
		"a token and a key":          {"/both", []string{"Authorization", token("intents"), "X-API-Key", door, "X-Client", "root"}, 200, ""},
		"a token where both must be": {"/both", []string{"Authorization", token("intents")}, 401, "unauthorized"},
		"a redirect":                 {"/away", nil, 401, "unauthorized"},
		"a redirect, with a token":   {"/away", []string{"Authorization", token("intents")}, 302, ""},
	} {
		before := a.count()
		got := g.ask(t, "GET", "a", c.path, "", c.headers...)
		if c.slug != "" {
			wantProblem(t, got, c.status, c.slug)
			if got.header.Get("WWW-Authenticate") == "" || a.count() != before {
				t.Errorf("%s: WWW-Authenticate %q, %d calls", name, got.header.Get("WWW-Authenticate"), a.count()-before)
			}
			continue
		}
		if got.status != c.status {
			t.Errorf("%s: got %+v", name, got)
			continue
		}
		if c.status != 200 {
			continue
		}
		h := a.last(t).Header
		if h.Get("X-User") != "ada" || h["X_user"] != nil || h.Get("Authorization") != "" || h.Get("X-Api-Key") != "" || c.path == "/both" && h.Get("X-Client") != "door" {
			t.Errorf("%s: the backend got %v", name, h)
		}
	}
	// A browser asks first, without credentials.
	if got := g.ask(t, "OPTIONS", "a", "/staff", "", "Origin", "https://app.example", "Access-Control-Request-Method", "GET"); got.status != 204 {
		t.Errorf("a preflight: got %d", got.status)
	}
	// Each client has its own rate, whatever address they share, and a reload does not give it anew.
	for range 2 {
		if got := g.ask(t, "GET", "a", "/machines", "", "X-API-Key", till); got.status != 200 {
			t.Errorf("got %d", got.status)
		}
	}
	asked := issuer.count()
	use()
	wantProblem(t, g.ask(t, "GET", "a", "/machines", "", "X-API-Key", till), 429, "rate-limited")
	if got := g.ask(t, "GET", "a", "/machines", "", "X-API-Key", door); got.status != 200 {
		t.Errorf("another client: got %d", got.status)
	}
	if got := g.ask(t, "GET", "a", "/staff", "", "Authorization", token("intents")); got.status != 200 || issuer.count() != asked {
		t.Errorf("after a reload: got %d, and %d looks at keys", got.status, issuer.count()-asked)
	}
	// A key is another as soon as its file is.
	keep("door", "another key of the door")
	use()
	wantProblem(t, g.ask(t, "GET", "a", "/both", "", "Authorization", token("intents"), "X-API-Key", door), 401, "unauthorized")
	if got := g.ask(t, "GET", "a", "/both", "", "Authorization", token("intents"), "X-API-Key", "another key of the door"); got.status != 200 {
		t.Errorf("the new key: got %d", got.status)
	}
	families, err := g.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprint(families)
	for _, want := range []string{"gateway_auth_total", "unauthorized", "forbidden", "gateway_key_looks_total"} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(text, "key of") || strings.Contains(text, "eyJ") {
		t.Error("a secret is in the metrics")
	}
}
