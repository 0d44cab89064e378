package front_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/settings"
)

func TestAPlainRouteIsForwardedAsItIs(t *testing.T) {
	s := &sidecar{plain: func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Own", "kept")
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write(body)
	}}
	g := start(t, s, nil)
	got := g.send(t, "PUT", "/v1/sessions/caf%C3%A9%3F%23a;b?q=1%2F2&r=x", "hello", "X-Mine", "kept")
	if got.status != 201 || got.body != "hello" || got.header.Get("X-Own") != "kept" {
		t.Errorf("got %+v", got)
	}
	r := s.last()
	if r.Method != "PUT" || r.URL.Path != method+"/v1/sessions/café?#a;b" || r.URL.RawQuery != "q=1%2F2&r=x" || r.Header.Get("X-Mine") != "kept" {
		t.Errorf("arrived as %s %s %v", r.Method, r.RequestURI, r.Header)
	}
}

func TestWhatOnlyTheGatewayMaySayIsReplaced(t *testing.T) {
	s := &sidecar{}
	g := start(t, s, nil)
	g.send(t, "GET", "/v1/status", "", "X-Forwarded-For", "6.6.6.6", "X-Forwarded-Host", "evil", "X-Forwarded-Proto", "https", "Forwarded", "for=6.6.6.6",
		"dapr-api-token", "guess", "dapr-app-id", "autoscaler", "Dapr-Caller-App-Id", "autoscaler", "Connection", "X-Hop", "X-Hop", "1")
	h := s.last().Header
	if h.Get("X-Forwarded-For") != "127.0.0.1" || h.Get("X-Forwarded-Proto") != "http" || h.Get("X-Forwarded-Host") != g.Listener.Addr().String() {
		t.Errorf("X-Forwarded: %v", h)
	}
	for _, name := range []string{"Forwarded", "Dapr-App-Id", "Dapr-Caller-App-Id", "X-Hop"} {
		if h.Get(name) != "" {
			t.Errorf("%s: %s reached the backend", name, h.Get(name))
		}
	}
	if got := h.Values("Dapr-Api-Token"); len(got) != 1 || got[0] != "to-sidecar" {
		t.Errorf("dapr-api-token: %v", got)
	}
	if !strings.HasSuffix(h.Get("Traceparent"), "-00") {
		t.Errorf("traceparent: %s", h.Get("Traceparent"))
	}
	g.send(t, "POST", "/v1/intents", "{}", "dapr-app-id", "autoscaler", "X-Forwarded-For", "6.6.6.6")
	if h := s.last().Header; h.Get("Dapr-App-Id") != "" || h.Get("X-Forwarded-For") != "" {
		t.Errorf("a caller's header is in a coalesced call: %v", h)
	}
}

func TestNoConnectionIsSwitchedToAnotherProtocol(t *testing.T) {
	s := &sidecar{}
	g := start(t, s, nil)
	for _, protocol := range []string{"h2c", "websocket"} {
		got := g.send(t, "GET", "/v1/status", "", "Connection", "Upgrade, HTTP2-Settings", "Upgrade", protocol, "HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")
		if got.status != 200 {
			t.Errorf("%s: got %d %s", protocol, got.status, got.body)
		}
		if h := s.last().Header; h.Get("Upgrade") != "" || h.Get("Connection") != "" || h.Get("Http2-Settings") != "" {
			t.Errorf("%s reached the sidecar: %v", protocol, h)
		}
	}
}

func TestTheInsideDoesNotLeakInHeaders(t *testing.T) {
	s := &sidecar{plain: func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range map[string]string{"Dapr-Http-Status": "200", "dapr-app-id": "routing", "Traceparent": "00-1-1-00", "Tracestate": "a=b", "Server": "uvicorn", "X-Own": "kept"} {
			w.Header().Set(name, value)
		}
	}}
	got := start(t, s, nil).send(t, "GET", "/v1/status", "")
	for _, name := range []string{"Dapr-Http-Status", "Dapr-App-Id", "Traceparent", "Tracestate", "Server", "Dapr-Api-Token"} {
		if got.header.Get(name) != "" {
			t.Errorf("%s: %s", name, got.header.Get(name))
		}
	}
	if got.header.Get("X-Own") != "kept" {
		t.Error("the service's own header is gone")
	}
}

func TestARedirectOfAnAppLeadsBackToTheGateway(t *testing.T) {
	for location, want := range map[string]string{
		"http://127.0.0.1:9001/v1/sessions/x?a=b": "/v1/sessions/x?a=b", "http://[::1]:9001/": "/", "/v1/x": "/v1/x", "https://foremesh.dev/x": "https://foremesh.dev/x",
	} {
		s := &sidecar{plain: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", location)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}}
		g := start(t, s, nil)
		got := g.raw(t, "GET /v1/sessions/x/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if got.status != 307 || got.header.Get("Location") != want {
			t.Errorf("%s became %d %s", location, got.status, got.header.Get("Location"))
		}
	}
}

func TestASidecarsErrorIsHiddenAndAServicesIsKept(t *testing.T) {
	for status, want := range map[int]struct {
		status int
		slug   string
	}{
		500: {503, "unavailable"}, 401: {503, "unavailable"}, 403: {503, "unavailable"}, 404: {503, "unavailable"}, 502: {503, "unavailable"},
		429: {503, "overloaded"}, 503: {503, "overloaded"}, 504: {504, "deadline-exceeded"},
	} {
		var contentType, body string
		s := &sidecar{plain: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}}
		g := start(t, s, nil)
		contentType, body = "application/json", `{"errorCode":"ERR_DIRECT_INVOKE","message":"spiffe://public/ns/default/routing at 127.0.0.1"}`
		wantProblem(t, g.send(t, "GET", "/v1/sessions/x", ""), want.status, want.slug)
		contentType, body = "application/problem+json", `{"type":"https://foremesh.dev/problems/own","detail":"session 'x' is not known"}`
		if got := g.send(t, "GET", "/v1/sessions/x", ""); got.status != status || got.body != body {
			t.Errorf("a service's own %d became %d %s", status, got.status, got.body)
		}
	}
}

func TestAPlainBodyIsBounded(t *testing.T) {
	s := &sidecar{plain: func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }}
	g := start(t, s, nil)
	wantProblem(t, g.send(t, "POST", "/v1/sessions", strings.Repeat("x", 64<<10+1)), 413, "body-too-large")
	r, _ := http.NewRequestWithContext(t.Context(), "POST", g.URL+"/v1/sessions", io.MultiReader(strings.NewReader(strings.Repeat("x", 128<<10))))
	wantProblem(t, do(t, g, r), 413, "body-too-large") // chunked: not known before
	if got := g.send(t, "POST", "/v1/sessions", strings.Repeat("x", 64<<10)); got.status != 200 || len(got.body) != 64<<10 {
		t.Errorf("got %d and %d bytes", got.status, len(got.body))
	}
}

func TestASlowPlainRouteIsADeadline(t *testing.T) {
	s := &sidecar{plain: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}
	g := start(t, s, func(s *settings.Settings) { s.BackendTimeout = 100 * time.Millisecond })
	wantProblem(t, g.send(t, "GET", "/v1/status", ""), 504, "deadline-exceeded")
}

func TestACallerThatLeavesEndsAForwardedRequest(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	s := &sidecar{plain: func(_ http.ResponseWriter, r *http.Request) { close(began); <-r.Context().Done(); close(ended) }}
	g := start(t, s, nil)
	ctx, leave := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "GET", g.URL+"/v1/status", nil)
	go func() {
		if answer, err := g.Client().Do(r); err == nil {
			_ = answer.Body.Close()
		}
	}()
	<-began
	leave()
	select {
	case <-ended:
	case <-time.After(4 * time.Second): // less than BackendTimeout
		t.Error("the backend still works for a caller that has left")
	}
}

func TestAnAnswerThatBreaksOffIsCountedAndFreesItsPlace(t *testing.T) {
	s := &sidecar{plain: func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == method+"/v1/whole" {
			return
		}
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}}
	g := start(t, s, func(s *settings.Settings) { s.MaxInFlight = 1 })
	answer, err := g.Client().Get(g.URL + "/v1/status")
	if err == nil {
		_, err = io.ReadAll(answer.Body)
		_ = answer.Body.Close()
	}
	if err == nil {
		t.Error("half an answer looks whole")
	}
	until(t, func() bool { return g.send(t, "GET", "/v1/whole", "").status == 200 })
	until(t, func() bool { return g.counts(t)["plain 502"] > 0 })
}

func TestPathsThatCouldBeReadInTwoWaysAreRefused(t *testing.T) {
	s := &sidecar{}
	g := start(t, s, nil)
	for _, target := range []string{
		"/v1/../admin", "/v1/./status", "/..", "/v1/..", "/v1/%2e%2e/admin", "/v1/%2E%2e/admin", "/v1/.%2e/admin", "/v1/a%2eb", "/v1%2fstatus", "/v1/%2Fstatus",
		"/v1/\"%2fadmin", "/v1/%252e%252e/admin", "/v1/%25", "/v1/%5c..%5cadmin", "/v1/a\\b", "/v1//status", "//v1/status", "/v1/a%00b", "*", "status",
		"http://a/v1/status", "http://evil/v1/status", "HTTP://a/v1/status",
	} {
		got := g.raw(t, "GET "+target+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if target == "status" { // net/http's own answer: this is no request line
			if got.status != 400 {
				t.Errorf("%s: got %d", target, got.status)
			}
			continue
		}
		wantProblem(t, got, 400, "bad-path")
	}
	wantProblem(t, g.raw(t, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nConnection: close\r\n\r\n"), 400, "bad-path")
	if r := s.last(); r != nil {
		t.Errorf("%s reached the backend", r.RequestURI)
	}
	for _, target := range []string{"/v1", "/v1/", "/v1/a.b", "/v1/...", "/v1/a..b/", "/v1/%C3%A9"} {
		if got := g.raw(t, "GET "+target+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); got.status != 200 {
			t.Errorf("%s: got %d %s", target, got.status, got.body)
		}
	}
	wantProblem(t, g.send(t, "GET", "/v2", ""), 404, "not-found")
}

// TestTheBytesThatReachTheSidecarHaveOneReading looks at the wire itself, as net/http hides what it has mended.
func TestTheBytesThatReachTheSidecarHaveOneReading(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	wire := make(chan string, 1)
	go func() {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = connection.Close() }()
		_ = connection.SetDeadline(time.Now().Add(5 * time.Second))
		var seen strings.Builder
		buffer := make([]byte, 4096)
		for !strings.Contains(seen.String(), "0\r\n\r\n") {
			n, err := connection.Read(buffer)
			seen.Write(buffer[:n])
			if err != nil {
				break
			}
		}
		_, _ = io.WriteString(connection, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		wire <- seen.String()
	}()
	g := startAt(t, listener.Addr().(*net.TCPAddr).Port, nil)
	got := g.raw(t, "POST /v1/sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /v1/smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
	if got.status != 200 {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	seen := <-wire
	if strings.Contains(seen, "Content-Length") || strings.Count(seen, "Transfer-Encoding: chunked\r\n") != 1 || strings.Contains(seen, "smuggled") {
		t.Errorf("reached the sidecar:\n%s", seen)
	}
}

func TestAnAppCanBeCalledDirectly(t *testing.T) {
	direct := &sidecar{}
	start(t, direct, nil) // for its listener
	var seen http.Header
	direct.plain = nil
	g := startAt(t, 1, func(s *settings.Settings) {
		s.Direct = map[string]string{"routing": direct.Server.URL + "/"}
		s.AppToken = "to-sidecar"
	})
	if got := g.send(t, "GET", "/v1/status", ""); got.status != 200 {
		t.Errorf("got %d %s", got.status, got.body)
	}
	seen = direct.last().Header
	if at, _ := url.Parse(direct.last().RequestURI); at.Path != "/v1/status" || seen.Get("dapr-api-token") != "to-sidecar" {
		t.Errorf("got %s %v", at, seen)
	}
}
