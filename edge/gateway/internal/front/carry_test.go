package front_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

func echoed(t *testing.T, got reply) string {
	t.Helper()
	var document struct{ Echo string }
	if err := json.Unmarshal([]byte(got.body), &document); err != nil || got.status != 200 {
		t.Errorf("got %d %s", got.status, got.body)
	}
	return document.Echo
}

func TestOneRequestIsCarriedAsItCame(t *testing.T) {
	s := &sidecar{}
	g := start(t, s, nil)
	body := "{\"text\": \"licht \\u0000 an \U0001F4A1 \x7f \\\"\"} \n\t\x00"
	got := g.send(t, "POST", "/v1/intents", body, "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if echo := echoed(t, got); echo != body {
		t.Errorf("arrived as %q, was %q", echo, body)
	}
	if got.header.Get("Content-Type") != "application/json" || got.header.Get("X-Trace-Id") != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("got %v", got.header)
	}
	r, item := s.last(), s.batches[0][0]
	if r.Method != "POST" || r.URL.Path != method+"/internal/intents" || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("got %s %s %v", r.Method, r.URL, r.Header)
	}
	if item.Traceparent == nil || (*item.Traceparent)[:35] != "00-0af7651916cd43dd8448eb211c80319c" || r.Header.Get("Traceparent")[:35] != (*item.Traceparent)[:35] {
		t.Errorf("item %+v, call %v", item, r.Header)
	}
	if item.DeadlineMS < 1000 || item.DeadlineMS > 2000 {
		t.Errorf("deadline %g ms, want close to the call's 2 s", item.DeadlineMS)
	}
	if second := g.second(t); second.Arrivals != 1 || second.Answered != 1 || second.InFlight != 0 {
		t.Errorf("got %+v", second)
	}
}

func TestAnUntracedCallStartsNoTrace(t *testing.T) {
	s := &sidecar{}
	g := start(t, s, nil)
	g.send(t, "POST", "/v1/intents", "{}")
	if s.batches[0][0].Traceparent != nil || !strings.HasSuffix(s.last().Header.Get("Traceparent"), "-00") {
		t.Errorf("item %v, call %v", s.batches[0][0].Traceparent, s.last().Header)
	}
}

func TestManyRequestsShareCallsAndEachGetsItsOwnAnswer(t *testing.T) {
	const callers = 64
	release := make(chan struct{})
	s := &sidecar{}
	s.coalesced = func(w http.ResponseWriter, r *http.Request) {
		<-release
		var message struct{ Items []sentItem }
		_ = json.NewDecoder(r.Body).Decode(&message)
		s.echo(w, message.Items)
	}
	g := start(t, s, nil)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			body := fmt.Sprintf(`{"text": "request %d"}`, i)
			if echo := echoed(t, g.send(t, "POST", "/v1/intents", body)); echo != body {
				t.Errorf("%s was answered %s", body, echo)
			}
		})
	}
	// All are here: two calls are out (maxInFlight), the others wait.
	until(t, func() bool {
		_, carried := s.calls()
		return g.counter.InFlight() == callers && g.front.Queued()+carried == callers
	})
	close(release)
	all.Wait()
	calls, items := s.calls()
	if items != callers || calls > callers/2 {
		t.Errorf("%d calls carried %d of %d requests", calls, items, callers)
	}
	if second := g.second(t); second.Answered != callers || second.InFlight != 0 {
		t.Errorf("got %+v", second)
	}
}

func TestRoutesThatShareACoalesceKeepTheirBackends(t *testing.T) {
	s := &sidecar{}
	g := start(t, s, nil)
	for path, app := range map[string]string{"/v1/intents": "routing", "/v1/orders": "orders"} {
		g.send(t, "POST", path, "{}")
		if want := "/v1.0/invoke/" + app + "/method/internal/intents"; s.last().URL.Path != want {
			t.Errorf("%s went to %s", path, s.last().URL.Path)
		}
	}
}

func TestEachItemHasItsOwnStatus(t *testing.T) {
	for _, c := range []struct {
		item                    string
		status                  int
		contentType, retryAfter string
		body                    string
	}{
		{`{"status":200,"body":{"a":1}}`, 200, "application/json", "", `{"a":1}`},
		{`{"status":201,"body":{}}`, 201, "application/json", "", `{}`},
		{`{"status":400,"body":{"type":"t"}}`, 400, "application/problem+json", "", `{"type":"t"}`},
		{`{"status":503,"body":{"type":"t"},"retry_after_s":0.2}`, 503, "application/problem+json", "1", `{"type":"t"}`},
		{`{"status":503,"body":{"type":"t"},"retry_after_s":1.2}`, 503, "application/problem+json", "2", `{"type":"t"}`},
		{`{"status":503,"body":{"type":"t"},"retry_after_s":1e300}`, 503, "application/problem+json", "3600", `{"type":"t"}`},
		{`{"status":503,"body":{"type":"t"},"retry_after_s":null}`, 503, "application/problem+json", "", `{"type":"t"}`},
	} {
		s := &sidecar{coalesced: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"items":[`+c.item+`]}`) }}
		got := start(t, s, nil).send(t, "POST", "/v1/intents", "{}")
		if got.status != c.status || got.body != c.body || got.header.Get("Content-Type") != c.contentType || got.header.Get("Retry-After") != c.retryAfter {
			t.Errorf("%s was answered %d %v %s", c.item, got.status, got.header, got.body)
		}
	}
}

func TestAnAnswerThatIsNotAsAgreedIsABadGateway(t *testing.T) {
	for _, answer := range []string{
		"", "oops", "[]", `{"items":[]}`, `{"items":[{"status":200,"body":{}},{"status":200,"body":{}}]}`, `{"items":[{"status":200,"body":{}}`,
		`{"items":[{"status":0,"body":{}}]}`, `{"items":[{"status":101,"body":{}}]}`, `{"items":[{"status":1000,"body":{}}]}`, `{"items":[{"status":"200"}]}`,
		`{"items":[{"status":200,"body":"` + strings.Repeat("x", 3<<20) + `"}]}`,
	} {
		s := &sidecar{coalesced: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }}
		wantProblem(t, start(t, s, nil).send(t, "POST", "/v1/intents", "{}"), 502, "bad-gateway")
	}
}

func TestARefusedCallIsHiddenBehindAProblem(t *testing.T) {
	for status, want := range map[int]struct {
		status     int
		slug       string
		retryAfter string
	}{
		500: {503, "unavailable", "1"}, 403: {503, "unavailable", "1"}, 401: {503, "unavailable", "1"}, 307: {503, "unavailable", "1"},
		413: {503, "unavailable", "1"}, 429: {503, "overloaded", "1"}, 503: {503, "overloaded", "1"}, 504: {504, "deadline-exceeded", "1"},
	} {
		s := &sidecar{coalesced: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "http://"+r.Host+"/elsewhere")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"errorCode":"ERR_DIRECT_INVOKE","message":"spiffe://public/ns/default/routing at 127.0.0.1"}`)
		}}
		got := start(t, s, nil).send(t, "POST", "/v1/intents", "{}")
		wantProblem(t, got, want.status, want.slug)
		if got.header.Get("Retry-After") != want.retryAfter {
			t.Errorf("%d: Retry-After %q", status, got.header.Get("Retry-After"))
		}
		if calls, _ := s.calls(); calls != 1 {
			t.Errorf("%d: %d calls, want 1: no redirect is followed, and what was sent is not sent again", status, calls)
		}
	}
}

func TestBadBodiesDoNotReachTheBackend(t *testing.T) {
	s := &sidecar{}
	g := start(t, s, nil)
	wantProblem(t, g.send(t, "POST", "/v1/intents", strings.Repeat("x", 64<<10+1)), 413, "body-too-large")
	wantProblem(t, g.send(t, "POST", "/v1/intents", strings.Repeat("x", 1<<20)), 413, "body-too-large")
	wantProblem(t, g.send(t, "POST", "/v1/intents", "{\"text\": \"\xff\xfe\"}"), 400, "bad-json")
	chunk := strings.Repeat("x", 1<<16)
	wantProblem(t, g.raw(t, "POST /v1/intents HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n"+chunk+"\r\n10000\r\n"+chunk+"\r\n0\r\n\r\n"), 413, "body-too-large")
	wantProblem(t, g.raw(t, "POST /v1/intents HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), 400, "bad-json")
	if calls, _ := s.calls(); calls != 0 {
		t.Errorf("%d calls reached the backend", calls)
	}
	body := strings.Repeat("x", 64<<10) // the limit itself
	if echo := echoed(t, g.send(t, "POST", "/v1/intents", body)); echo != body {
		t.Errorf("%d of %d bytes came back", len(echo), len(body))
	}
	if second := g.second(t); second.Arrivals != 6 || second.Answered != 6 {
		t.Errorf("got %+v", second)
	}
}

func TestManyLargeBodiesAreMoreCallsAndNotOneThatIsTooLarge(t *testing.T) {
	const callers = 64
	var held sync.Once
	release := make(chan struct{})
	s := &sidecar{}
	s.coalesced = func(w http.ResponseWriter, r *http.Request) {
		held.Do(func() { <-release })
		if r.ContentLength > 4<<20 { // what a sidecar takes by default
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		var message struct{ Items []sentItem }
		_ = json.NewDecoder(r.Body).Decode(&message)
		answers := strings.Repeat(`{"status":200,"body":{}},`, len(message.Items))
		_, _ = io.WriteString(w, `{"items":[`+strings.TrimSuffix(answers, ",")+`]}`)
	}
	g := start(t, s, nil)
	body := strings.Repeat("\x01", 64<<10) // as JSON: six bytes for one
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			if got := g.send(t, "POST", "/v1/intents", body); got.status != 200 {
				t.Errorf("got %d %s", got.status, got.body)
			}
		})
	}
	until(t, func() bool { return g.counter.InFlight() == callers })
	close(release)
	all.Wait()
}
