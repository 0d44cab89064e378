package front_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/config"
	"github.com/foremesh/foremesh/edge/gateway/internal/settings"
)

// service is a plain backend that remembers what came.
type service struct {
	*httptest.Server
	answer http.HandlerFunc // nil: 200 and the service's name

	mu   sync.Mutex
	seen []*http.Request
	body []string
}

func serve(t *testing.T, name string, answer http.HandlerFunc) *service {
	t.Helper()
	s := &service{answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			body, _ := io.ReadAll(r.Body)
			s.mu.Lock()
			s.seen, s.body = append(s.seen, r), append(s.body, string(body))
			s.mu.Unlock()
		}
		if s.answer != nil {
			s.answer(w, r)
			return
		}
		_, _ = io.WriteString(w, name)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

func (s *service) last(t *testing.T) *http.Request {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) == 0 {
		t.Fatal("nothing came")
	}
	return s.seen[len(s.seen)-1]
}

// with starts a gateway whose one route has this rule; services are named in it by their keys.
func with(t *testing.T, services map[string]*service, rule string, change func(*settings.Settings)) *gateway {
	t.Helper()
	yaml := "apiVersion: foremesh.dev/v1alpha1\nkind: AddressBook\nmetadata: { name: b }\nspec:\n  services:\n    - { name: nowhere, port: 80, addresses: [ '127.0.0.1:1' ] }\n    - { name: empty, port: 80 }\n"
	for name, s := range services {
		yaml += fmt.Sprintf("    - { name: %s, port: 80, addresses: [ '%s' ] }\n", name, s.Listener.Addr())
	}
	yaml += "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: r }\nspec:\n  rules:\n" + rule
	return startWith(t, 1, yaml, change)
}

const toA = "      backendRefs: [ { name: a, port: 80 } ]\n"

func (g *gateway) direct() *http.Client {
	return &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: 5 * time.Second}
}

// ask sends a request for a host; a redirect is not followed.
func (g *gateway) ask(t *testing.T, method, host, path, body string, headers ...string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, g.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	answer, err := g.direct().Do(r)
	if err != nil {
		t.Error(err)
		return reply{}
	}
	defer func() { _ = answer.Body.Close() }()
	got, _ := io.ReadAll(answer.Body)
	return reply{answer.StatusCode, answer.Header, string(got)}
}

func TestAServiceGetsTheRequestAsItIs(t *testing.T) {
	a := serve(t, "a", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Server", "own")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "plain words")
	})
	g := with(t, map[string]*service{"a": a}, "    - {}\n    - matches: [ { path: { value: /v1 } } ]\n"+toA, nil)
	got := g.ask(t, "PUT", "api.example.com", "/v1/caf%C3%A9?q=1%2F2", "hello", "X-Forwarded-For", "6.6.6.6", "Forwarded", "for=6.6.6.6", "dapr-api-token", "guess")
	// A service's own error is its own affair: only a sidecar's is hidden.
	if got.status != http.StatusTeapot || got.body != "plain words" || got.header.Get("Server") != "own" {
		t.Errorf("got %+v", got)
	}
	r := a.last(t)
	if r.Host != "api.example.com" || r.Method != "PUT" || r.RequestURI != "/v1/caf%C3%A9?q=1%2F2" || a.body[0] != "hello" {
		t.Errorf("arrived as %s %s %s", r.Method, r.Host, r.RequestURI)
	}
	if r.Header.Get("X-Forwarded-For") != "127.0.0.1" || r.Header.Get("X-Forwarded-Host") != "api.example.com" || r.Header.Get("Forwarded") != "" {
		t.Errorf("forwarding headers: %v", r.Header)
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "Dapr-") {
			t.Errorf("%s is no business of a service", name) // above all not the sidecar's token
		}
	}
	wantProblem(t, g.ask(t, "GET", "a", "/v2", ""), 500, "unresolved") // a rule without backendRefs
}

func TestWhereARequestCannotGo(t *testing.T) {
	for backend, want := range map[string]struct {
		status int
		slug   string
	}{
		"{ name: nowhere, port: 80 }": {503, "unavailable"}, "{ name: empty, port: 80 }": {503, "unavailable"},
		"{ name: other, port: 80 }": {500, "unresolved"}, "{ kind: Bucket, name: other }": {500, "unresolved"}, "{ name: nowhere, port: 80, weight: 0 }": {500, "unresolved"},
	} {
		g := with(t, nil, "    - backendRefs: [ "+backend+" ]\n", nil)
		wantProblem(t, g.ask(t, "GET", "a", "/", ""), want.status, want.slug)
	}
}

func TestWeights(t *testing.T) {
	a, b := serve(t, "a", nil), serve(t, "b", nil)
	g := with(t, map[string]*service{"a": a, "b": b}, "    - backendRefs: [ { name: a, port: 80, weight: 9 }, { name: b, port: 80 }, { name: nowhere, port: 80, weight: 0 } ]\n", nil)
	for range 500 {
		if got := g.ask(t, "GET", "a", "/", ""); got.status != 200 {
			t.Fatalf("got %d", got.status)
		}
	}
	// 50 are expected; 3 sigma of 500 draws at 0.1 is 20.
	if n := b.count(); n < 30 || n > 70 {
		t.Errorf("a tenth of 500 is %d", n)
	}
}

func TestHeadersAreChanged(t *testing.T) {
	a := serve(t, "a", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Version", "1")
		w.Header().Set("X-Inside", "secret")
	})
	g := with(t, map[string]*service{"a": a}, `    - filters:
        - type: RequestHeaderModifier
          requestHeaderModifier: { set: [ { name: x-set, value: new } ], add: [ { name: x-add, value: more } ], remove: [ x-gone ] }
        - type: ResponseHeaderModifier
          responseHeaderModifier: { set: [ { name: x-version, value: "2" } ], remove: [ x-inside ] }
      backendRefs:
        - name: a
          port: 80
          filters: [ { type: RequestHeaderModifier, requestHeaderModifier: { set: [ { name: x-backend, value: a } ] } } ]
`, nil)
	got := g.ask(t, "GET", "a", "/", "", "X-Set", "old", "X-Set", "older", "X-Add", "first", "X-Gone", "1", "X-Other", "kept")
	h := a.last(t).Header
	if strings.Join(h.Values("X-Set"), ",") != "new" || strings.Join(h.Values("X-Add"), ",") != "first,more" || h.Get("X-Gone") != "" || h.Get("X-Other") != "kept" || h.Get("X-Backend") != "a" {
		t.Errorf("arrived with %v", h)
	}
	if got.header.Get("X-Version") != "2" || got.header.Get("X-Inside") != "" {
		t.Errorf("answered with %v", got.header)
	}
}

func TestRewrites(t *testing.T) {
	a := serve(t, "a", nil)
	for _, c := range []struct{ prefix, change, path, want string }{
		{"/v1", "{ type: ReplacePrefixMatch, replacePrefixMatch: /v2 }", "/v1/x?q=1", "/v2/x?q=1"},
		{"/v1", "{ type: ReplacePrefixMatch, replacePrefixMatch: /v2/ }", "/v1/x", "/v2/x"},
		{"/v1", "{ type: ReplacePrefixMatch, replacePrefixMatch: / }", "/v1/x", "/x"},
		{"/v1", "{ type: ReplacePrefixMatch, replacePrefixMatch: / }", "/v1", "/"},
		{"/v1", "{ type: ReplacePrefixMatch, replacePrefixMatch: '' }", "/v1/", "/"},
		{"/v1/", "{ type: ReplacePrefixMatch, replacePrefixMatch: /v2 }", "/v1", "/v2"},
		{"/", "{ type: ReplacePrefixMatch, replacePrefixMatch: /v2 }", "/x", "/v2/x"},
		{"/v1", "{ type: ReplaceFullPath, replaceFullPath: /one }", "/v1/x/y?q=1", "/one?q=1"},
	} {
		g := with(t, map[string]*service{"a": a}, "    - matches: [ { path: { value: "+c.prefix+" } } ]\n      filters: [ { type: URLRewrite, urlRewrite: { hostname: inner.example.org, path: "+c.change+" } } ]\n"+toA, nil)
		g.ask(t, "GET", "api.example.com", c.path, "")
		if r := a.last(t); r.RequestURI != c.want || r.Host != "inner.example.org" || r.Header.Get("X-Forwarded-Host") != "api.example.com" {
			t.Errorf("%s with %s became %s at %s", c.path, c.change, r.RequestURI, r.Host)
		}
	}
}

func TestRedirects(t *testing.T) {
	for _, c := range []struct {
		redirect, want string
		status         int
	}{
		{"{ hostname: b.example.com }", "http://b.example.com:80/v1/x?q=1", 302}, // the listener's port: see below
		{"{ scheme: https }", "https://api.example.com/v1/x?q=1", 302},
		{"{ scheme: https, port: 8443, statusCode: 308 }", "https://api.example.com:8443/v1/x?q=1", 308},
		{"{ port: 80 }", "http://api.example.com/v1/x?q=1", 302},
		{"{ scheme: http, path: { type: ReplacePrefixMatch, replacePrefixMatch: /v2 }, statusCode: 301 }", "http://api.example.com/v2/x?q=1", 301},
		{"{ scheme: http, path: { type: ReplaceFullPath, replaceFullPath: /one } }", "http://api.example.com/one?q=1", 302},
	} {
		g := with(t, nil, "    - matches: [ { path: { value: /v1 } } ]\n      filters: [ { type: RequestRedirect, requestRedirect: "+c.redirect+" } ]\n", nil)
		got := g.ask(t, "GET", "api.example.com:9999", "/v1/x?q=1", "")
		want := strings.Replace(c.want, ":80/", ":0/", 1) // the port that this test's gateway was told
		if got.status != c.status || got.header.Get("Location") != want {
			t.Errorf("%s: got %d %s, want %s", c.redirect, got.status, got.header.Get("Location"), want)
		}
	}
}

func TestAMirrorGetsACopyAndNobodyWaitsForIt(t *testing.T) {
	release := make(chan struct{})
	a, b := serve(t, "a", nil), serve(t, "b", func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	g := with(t, map[string]*service{"a": a, "b": b}, `    - filters:
        - { type: RequestMirror, requestMirror: { backendRef: { name: b, port: 80 } } }
        - { type: RequestMirror, requestMirror: { backendRef: { name: nowhere, port: 80 } } }
        - { type: RequestMirror, requestMirror: { percent: 0, backendRef: { name: a, port: 80 } } }
`+toA, nil)
	if got := g.ask(t, "POST", "api.example.com", "/x?q=1", "hello"); got.status != 200 || got.body != "a" {
		t.Errorf("got %+v", got)
	}
	until(t, func() bool { return b.count() == 1 })
	if r := b.last(t); r.RequestURI != "/x?q=1" || r.Method != "POST" || b.body[0] != "hello" {
		t.Errorf("the copy is %s %s %s", r.Method, r.RequestURI, b.body[0])
	}
	if a.count() != 1 {
		t.Errorf("0 percent of the copies are %d", a.count()-1)
	}
}

func TestRetries(t *testing.T) {
	var calls atomic.Int32
	failing := func(times int32, status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if calls.Add(1) <= times {
				w.WriteHeader(status)
				return
			}
			_, _ = io.WriteString(w, "at last")
		}
	}
	const rule = "    - retry: { codes: [ 503 ], attempts: 2, backoff: 1ms }\n" + toA
	for _, c := range []struct {
		times        int32
		code         int
		status, made int
	}{{2, 503, 200, 3}, {3, 503, 503, 3}, {1, 500, 500, 1}, {0, 503, 200, 1}} {
		calls.Store(0)
		a := serve(t, "a", failing(c.times, c.code))
		got := with(t, map[string]*service{"a": a}, rule, nil).ask(t, "POST", "a", "/", "the body")
		if got.status != c.status || a.count() != c.made || a.body[len(a.body)-1] != "the body" {
			t.Errorf("%d times %d: got %d after %d calls, the last with %q", c.times, c.code, got.status, a.count(), a.body[len(a.body)-1])
		}
	}
}

// TestRetriesOfAnOutageAreFew: however slowly requests come, and however much another rule has earned.
func TestRetriesOfAnOutageAreFew(t *testing.T) {
	fails := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }
	a, b := serve(t, "a", fails), serve(t, "b", func(http.ResponseWriter, *http.Request) {})
	g := with(t, map[string]*service{"a": a, "b": b}, "    - retry: { codes: [ 503 ], attempts: 3, backoff: 1ms }\n"+toA+
		"    - matches: [ { path: { value: /well } } ]\n      retry: { codes: [ 503 ], attempts: 3, backoff: 1ms }\n      backendRefs: [ { name: b, port: 80 } ]\n", nil)
	slowly := time.NewTicker(20 * time.Millisecond)
	defer slowly.Stop()
	for range 100 {
		<-slowly.C
		g.ask(t, "GET", "a", "/", "")
		g.ask(t, "GET", "a", "/well", "")
	}
	if a.count() < 110 || a.count() > 120 || b.count() != 100 {
		t.Errorf("100 requests became %d calls, want 110 to 120; 100 that were answered became %d", a.count(), b.count())
	}
	g.front.Use(g.front.Table()) // a reload earns nothing
	hundred := a.count()
	for range 900 {
		g.ask(t, "GET", "a", "/", "")
	}
	t.Logf("100 requests: %d calls; 1000: %d", hundred, a.count())
	if a.count() < 1100 || a.count() > 1110 { // a tenth, and what is saved up at the beginning (10)
		t.Errorf("1000 requests became %d calls, want 1100 to 1110", a.count())
	}
}

func TestABudgetOfNothingRetriesNothing(t *testing.T) {
	a := serve(t, "a", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	g := with(t, map[string]*service{"a": a}, "    - retry: { codes: [ 503 ], attempts: 3, backoff: 1ms }\n"+toA, func(s *settings.Settings) { s.RetryBudgetShare = 0 })
	g.ask(t, "GET", "a", "/", "")
	if a.count() != 1 {
		t.Errorf("got %d calls", a.count())
	}
}

func TestTimeouts(t *testing.T) {
	slow := func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(3 * time.Second):
		}
	}
	for _, rule := range []string{
		"    - timeouts: { request: 100ms }\n", "    - timeouts: { backendRequest: 100ms }\n", "    - timeouts: { request: 2s, backendRequest: 50ms }\n      retry: { attempts: 1 }\n",
	} {
		a := serve(t, "a", slow)
		g := with(t, map[string]*service{"a": a}, rule+toA, nil)
		began := time.Now()
		wantProblem(t, g.ask(t, "GET", "a", "/", ""), 504, "deadline-exceeded")
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%s took %s", rule, took)
		}
	}
	a := serve(t, "a", func(http.ResponseWriter, *http.Request) { time.Sleep(300 * time.Millisecond) })
	g := with(t, map[string]*service{"a": a}, "    - timeouts: { request: 0s }\n"+toA, func(s *settings.Settings) { s.BackendTimeout = 100 * time.Millisecond })
	if got := g.ask(t, "GET", "a", "/", ""); got.status != 200 {
		t.Errorf("without a time-out: got %d", got.status)
	}
}

func TestCORS(t *testing.T) {
	a := serve(t, "a", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Access-Control-Allow-Origin", "*") })
	g := with(t, map[string]*service{"a": a}, `    - filters:
        - type: CORS
          cors: { allowOrigins: [ "https://www.foo.com", "https://*.bar.com" ], allowMethods: [ GET, PUT ], allowHeaders: [ x-a ], exposeHeaders: [ x-b ], allowCredentials: true }
`+toA, nil)
	ask := func(method, origin string) reply {
		return g.ask(t, method, "a", "/", "", "Origin", origin, "Access-Control-Request-Method", "PUT")
	}
	if got := ask("OPTIONS", "https://x.y.bar.com"); got.status != 204 || got.header.Get("Access-Control-Allow-Origin") != "https://x.y.bar.com" ||
		got.header.Get("Access-Control-Allow-Methods") != "GET, PUT" || got.header.Get("Access-Control-Max-Age") != "5" || got.header.Get("Access-Control-Allow-Credentials") != "true" {
		t.Errorf("preflight: %+v", got)
	}
	if a.count() > 0 {
		t.Error("a preflight reached the backend")
	}
	if got := ask("GET", "https://www.foo.com"); strings.Join(got.header.Values("Access-Control-Allow-Origin"), ",") != "https://www.foo.com" || got.header.Get("Vary") != "Origin" {
		t.Errorf("a simple request: %v", got.header)
	}
	for _, origin := range []string{"https://evil.com", "http://www.foo.com", "https://bar.com", "https://evil.com/.bar.com", "https://www.foo.com.evil.com", "null"} {
		for _, method := range []string{"OPTIONS", "GET"} {
			if got := ask(method, origin); got.header.Get("Access-Control-Allow-Origin") != "" || got.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s from %s is allowed: %v", method, origin, got.header)
			}
		}
	}
}

// websocket is a backend that switches, and then says everything back.
func websocket(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.WriteHeader(http.StatusUpgradeRequired)
		return
	}
	connection, stream, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = connection.Close() }()
	_, _ = io.WriteString(connection, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	_, _ = io.Copy(connection, stream)
}

func (g *gateway) switchTo(t *testing.T, protocol, more string) (net.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	connection, err := net.Dial("tcp", g.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	_ = connection.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(connection, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: "+protocol+"\r\n"+more)
	reader := bufio.NewReader(connection)
	answer, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	return connection, reader, answer
}

func TestAWebSocketOutlivesTimeoutsAndHoldsNoSlot(t *testing.T) {
	a := serve(t, "a", websocket)
	g := with(t, map[string]*service{"a": a}, "    -\n"+toA, func(s *settings.Settings) { s.BackendTimeout, s.MaxInFlight = 100*time.Millisecond, 1 })
	connection, reader, answer := g.switchTo(t, "websocket", "\r\n")
	if answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %d", answer.StatusCode)
	}
	time.Sleep(250 * time.Millisecond) // the time-out is the thing that must not come
	if _, err := io.WriteString(connection, "hello"); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 5)
	if _, err := io.ReadFull(reader, said); err != nil || string(said) != "hello" {
		t.Errorf("got %q, %v", said, err)
	}
	if got := g.ask(t, "GET", "a", "/", ""); got.status != http.StatusUpgradeRequired {
		t.Errorf("another request beside it got %d", got.status)
	}
}

func TestNoOtherUpgradeGetsThrough(t *testing.T) {
	a := serve(t, "a", nil)
	g := with(t, map[string]*service{"a": a}, "    -\n"+toA, nil)
	for _, protocol := range []string{"h2c", "TLS/1.0", "websocket, h2c"} {
		if _, _, answer := g.switchTo(t, protocol, "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"); answer.StatusCode == http.StatusSwitchingProtocols {
			t.Errorf("%s: switched", protocol)
		}
	}
	for _, more := range []string{"Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"} {
		if _, _, answer := g.switchTo(t, "websocket", more); answer.StatusCode != http.StatusBadRequest {
			t.Errorf("an upgrade with a body got %d", answer.StatusCode)
		}
	}
}

// TestAnAddressThatIsAwayGetsNoRequestsAndOneThatIsBackDoes: a service has two, and one of them goes.
func TestAnAddressThatIsAwayGetsNoRequestsAndOneThatIsBackDoes(t *testing.T) {
	stays := serve(t, "stays", nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	yaml := fmt.Sprintf("apiVersion: foremesh.dev/v1alpha1\nkind: AddressBook\nmetadata: { name: b }\nspec: { services: [ { name: s, port: 80, addresses: [ '%s', '%s' ] } ] }\n"+
		"---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: r }\nspec: { rules: [ { backendRefs: [ { name: s, port: 80 } ] } ] }\n", stays.Listener.Addr(), address)
	g := startWith(t, 1, yaml, nil)
	began, failed := time.Now(), 0
	for range 200 { // a body is sent once
		if got := g.ask(t, "POST", "a", "/", "hello"); got.status != 200 {
			failed++
		}
	}
	// One when it goes, and one for each second in which it is tried again.
	if most := 2 + int(time.Since(began)/time.Second); failed == 0 || failed > most {
		t.Errorf("%d of 200 requests failed, want 1 to %d", failed, most)
	}
	again := startWith(t, 1, yaml, nil)
	for range 200 { // without a body another address is asked
		if got := again.ask(t, "GET", "a", "/", ""); got.status != 200 {
			t.Fatalf("got %d", got.status)
		}
	}
	back, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "back") })}
	go func() { _ = server.Serve(back) }()
	defer func() { _ = server.Close() }()
	returned := time.Now()
	until(t, func() bool { return g.ask(t, "GET", "a", "/", "").body == "back" })
	if took := time.Since(returned); took > 2*time.Second {
		t.Errorf("it is used again after %s", took)
	}
}

// TestAnAddressThatFailsGetsFewRequests and a caller that leaves is no failure of its.
func TestAnAddressThatFailsGetsFewRequests(t *testing.T) {
	good := serve(t, "good", nil)
	bad := serve(t, "bad", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	wrong := serve(t, "wrong", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	for _, c := range []struct {
		other *service
		few   bool
	}{{bad, true}, {wrong, false}} { // a 500 is an answer to a request, not the state of an address
		yaml := fmt.Sprintf("apiVersion: foremesh.dev/v1alpha1\nkind: AddressBook\nmetadata: { name: b }\nspec: { services: [ { name: s, port: 80, addresses: [ '%s', '%s' ] } ] }\n"+
			"---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: r }\nspec: { rules: [ { backendRefs: [ { name: s, port: 80 } ] } ] }\n", good.Listener.Addr(), c.other.Listener.Addr())
		g := startWith(t, 1, yaml, nil)
		began := time.Now()
		for range 200 {
			g.ask(t, "GET", "a", "/", "")
		}
		if most := 6 + int(time.Since(began)/time.Second); c.few && (c.other.count() < 5 || c.other.count() > most) || !c.few && c.other.count() < 50 {
			t.Errorf("an address that answers like this got %d of 200 requests", c.other.count())
		}
	}
}

func TestARateLimitIsOfAllItsRulesAndOutlivesAChange(t *testing.T) {
	a := serve(t, "a", nil)
	yaml := "apiVersion: foremesh.dev/v1alpha1\nkind: RateLimit\nmetadata: { name: fair }\nspec: { perClient: { requests: 2, per: 1m } }\n---\n" +
		"apiVersion: foremesh.dev/v1alpha1\nkind: AddressBook\nmetadata: { name: b }\nspec: { services: [ { name: a, port: 80, addresses: [ '" + a.Listener.Addr().String() + "' ] } ] }\n---\n" +
		"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: r }\nspec:\n  rules:\n" +
		"    - matches: [ { path: { value: /one } } ]\n      filters: [ &fair { type: ExtensionRef, extensionRef: { group: foremesh.dev, kind: RateLimit, name: fair } } ]\n" + toA +
		"    - matches: [ { path: { value: /other } } ]\n      filters: [ *fair ]\n" + toA + "    - matches: [ { path: { value: /free } } ]\n" + toA
	g := startWith(t, 1, yaml, nil)
	for _, path := range []string{"/one", "/other"} {
		if got := g.ask(t, "GET", "a", path, ""); got.status != 200 {
			t.Errorf("%s: got %d", path, got.status)
		}
	}
	refused := func() {
		t.Helper()
		// Whatever it says of itself.
		got := g.ask(t, "GET", "a", "/one", "", "X-Forwarded-For", "6.6.6.6", "Forwarded", "for=6.6.6.6")
		wantProblem(t, got, 429, "rate-limited")
		if got.header.Get("Retry-After") != "30" {
			t.Errorf("Retry-After: %s", got.header.Get("Retry-After"))
		}
	}
	refused()
	if got := g.ask(t, "GET", "a", "/free", ""); got.status != 200 || a.count() != 3 {
		t.Errorf("a rule without a limit: got %d, %d calls", got.status, a.count())
	}
	use := func(text string) {
		t.Helper()
		loaded, err := config.Parse("", []config.File{{Name: "a.yaml", Text: []byte(text)}}, config.Options{})
		if err != nil {
			t.Fatal(err)
		}
		g.front.Use(loaded.Table)
	}
	use(yaml)
	refused()
	use(strings.Replace(yaml, "requests: 2", "requests: 3", 1))
	if got := g.ask(t, "GET", "a", "/one", ""); got.status != 200 {
		t.Errorf("with another rate: got %d", got.status)
	}
}
