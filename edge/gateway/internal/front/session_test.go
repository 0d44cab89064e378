package front_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/foremesh/foremesh/edge/gateway/internal/configuration"
)

const rolled = `      filters: [ { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: Rollout, name: answers } } ]
      backendRefs: [ { name: v1, port: 80 }, { name: v2, port: 80 } ]
---
apiVersion: foremesh.dev/v1alpha1
kind: Rollout
metadata: { name: answers }
spec:
  variants: [ { name: v2, weight: 50 }, { name: v1, weight: 50 } ]
  configuration: { store: releases, key: answers }
`

func (g *gateway) weights(t *testing.T, v1, v2 int) {
	t.Helper()
	g.front.Rollouts().Take(configuration.Key{Store: "releases", Name: "answers"},
		configuration.Item{Found: true, Value: fmt.Sprintf(`{"weights": {"v1": %d, "v2": %d}}`, v1, v2)})
	if got := g.front.Rollouts().States()[0]; got.Refused != "" || got.Weights["v1"] != v1 {
		t.Fatalf("got %+v", got)
	}
}

func variants(t *testing.T) map[string]*service {
	return map[string]*service{"v1": serve(t, "v1", nil), "v2": serve(t, "v2", nil)}
}

// client is one session: it brings what it was given last.
type client struct {
	g      *gateway
	header string // empty: a cookie
	token  string
}

func (c *client) ask(t *testing.T) string {
	t.Helper()
	var given []string
	if c.header != "" && c.token != "" {
		given = []string{c.header, c.token}
	} else if c.token != "" {
		given = []string{"Cookie", "other=1; " + c.token}
	}
	got := c.g.ask(t, "GET", "a", "/", "", given...)
	if got.status != http.StatusOK {
		t.Errorf("got %+v", got)
	}
	if c.header != "" {
		if token := got.header.Get(c.header); token != "" {
			c.token = token
		}
	} else if cookie := got.header.Get("Set-Cookie"); cookie != "" {
		c.token, _, _ = strings.Cut(cookie, ";")
	}
	return got.body
}

func TestASessionKeepsItsVariant(t *testing.T) {
	for _, header := range []string{"", "X-Session"} {
		persistence := "    - sessionPersistence: {}\n"
		if header != "" {
			persistence = "    - sessionPersistence: { type: Header, sessionName: x-session }\n"
		}
		g := with(t, variants(t), persistence+rolled, nil)
		var clients []*client
		at, counts := map[*client]string{}, map[string]int{}
		for range 100 {
			c := &client{g: g, header: header}
			clients = append(clients, c)
			at[c] = c.ask(t)
			counts[at[c]]++
		}
		if counts["v1"] < 45 || counts["v1"] > 55 {
			t.Errorf("sessions began at %v", counts)
		}
		stay := func(what string, v1, v2 int, moved string) {
			t.Helper()
			if v1+v2 > 0 {
				g.weights(t, v1, v2)
			}
			for _, c := range clients {
				token := c.token
				got := c.ask(t)
				if want := at[c]; got != want && want != moved {
					t.Errorf("%s: a session went from %s to %s", what, want, got)
				} else if want == moved && got == moved {
					t.Errorf("%s: a session stayed at %s, which has no weight", what, moved)
				} else if want == got && token != c.token {
					t.Errorf("%s: a session that stays got another token", what)
				}
				at[c] = got
			}
		}
		stay("nothing changed", 0, 0, "")
		stay("v2 has little", 99, 1, "")
		stay("v2 has nothing", 1, 0, "v2")
		stay("v2 is back", 1, 99, "") // nobody moves
		fresh := map[string]int{}
		for range 100 {
			fresh[(&client{g: g, header: header}).ask(t)]++
		}
		if fresh["v2"] < 97 {
			t.Errorf("new sessions begin at %v", fresh)
		}
	}
}

func TestAForgedTokenReachesNothingThatHasNoWeight(t *testing.T) {
	services := variants(t)
	g := with(t, services, "    - sessionPersistence: { sessionName: s }\n"+rolled, nil)
	g.weights(t, 0, 1)
	stolen := &client{g: g}
	if got := stolen.ask(t); got != "v2" {
		t.Fatal(got)
	}
	g.weights(t, 1, 0)
	before := services["v2"].count()
	for _, token := range []string{
		stolen.token, "s=v2", "s=Service/default/v2:80", "s=1", "s=", "s=" + base64.RawURLEncoding.EncodeToString(make([]byte, 16)),
		"s=" + strings.Repeat("A", 4000), "s=AAAAAAAAAAAAAAAAAAAAAA; " + stolen.token,
	} {
		c := &client{g: g, token: token}
		if got := c.ask(t); got != "v1" {
			t.Errorf("%.40q reached %s", token, got)
		}
	}
	if n := services["v2"].count() - before; n != 0 {
		t.Errorf("%d requests reached a variant without weight", n)
	}
}

func TestTheCookie(t *testing.T) {
	for rule, want := range map[string]string{
		"sessionPersistence: { sessionName: s }":                                                                 "Path=/; HttpOnly; SameSite=Lax",
		"sessionPersistence: { sessionName: s, absoluteTimeout: 1h }":                                            "Path=/; HttpOnly; SameSite=Lax",
		"sessionPersistence: { sessionName: s, absoluteTimeout: 1h, cookieConfig: { lifetimeType: Permanent } }": "Path=/; Max-Age=3600; HttpOnly; SameSite=Lax",
	} {
		g := with(t, variants(t), "    - "+rule+"\n"+rolled, nil)
		got := g.ask(t, "GET", "a", "/", "").header.Values("Set-Cookie")
		if len(got) != 1 {
			t.Errorf("%s: got %v", rule, got)
			continue
		}
		name, rest, _ := strings.Cut(got[0], "; ")
		if !strings.HasPrefix(name, "s=") || rest != want {
			t.Errorf("%s: got %v", rule, got)
		}
	}
}

func TestASessionThatIsOverBeginsAnew(t *testing.T) {
	g := with(t, variants(t), "    - sessionPersistence: { absoluteTimeout: 1s }\n"+rolled, nil)
	c := &client{g: g}
	c.ask(t)
	first := c.token
	until(t, func() bool { c.ask(t); return c.token != first })
}

func TestNobodyIsKeptWhereTheFirstAnswerIsAnError(t *testing.T) {
	for status, kept := range map[int]bool{200: true, 404: true, 500: false, 503: false} {
		a := serve(t, "a", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		g := with(t, map[string]*service{"a": a}, "    - sessionPersistence: {}\n"+toA, nil)
		if got := g.ask(t, "GET", "a", "/", "").header.Get("Set-Cookie") != ""; got != kept {
			t.Errorf("%d: kept is %v", status, got)
		}
	}
}

func TestTwoRulesKeepSessionsOfTheirOwn(t *testing.T) {
	g := with(t, variants(t), "    - matches: [ { path: { value: /b } } ]\n      sessionPersistence: {}\n      backendRefs: [ { name: v1, port: 80 } ]\n    - sessionPersistence: {}\n"+rolled, nil)
	a, b := g.ask(t, "GET", "a", "/", "").header.Get("Set-Cookie"), g.ask(t, "GET", "a", "/b", "").header.Get("Set-Cookie")
	nameA, _, _ := strings.Cut(a, "=")
	if nameB, _, _ := strings.Cut(b, "="); nameA == nameB || nameA == "" {
		t.Errorf("both are %s", nameA)
	}
}

func TestASessionKeepsItsAddress(t *testing.T) {
	services := map[string]*service{}
	yaml := "apiVersion: foremesh.dev/v1alpha1\nkind: AddressBook\nmetadata: { name: b }\nspec: { services: [ { name: s, port: 80, addresses: [ "
	for _, name := range []string{"one", "two", "three"} {
		services[name] = serve(t, name, nil)
		yaml += "'" + services[name].Listener.Addr().String() + "', "
	}
	yaml += "] } ] }\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: r }\nspec:\n  rules:\n    - sessionPersistence: {}\n      retry: { attempts: 2 }\n      backendRefs: [ { name: s, port: 80 } ]\n"
	g := startWith(t, 1, yaml, nil)
	at := map[*client]string{}
	counts := map[string]int{}
	for range 60 {
		c := &client{g: g}
		at[c] = c.ask(t)
		counts[at[c]]++
		for range 3 {
			if got := c.ask(t); got != at[c] {
				t.Fatalf("went from %s to %s", at[c], got)
			}
		}
	}
	if len(counts) != 3 {
		t.Errorf("sessions are at %v", counts)
	}
	services["two"].Close()
	for c, was := range at {
		if got := c.ask(t); was != "two" && got != was || got == "two" {
			t.Errorf("%s is gone: a session went from %s to %s", "two", was, got)
		}
	}
}
