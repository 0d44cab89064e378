package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestGarbageIsCollectedLessOften than Go would by itself, unless the environment says how often.
func TestGarbageIsCollectedLessOften(t *testing.T) {
	for environment, want := range map[string]string{"A=1": "150", "GOGC=50": "50"} {
		p := start(t, environment).ready(t)
		if _, body := get(t, "http://"+p.private+"/metrics", ""); !strings.Contains(body, "\ngo_gc_gogc_percent "+want+"\n") {
			t.Errorf("%s: GOGC is not %s", environment, want)
		}
	}
}

func TestOperatorsPort(t *testing.T) {
	p := start(t).ready(t)
	for path, says := range map[string]string{"/healthz": "", "/readyz": "", "/metrics": "gateway_in_flight 0"} {
		if status, body := get(t, "http://"+p.private+path, ""); status != 200 || !strings.Contains(body, says) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	for _, path := range []string{"/", "/dapr/subscribe", "/v1/status", "/healthz/x"} {
		for token, want := range map[string]int{"": 401, "wrong": 401, "to-sidecar": 401, "from-sidecar": 404} {
			status, body := get(t, "http://"+p.private+path, token)
			if status != want || !strings.Contains(body, "https://foremesh.dev/problems/") {
				t.Errorf("%s with token %q: %d %s", path, token, status, body)
			}
		}
	}
	for path, says := range map[string]string{"/debug/pprof/": "goroutine", "/debug/pprof/goroutine?debug=1": "goroutine profile", "/debug/pprof/profile?seconds=1": "", "/debug/pprof/trace?seconds=0.1": "go 1.",
		"/status": `"refused":[]`, "/routes": `"match":"POST Exact /v1/intents","route":"intents","at":"routes/foremesh.yaml:22"`} {
		if status, body := get(t, "http://"+p.private+path, "from-sidecar"); status != 200 || !strings.Contains(body, says) {
			t.Errorf("%s: %d %s", path, status, body)
		}
		if status, _ := get(t, "http://"+p.private+path, "wrong"); status != 401 {
			t.Errorf("%s is open: %d", path, status)
		}
	}
	for _, path := range []string{"/healthz", "/metrics", "/dapr/config", "/status", "/routes", "/debug/pprof/"} {
		if status, _ := get(t, "http://"+p.public+path, "from-sidecar"); status != 404 {
			t.Errorf("%s is open to people: %d", path, status)
		}
	}
}

func TestPeopleAndOperatorsHaveAddressesOfTheirOwn(t *testing.T) {
	p := start(t, "FOREMESH_PUBLIC_HOST=127.0.0.2").ready(t)
	_, port, _ := net.SplitHostPort(p.public)
	if status, _ := get(t, "http://127.0.0.2:"+port+"/", ""); status != 404 {
		t.Errorf("got %d", status)
	}
	_, private, _ := net.SplitHostPort(p.private)
	for _, address := range []string{p.public, "127.0.0.2:" + private} {
		if connection, err := net.Dial("tcp", address); err == nil {
			_ = connection.Close()
			t.Errorf("%s is open", address)
		}
	}
}

func TestWithoutATokenNothingIsAccepted(t *testing.T) {
	p := start(t, "APP_API_TOKEN=").ready(t)
	if status, _ := get(t, "http://"+p.private+"/dapr/subscribe", ""); status != 401 {
		t.Errorf("got %d", status)
	}
}

func TestAWrongSettingOrRouteEndsItAtOnce(t *testing.T) {
	bad := t.TempDir()
	if err := os.WriteFile(filepath.Join(bad, "a.yaml"), []byte("kind: Service\napiVersion: v1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for environment, says := range map[string]string{
		"FOREMESH_TRACE_RATIO=2": "FOREMESH_TRACE_RATIO", "FOREMESH_ROUTES=/nowhere": "FOREMESH_ROUTES", "FOREMESH_ROUTES=" + bad: "a.yaml:1: kind 'Service'",
		"FOREMESH_PORT=1": "127.0.0.1:1", "DAPR_API_TOKEN=very secret": "DAPR_API_TOKEN",
	} {
		if environment == "FOREMESH_PORT=1" && os.Geteuid() == 0 {
			continue // root may bind any port
		}
		p := start(t, environment)
		if code := p.end(t); code != 1 || !strings.Contains(p.output(), "gateway: ") || !strings.Contains(p.output(), says) || strings.Contains(p.output(), "very secret") {
			t.Errorf("%s: exit %d, %s", environment, code, p.output())
		}
	}
}

func TestHelpListsTheSettings(t *testing.T) {
	out, err := command("--help").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "FOREMESH_MAX_IN_FLIGHT") {
		t.Errorf("%v: %s", err, out)
	}
}

// behind is a stand-in for the sidecar; it holds an intents call until told.
type behind struct {
	*httptest.Server
	arrived, release chan struct{}
	counts           chan map[string]any // published
}

func standIn(t *testing.T) *behind {
	b := &behind{arrived: make(chan struct{}, 10), release: make(chan struct{}), counts: make(chan map[string]any, 100)}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1.0/publish/events/traffic" {
			var count map[string]any
			_ = json.NewDecoder(r.Body).Decode(&count)
			b.counts <- count
			w.WriteHeader(http.StatusNoContent)
			return
		}
		b.arrived <- struct{}{}
		<-b.release
		_, _ = io.WriteString(w, `{"items":[{"status":200,"body":{"intent":"x"}}]}`)
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *behind) port() string {
	_, port, _ := net.SplitHostPort(b.Listener.Addr().String())
	return port
}

// ask posts an intent in the background.
func ask(p *process) chan string {
	done := make(chan string, 1)
	go func() {
		client := http.Client{Timeout: 20 * time.Second}
		answer, err := client.Post("http://"+p.public+"/v1/intents", "application/json", strings.NewReader("{}"))
		if err != nil {
			done <- err.Error()
			return
		}
		defer func() { _ = answer.Body.Close() }()
		body, _ := io.ReadAll(answer.Body)
		done <- fmt.Sprint(answer.StatusCode, " ", string(body))
	}()
	return done
}

func TestSIGTERMFinishesWhatIsInFlight(t *testing.T) {
	b := standIn(t)
	p := start(t, "DAPR_HTTP_PORT="+b.port()).ready(t)
	// As browsers do: a connection that has not sent anything must not hold up the end.
	unused, err := net.Dial("tcp", p.public)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unused.Close() }()
	answer := ask(p)
	<-b.arrived
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { // stops accepting
		connection, err := net.Dial("tcp", p.public)
		if err == nil {
			_ = connection.Close()
		}
		return err != nil
	})
	if status, _ := get(t, "http://"+p.private+"/readyz", ""); status != 503 {
		t.Errorf("/readyz answered %d while it ends", status)
	}
	close(b.release)
	if got := <-answer; got != `200 {"intent":"x"}` {
		t.Errorf("the request in flight got %s", got)
	}
	if code := p.end(t); code != 0 {
		t.Errorf("exit %d: %s", code, p.output())
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestSIGTERMDoesNotWaitForever(t *testing.T) {
	b := standIn(t)
	defer close(b.release)
	p := start(t, "DAPR_HTTP_PORT="+b.port(), "FOREMESH_SHUTDOWN_TIMEOUT=200ms").ready(t)
	ask(p)
	<-b.arrived
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.end(t); code != 1 || !strings.Contains(p.output(), "still in flight 200ms after") {
		t.Errorf("exit %d: %s", code, p.output())
	}
}

func TestCountsArePublishedEachSecond(t *testing.T) {
	b := standIn(t)
	close(b.release)
	p := start(t, "DAPR_HTTP_PORT="+b.port(), "FOREMESH_INSTANCE=gateway-7").ready(t)
	if got := <-ask(p); !strings.HasPrefix(got, "200 ") {
		t.Fatal(got)
	}
	for arrivals := 0.0; arrivals < 1; {
		select {
		case count := <-b.counts:
			arrivals += count["arrivals"].(float64)
			if count["instance"] != "gateway-7" {
				t.Fatalf("got %v", count)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("no count came")
		}
	}
}

// closed reads until the gateway closes the connection, and returns what it sent and how long that took.
func closed(t *testing.T, connection net.Conn) (string, time.Duration) {
	t.Helper()
	began := time.Now()
	_ = connection.SetReadDeadline(began.Add(10 * time.Second))
	got, err := io.ReadAll(connection)
	if err != nil {
		t.Fatalf("the connection was not closed: %v", err)
	}
	return string(got), time.Since(began)
}

func TestASlowCallerIsClosed(t *testing.T) {
	for _, c := range []struct{ setting, sends, says string }{
		{"FOREMESH_HEADER_TIMEOUT=300ms", "GET /v1/status HTTP/1.1\r\nHost: a\r\nX-Slow: ", ""},
		{"FOREMESH_READ_TIMEOUT=300ms", "POST /v1/intents HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nConnection: close\r\n\r\n{", "HTTP/1.1 408 "},
	} {
		p := start(t, c.setting).ready(t)
		connection, err := net.Dial("tcp", p.public)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(connection, c.sends); err != nil {
			t.Fatal(err)
		}
		got, took := closed(t, connection)
		if took > 4*time.Second || !strings.HasPrefix(got, c.says) || strings.Contains(got, "200 OK") {
			t.Errorf("%s: closed after %s with %q", c.setting, took, got)
		}
		_ = connection.Close()
	}
}

func TestALargeHeaderIsRefused(t *testing.T) {
	p := start(t, "FOREMESH_MAX_HEADER_BYTES=1024").ready(t)
	connection, err := net.Dial("tcp", p.public)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	if _, err := io.WriteString(connection, "GET /v1/status HTTP/1.1\r\nHost: a\r\nX-Large: "+strings.Repeat("x", 8000)+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = connection.SetReadDeadline(time.Now().Add(10 * time.Second))
	if status, err := bufio.NewReader(connection).ReadString('\n'); err != nil || !strings.HasPrefix(status, "HTTP/1.1 431 ") {
		t.Errorf("got %q, %v", status, err)
	}
}
