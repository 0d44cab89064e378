package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// canaries is a folder whose Rollout gives half of the requests to each, and whose guard looks after 20 of the canary's.
func canaries(t *testing.T, stable, canary *httptest.Server) string {
	t.Helper()
	return folder(t, map[string]string{"a.yaml": `apiVersion: foremesh.dev/v1alpha1
kind: AddressBook
metadata: { name: b }
spec:
  services:
    - { name: v1, port: 80, addresses: [ '` + stable.Listener.Addr().String() + `' ] }
    - { name: v2, port: 80, addresses: [ '` + canary.Listener.Addr().String() + `' ] }
---
apiVersion: foremesh.dev/v1alpha1
kind: Rollout
metadata: { name: answers }
spec:
  variants: [ { name: v1, weight: 1 }, { name: v2, weight: 1 } ]
  guard: { stable: v1, canary: v2, sample: 20 }
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: r }
spec:
  rules:
    - filters: [ { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: Rollout, name: answers } } ]
      backendRefs: [ { name: v1, port: 80 }, { name: v2, port: 80 } ]
`})
}

// TestACanaryThatWasRolledBackStaysSoOverARestart, even one by SIGKILL; without FOREMESH_STATE it gets requests again.
func TestACanaryThatWasRolledBackStaysSoOverARestart(t *testing.T) {
	var asked atomic.Int64
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
	}))
	t.Cleanup(broken.Close)
	routes := "FOREMESH_ROUTES=" + canaries(t, named(t, "v1"), broken)
	for state, stays := range map[string]bool{t.TempDir() + "/state": true, "": false} {
		p := start(t, routes, "FOREMESH_STATE="+state).ready(t)
		until(t, func() bool {
			_, _ = get(t, "http://"+p.public+"/", "")
			return metric(t, p, `gateway_rollout_rolled_back{canary="v2",rollout="answers"}`) == 1
		})
		// The request that it was found by ends when it is kept.
		until(t, func() bool { return metric(t, p, "gateway_in_flight") == 0 })
		_ = p.cmd.Process.Kill()
		<-p.exited
		p = start(t, routes, "FOREMESH_STATE="+state).ready(t)
		asked.Store(0)
		for range 20 {
			_, _ = get(t, "http://"+p.public+"/", "")
		}
		if stays != (asked.Load() == 0) {
			t.Errorf("state %q: after the restart the canary has got %d requests of 20", state, asked.Load())
		}
		if _, status := get(t, "http://"+p.private+"/status", "from-sidecar"); stays != strings.Contains(status, "of the canary's") {
			t.Errorf("state %q: /status says %s", state, status)
		}
	}
}

// TestTokensAreCheckedAfterARestartWithoutUplink by keys that were found before it; without FOREMESH_STATE nobody gets in.
func TestTokensAreCheckedAfterARestartWithoutUplink(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(map[string]any{"iss": "me", "aud": "edge", "exp": time.Now().Add(time.Hour).Unix()}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	one := named(t, "one")
	for _, state := range []string{t.TempDir(), ""} {
		issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k"}}})
		}))
		t.Cleanup(issuer.Close)
		dir := folder(t, map[string]string{
			"jwt.yaml": "apiVersion: foremesh.dev/v1alpha1\nkind: JWT\nmetadata: { name: staff }\nspec: { issuers: [ me ], audiences: [ edge ], keys: { url: '" + issuer.URL + "' } }\n",
			"a.yaml":   strings.Replace(to(one), "backendRefs", "filters: [ { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: JWT, name: staff } } ], backendRefs", 1),
		})
		p := start(t, "FOREMESH_ROUTES="+dir, "FOREMESH_STATE="+state).ready(t)
		status := func(bearer string) int {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.public+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+bearer)
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = answer.Body.Close() }()
			return answer.StatusCode
		}
		until(t, func() bool { return status(token) == 200 })
		until(t, func() bool {
			kept, _ := filepath.Glob(filepath.Join(state, "keys-*.json"))
			return state == "" || len(kept) == 1
		})
		_ = p.cmd.Process.Kill()
		<-p.exited
		issuer.Close()
		p = start(t, "FOREMESH_ROUTES="+dir, "FOREMESH_STATE="+state).ready(t)
		until(t, func() bool {
			_ = status(token)
			return metric(t, p, `gateway_key_looks_total{name="staff",result="failed"}`) > 0
		})
		want := 200
		if state == "" {
			want = 503
		}
		if got := status(token); got != want {
			t.Errorf("state %q: got %d, want %d: %s", state, got, want, p.output())
		}
		if got := status(token[:len(token)-8] + "AAAAAAAA"); got == 200 {
			t.Errorf("state %q: a token that nobody signed gets in", state)
		}
	}
}

func TestAStateThatOthersCanChangeIsRefused(t *testing.T) {
	state := t.TempDir()
	if err := os.Chmod(state, 0o777); err != nil {
		t.Fatal(err)
	}
	p := start(t, "FOREMESH_STATE="+state)
	if code := p.end(t); code != 1 || !strings.Contains(p.output(), "FOREMESH_STATE: "+state+" has mode 0777") {
		t.Errorf("exit %d: %s", code, p.output())
	}
}
