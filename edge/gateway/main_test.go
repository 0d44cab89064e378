package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestMain lets the test binary be the gateway when it starts itself: the processes under test are then of this very
// code, for the race detector and for the cache of test results, which knows nothing of a binary built aside.
func TestMain(m *testing.M) {
	if os.Getenv("BE_THE_GATEWAY") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func command(arguments ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], arguments...)
	c.Env = append(c.Env, "BE_THE_GATEWAY=yes")
	return c
}

// process is a gateway as it runs in the mesh.
type process struct {
	cmd             *exec.Cmd
	public, private string // addresses
	exited          chan struct{}

	mu  sync.Mutex
	log bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

func start(t *testing.T, environment ...string) *process {
	t.Helper()
	return startThis(t, command(), environment...)
}

// startThis starts a command that is or becomes the gateway, on free ports.
func startThis(t *testing.T, cmd *exec.Cmd, environment ...string) *process {
	t.Helper()
	public, private := freePort(t), freePort(t)
	p := &process{public: "127.0.0.1:" + public, private: "127.0.0.1:" + private, exited: make(chan struct{}), cmd: cmd}
	if _, err := os.ReadFile("routes/foremesh.yaml"); err != nil { // the cache sees what this process reads
		t.Fatal(err)
	}
	p.cmd.Env = append(append(p.cmd.Env, "FOREMESH_PUBLIC_PORT="+public, "FOREMESH_PORT="+private, "FOREMESH_ROUTES=routes", "APP_API_TOKEN=from-sidecar",
		"DAPR_API_TOKEN=to-sidecar", "DAPR_HTTP_PORT=1", "GORACE=atexit_sleep_ms=0"), environment...)
	p.cmd.Stderr = p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.exited) }()
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); <-p.exited })
	return p
}

// ready waits for /readyz, as the supervisor does.
func (p *process) ready(t *testing.T) *process {
	t.Helper()
	until(t, func() bool {
		select {
		case <-p.exited:
			t.Fatalf("the gateway ended: %s", p.output())
		default:
		}
		answer, err := http.Get("http://" + p.private + "/readyz")
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	return p
}

// end waits for the exit status.
func (p *process) end(t *testing.T) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(10 * time.Second):
		t.Fatalf("the gateway did not end within 10 s: %s", p.output())
		return -1
	}
}

func until(t *testing.T, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !true(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("did not happen within 10 s")
		}
	}
}

func get(t *testing.T, url string, token string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("dapr-api-token", token)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(body)
}
