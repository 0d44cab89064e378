package reload

import (
	"context"
	"os"
	"path/filepath"
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
