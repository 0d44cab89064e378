package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// released builds the gateway as it is shipped: a test binary is larger, and so is its memory.
func released(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "foremesh-gateway")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// field is a number of /proc/PID/FILE, such as VmRSS in kB.
func field(t *testing.T, path, name string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		return 0 // a thread that has ended
	}
	found := regexp.MustCompile(`(?m)^` + name + `:\s+(\d+)`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("%s has no %s", path, name)
	}
	n, _ := strconv.Atoi(string(found[1]))
	return n
}

func (p *process) resident(t *testing.T) float64 {
	t.Helper()
	return float64(field(t, fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid), "VmRSS")) / 1024
}

// wakeups counts how often all threads gave up their core of themselves: each is a wake-up.
func (p *process) wakeups(t *testing.T) (all int) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		t.Fatal("the process has no threads", err)
	}
	for _, thread := range threads {
		all += field(t, thread, "voluntary_ctxt_switches")
	}
	return all
}

// perSecond is how many in 20 s.
func (p *process) perSecond(t *testing.T) float64 {
	t.Helper()
	before := p.wakeups(t)
	over(20 * time.Second)
	return float64(p.wakeups(t)-before) / 20
}

// over waits a time in which nothing is asked of the process.
func over(d time.Duration) { <-time.After(d) }

func bar(t *testing.T, what string, got, most float64, unit string) {
	t.Helper()
	t.Logf("%-44s %6.1f %s (bar %.0f)", what, got, unit, most)
	if got > most {
		t.Errorf("%s: %.1f %s, at most %.0f", what, got, unit, most)
	}
}

// TestASmallBoxIsEnough measures size, start, memory and wake-ups of the gateway as it is shipped, with a stand-in sidecar that takes
// its counts each second. FOREMESH_LONG=yes go test -v -run SmallBox .
func TestASmallBoxIsEnough(t *testing.T) {
	if os.Getenv("FOREMESH_LONG") == "" {
		t.Skip("FOREMESH_LONG=yes runs it")
	}
	binary := released(t)
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	bar(t, "binary", float64(info.Size())/1e6, 25, "MB")
	b := standIn(t)
	go func() {
		for range b.counts { // as the sidecar does
		}
	}()
	t.Cleanup(func() { close(b.counts) })

	run := func(environment ...string) *process {
		return startThis(t, exec.Command(binary), append([]string{"DAPR_HTTP_PORT=" + b.port()}, environment...)...)
	}
	var took []time.Duration
	for range 5 {
		began := time.Now()
		p := run().ready(t)
		took = append(took, time.Since(began))
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	best := took[0]
	for _, one := range took {
		best = min(best, one)
	}
	bar(t, "start until /readyz, best of 5", float64(best.Microseconds())/1000, 100, "ms")

	idle := run().ready(t)
	over(20 * time.Second) // after which it knows
	bar(t, "wake-ups a second, idle, over 20 s", idle.perSecond(t), 15, "/s")
	bar(t, "resident, idle", idle.resident(t), 18, "MB")

	one := named(t, "one")
	busy := run("FOREMESH_ROUTES=" + folder(t, map[string]string{"a.yaml": to(one)})).ready(t)
	var callers sync.WaitGroup
	for range 64 {
		callers.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
			for began := time.Now(); time.Since(began) < 5*time.Second; {
				answer, err := client.Get("http://" + busy.public + "/")
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
			}
		})
	}
	callers.Wait()
	bar(t, "resident, after 5 s of 64 connections", busy.resident(t), 30, "MB")

	var many strings.Builder
	many.WriteString(to(one))
	for i := range 1000 {
		fmt.Fprintf(&many, "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: r%d }\nspec: { rules: [ { matches: [ { path: { value: /r/%d } } ], backendRefs: [ { name: s, port: 80 } ] } ] }\n", i, i)
	}
	full := run("FOREMESH_ROUTES=" + folder(t, map[string]string{"a.yaml": many.String()})).ready(t)
	for range 1000 {
		connection, err := net.Dial("tcp", full.public)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = connection.Close() }()
		if _, err := io.WriteString(connection, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(bufio.NewReader(connection), nil)
		if err != nil || answer.StatusCode != 200 {
			t.Fatal(answer, err)
		}
	}
	over(20 * time.Second)
	bar(t, "wake-ups a second, 1,000 idle connections", full.perSecond(t), 15, "/s")
	bar(t, "resident, 1,000 idle connections, 1,000 routes", full.resident(t), 48, "MB")
}

// TestTheMemoryLimitIsNineTenthsOfTheCgroups runs the gateway in a cgroup of its own, where the machine lets it make one.
func TestTheMemoryLimitIsNineTenthsOfTheCgroups(t *testing.T) {
	const limit = 64 << 20
	root, file := "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		root, file = "/sys/fs/cgroup", "memory.max"
	}
	stale, _ := filepath.Glob(filepath.Join(root, "foremesh-test-*"))
	for _, old := range stale { // of a test that was killed; one that is in use cannot be removed
		_ = os.Remove(old)
	}
	group, err := os.MkdirTemp(root, "foremesh-test-")
	if err != nil {
		t.Skipf("no cgroup can be made here: %v", err)
	}
	t.Cleanup(func() { until(t, func() bool { return os.Remove(group) == nil }) })
	if err := os.WriteFile(filepath.Join(group, file), []byte(strconv.Itoa(limit)), 0o600); err != nil {
		t.Skipf("no cgroup of memory here: %v", err)
	}
	inside := func(environment ...string) *process {
		in := exec.Command("/bin/sh", "-c", `echo $$ > "$0" && exec "$1"`, filepath.Join(group, "cgroup.procs"), os.Args[0])
		in.Env = append(in.Env, "BE_THE_GATEWAY=yes")
		return startThis(t, in, environment...).ready(t)
	}
	for environment, want := range map[string]float64{"A=1": limit * 9 / 10, "GOMEMLIMIT=50MiB": 50 << 20} {
		p := inside(environment)
		_, body := get(t, "http://"+p.private+"/metrics", "")
		found := regexp.MustCompile(`(?m)^go_gc_gomemlimit_bytes (\S+)`).FindStringSubmatch(body)
		if found == nil {
			t.Fatal("go_gc_gomemlimit_bytes is not among the metrics")
		}
		if got, _ := strconv.ParseFloat(found[1], 64); got < want-1 || got > want+1 {
			t.Errorf("%s: the limit is %.0f, want %.0f", environment, got, want)
		}
		if bytes.Contains([]byte(p.output()), []byte("cannot be read")) {
			t.Error(p.output())
		}
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}
