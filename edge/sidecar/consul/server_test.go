package consul_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// server is Consul's key-value API at an address: a real agent where `consul` is on PATH, and always a stand-in, for
// Debian packages no Consul.
type server interface {
	start(t *testing.T)
	kill()
	address() string
}

// each runs a test against every server there is. Token: of the management, which opens everything; nobody else may read.
func each(t *testing.T, token string, run func(t *testing.T, s server)) {
	servers := map[string]func(t *testing.T) server{"stand-in": func(t *testing.T) server {
		return &standIn{at: freePort(t), token: token, pairs: map[string]*pair{}, index: 10}
	}}
	if _, err := exec.LookPath("consul"); err == nil {
		servers["consul"] = func(t *testing.T) server { return &agent{at: freePort(t), dir: t.TempDir(), token: token} }
	} else {
		t.Log("consul is not on PATH: the stand-in alone is asked")
	}
	for name, begin := range servers {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			t.Cleanup(s.kill)
			s.start(t)
			run(t, s)
		})
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

func until(t *testing.T, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !true(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("did not happen within 40 s")
		}
	}
}

// send calls a server past the component, until it takes it: one that has just begun elects itself first.
func send(t *testing.T, s server, method, key, value, token string) {
	t.Helper()
	until(t, func() bool {
		r, err := http.NewRequest(method, "http://"+s.address()+"/v1/kv/"+key, strings.NewReader(value))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Consul-Token", token)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return false
		}
		defer func() { _ = answer.Body.Close() }()
		body, _ := io.ReadAll(answer.Body)
		return answer.StatusCode == http.StatusOK && strings.TrimSpace(string(body)) == "true"
	})
}

// agent is a real server.
type agent struct {
	at, dir, token string
	ports          map[string]int
	cmd            *exec.Cmd
}

func (a *agent) address() string { return a.at }

func (a *agent) start(t *testing.T) {
	t.Helper()
	if a.ports == nil {
		a.ports = map[string]int{"dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1}
		for _, name := range []string{"serf_lan", "server"} {
			_, port, _ := net.SplitHostPort(freePort(t))
			a.ports[name], _ = strconv.Atoi(port)
		}
		_, port, _ := net.SplitHostPort(a.at)
		a.ports["http"], _ = strconv.Atoi(port)
	}
	settings := map[string]any{"server": true, "bootstrap_expect": 1, "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "data_dir": filepath.Join(a.dir, "data"),
		"ports": a.ports, "disable_update_check": true, "connect": map[string]any{"enabled": false}, "log_level": "warn", "performance": map[string]any{"raft_multiplier": 1}}
	if a.token != "" {
		settings["acl"] = map[string]any{"enabled": true, "default_policy": "deny", "tokens": map[string]any{"initial_management": a.token}}
	}
	text, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(a.dir, "agent.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	a.cmd = exec.Command("consul", "agent", "-config-file", filepath.Join(a.dir, "agent.json"))
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it ends with a test that is killed
	log, err := os.Create(filepath.Join(a.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	a.cmd.Stdout, a.cmd.Stderr = log, log
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func (a *agent) kill() {
	if a.cmd != nil && a.cmd.ProcessState == nil {
		_ = a.cmd.Process.Kill()
		_ = a.cmd.Wait()
	}
}

type pair struct {
	Key                                        string
	Value                                      []byte
	CreateIndex, ModifyIndex, LockIndex, Flags uint64
}

// standIn does what Consul's documentation says of /v1/kv: `recurse`, `index` and `wait`, X-Consul-Index, 404 with an
// index, 403 without the token. What it holds outlives a kill, as on a disk.
type standIn struct {
	at, token string

	mu      sync.Mutex
	pairs   map[string]*pair
	index   uint64
	changed chan struct{}
	server  *http.Server
}

func (s *standIn) address() string { return s.at }

func (s *standIn) start(t *testing.T) {
	t.Helper()
	var listener net.Listener
	until(t, func() (free bool) {
		var err error
		listener, err = net.Listen("tcp", s.at)
		return err == nil
	})
	s.changed, s.server = make(chan struct{}), &http.Server{Handler: s}
	go func() { _ = s.server.Serve(listener) }()
}

func (s *standIn) kill() {
	if s.server != nil {
		_ = s.server.Close()
	}
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key, found := strings.CutPrefix(r.URL.Path, "/v1/kv/")
	if !found {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if s.token != "" && r.Header.Get("X-Consul-Token") != s.token {
		http.Error(w, "Permission denied: token with AccessorID '00000000-0000-0000-0000-000000000002' lacks permission 'key:read' on \""+key+"\"", http.StatusForbidden)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.Method {
	case http.MethodPut:
		value, _ := io.ReadAll(r.Body)
		s.index++
		p := s.pairs[key]
		if p == nil {
			p = &pair{Key: key, CreateIndex: s.index}
			s.pairs[key] = p
		}
		p.Value, p.ModifyIndex = value, s.index
		s.wake(w)
	case http.MethodDelete:
		s.index++
		delete(s.pairs, key)
		s.wake(w)
	default:
		s.read(w, r, key)
	}
}

func (s *standIn) wake(w http.ResponseWriter) {
	close(s.changed)
	s.changed = make(chan struct{})
	_, _ = fmt.Fprintln(w, "true")
}

func (s *standIn) read(w http.ResponseWriter, r *http.Request, key string) {
	seen, _ := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64)
	wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
	for deadline := time.After(wait); seen > 0 && s.index <= seen; {
		changed := s.changed
		s.mu.Unlock()
		over := false
		select {
		case <-changed:
		case <-deadline:
			over = true
		case <-r.Context().Done():
			over = true
		}
		s.mu.Lock()
		if over {
			break
		}
	}
	all := []*pair{}
	for name, p := range s.pairs {
		if name == key || r.URL.Query().Has("recurse") && strings.HasPrefix(name, key) {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b *pair) int { return strings.Compare(a.Key, b.Key) })
	w.Header().Set("X-Consul-Index", strconv.FormatUint(s.index, 10))
	if len(all) == 0 {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(all)
}
