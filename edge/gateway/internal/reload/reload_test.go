package reload

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/foremesh/foremesh/edge/gateway/internal/config"
)

func route(t *testing.T, dir, path string) {
	t.Helper()
	yaml := "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: one }\nspec:\n  rules:\n" +
		"    - matches: [ { path: { type: Exact, value: " + path + " } } ]\n      backendRefs: [ { name: one, port: 80 } ]\n"
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAChangeBetweenTheFirstLoadAndTheFirstLookIsFound while a process starts.
func TestAChangeBetweenTheFirstLoadAndTheFirstLookIsFound(t *testing.T) {
	dir, applied := t.TempDir(), make(chan struct{}, 10)
	route(t, dir, "/v1/one")
	r := New(dir, config.Options{}, func(*config.Config) error { applied <- struct{}{}; return nil }, prometheus.NewRegistry())
	if err := r.Load(); err != nil {
		t.Fatal(err)
	}
	<-applied
	route(t, dir, "/v1/another-one")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go r.Watch(ctx, time.Millisecond, nil)
	select {
	case <-applied:
	case <-time.After(10 * time.Second):
		t.Fatal("the change was not loaded within 10 s")
	}
}

func TestLooksAreFewWhileNobodyIsServed(t *testing.T) {
	dir := t.TempDir()
	route(t, dir, "/v1/one")
	applied := make(chan struct{}, 10)
	r := New(dir, config.Options{}, func(*config.Config) error { applied <- struct{}{}; return nil }, prometheus.NewRegistry())
	var asked atomic.Int64
	r.Quiet = func() bool { asked.Add(1); return true }
	if err := r.Load(); err != nil {
		t.Fatal(err)
	}
	<-applied
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	began := time.Now()
	const every = 50 * time.Millisecond
	go r.Watch(ctx, every, nil)
	for asked.Load() < 4 {
		runtime.Gosched()
	}
	// The first is at most one pause away, each of the others four.
	if took := time.Since(began); took < 2*quietly*every {
		t.Errorf("4 looks took %s", took)
	}
	route(t, dir, "/v1/another-one")
	select {
	case <-applied:
	case <-time.After(10 * time.Second):
		t.Fatal("the change was not loaded within 10 s")
	}
}

func TestALookIsAtAMultipleOfItsPause(t *testing.T) {
	for now, want := range map[int64]int64{0: 1000, 1: 999, 999: 1, 1000: 1000} {
		if got := next(time.UnixMilli(now), time.Second); got != time.Duration(want)*time.Millisecond {
			t.Errorf("at %d ms: %s, want %d ms", now, got, want)
		}
	}
}
