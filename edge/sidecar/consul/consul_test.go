package consul_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dapr/components-contrib/configuration"
	"github.com/dapr/components-contrib/metadata"
	"github.com/dapr/kit/logger"

	"github.com/foremesh/foremesh/edge/sidecar/consul"
)

func open(t *testing.T, properties map[string]string) (configuration.Store, error) {
	t.Helper()
	store := consul.New(logger.NewLogger("test"))
	t.Cleanup(func() { _ = store.Close() })
	return store, store.Init(t.Context(), configuration.Metadata{Base: metadata.Base{Name: "releases", Properties: properties}})
}

func opened(t *testing.T, endpoints, token string) configuration.Store {
	t.Helper()
	store, err := open(t, map[string]string{"endpoints": endpoints, "prefix": "foremesh/", "token": token})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// told is what a subscription said last of each key.
type told struct {
	mu    sync.Mutex
	items map[string]*configuration.Item
}

func (s *told) get(key string) *configuration.Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.items[key]
}

func (s *told) says(key, value string) func() bool {
	return func() bool { item := s.get(key); return item != nil && item.Value == value }
}

func subscribe(t *testing.T, store configuration.Store, keys ...string) (*told, string) {
	t.Helper()
	s := &told{items: map[string]*configuration.Item{}}
	id, err := store.Subscribe(t.Context(), &configuration.SubscribeRequest{Keys: keys}, func(_ context.Context, e *configuration.UpdateEvent) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for key, item := range e.Items {
			s.items[key] = item
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, id
}

func TestGet(t *testing.T) {
	each(t, "", func(t *testing.T, s server) {
		send(t, s, "PUT", "foremesh/answers", "a", "")
		send(t, s, "PUT", "foremesh/site/other", "b", "")
		send(t, s, "PUT", "elsewhere", "secret", "")
		store := opened(t, "http://"+s.address(), "")
		one, err := store.Get(t.Context(), &configuration.GetRequest{Keys: []string{"answers", "missing"}})
		if err != nil || len(one.Items) != 1 || one.Items["answers"].Value != "a" || one.Items["answers"].Version != one.Items["answers"].Metadata["modifyIndex"] || one.Items["answers"].Version == "0" {
			t.Errorf("got %+v, %v", one, err)
		}
		if got, err := store.Get(t.Context(), &configuration.GetRequest{Keys: []string{"../elsewhere"}}); err == nil && len(got.Items) > 0 {
			t.Errorf("read above the prefix: %+v", got.Items)
		}
		all, err := store.Get(t.Context(), &configuration.GetRequest{})
		if err != nil || len(all.Items) != 2 || all.Items["site/other"].Value != "b" {
			t.Errorf("got %+v, %v", all, err)
		}
		if _, err := store.Get(t.Context(), &configuration.GetRequest{Keys: make([]string, 129)}); err == nil || !strings.Contains(err.Error(), "129 keys") {
			t.Errorf("129 keys: %v", err)
		}
		for i := range 1000 {
			send(t, s, "PUT", fmt.Sprintf("foremesh/many/%d", i), "", "")
		}
		if _, err := store.Get(t.Context(), &configuration.GetRequest{}); err == nil || !strings.Contains(err.Error(), "1002 keys below 'foremesh/'") {
			t.Errorf("more than are read at once: %v", err)
		}
	})
}

func TestChangesAreTold(t *testing.T) {
	each(t, "", func(t *testing.T, s server) {
		send(t, s, "PUT", "foremesh/answers", "a", "")
		store := opened(t, "http://"+s.address(), "")
		one, id := subscribe(t, store, "answers")
		all, _ := subscribe(t, store)
		send(t, s, "PUT", "foremesh/other", "x", "")
		began := time.Now()
		send(t, s, "PUT", "foremesh/answers", "b", "")
		until(t, one.says("answers", "b"))
		t.Logf("told %s after it was put", time.Since(began))
		until(t, all.says("answers", "b"))
		until(t, all.says("other", "x"))
		if one.get("other") != nil {
			t.Error("told of a key that is not followed")
		}
		send(t, s, "DELETE", "foremesh/answers", "", "")
		until(t, one.says("answers", ""))
		if one.get("answers").Metadata["deleted"] != "true" {
			t.Errorf("got %+v", one.get("answers"))
		}
		if err := store.Unsubscribe(t.Context(), &configuration.UnsubscribeRequest{ID: id}); err != nil {
			t.Fatal(err)
		}
		send(t, s, "PUT", "foremesh/answers", "c", "")
		until(t, all.says("answers", "c"))
		if one.says("answers", "c")() {
			t.Error("told after it was ended")
		}
	})
}

func TestWhatChangesWhileAServerIsAwayIsNotLost(t *testing.T) {
	each(t, "", func(t *testing.T, s server) {
		send(t, s, "PUT", "foremesh/answers", "a", "")
		send(t, s, "PUT", "foremesh/old", "x", "")
		store := opened(t, "http://"+s.address(), "")
		got, _ := subscribe(t, store)
		s.kill()
		began := time.Now()
		if _, err := store.Get(t.Context(), &configuration.GetRequest{Keys: []string{"answers"}}); err == nil || time.Since(began) > 3*time.Second {
			t.Errorf("a server that is away answered after %s: %v", time.Since(began), err)
		}
		s.start(t)
		send(t, s, "PUT", "foremesh/answers", "b", "")
		send(t, s, "DELETE", "foremesh/old", "", "")
		until(t, got.says("answers", "b"))
		until(t, func() bool { item := got.get("old"); return item != nil && item.Metadata["deleted"] == "true" })
		send(t, s, "PUT", "foremesh/answers", "c", "") // and it goes on
		until(t, got.says("answers", "c"))
	})
}

func TestAnotherEndpointIsAsked(t *testing.T) {
	each(t, "", func(t *testing.T, s server) {
		send(t, s, "PUT", "foremesh/answers", "a", "")
		store := opened(t, "http://"+freePort(t)+", http://"+s.address(), "")
		got, err := store.Get(t.Context(), &configuration.GetRequest{Keys: []string{"answers"}})
		if err != nil || got.Items["answers"].Value != "a" {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

func TestWhoMayRead(t *testing.T) {
	const management = "b1gs33cr3t-0000-0000-0000-000000000000"
	each(t, management, func(t *testing.T, s server) {
		send(t, s, "PUT", "foremesh/answers", "a", management)
		for name, token := range map[string]string{"nobody": "", "a wrong token": "a-guess"} {
			got, err := opened(t, "http://"+s.address(), token).Get(t.Context(), &configuration.GetRequest{})
			// Consul hides from a list what a token may not read, and says no to others.
			if err == nil && len(got.Items) > 0 || err != nil && strings.Contains(err.Error(), "a-guess") {
				t.Errorf("%s: got %+v, %v", name, got, err)
			}
		}
		store := opened(t, "http://"+s.address(), management)
		got, _ := subscribe(t, store)
		send(t, s, "PUT", "foremesh/answers", "b", management)
		until(t, got.says("answers", "b"))
	})
}

// TestAStoreThatBeginsAnew counts from the beginning, and may give another value the version of the one before.
func TestAStoreThatBeginsAnew(t *testing.T) {
	t.Parallel() // a query that nothing answers takes its 15 s
	s := &standIn{at: freePort(t), pairs: map[string]*pair{}, index: 10}
	t.Cleanup(s.kill)
	s.start(t)
	send(t, s, "PUT", "foremesh/answers", "a", "")
	send(t, s, "PUT", "foremesh/other", "x", "")
	store := opened(t, "http://"+s.address(), "")
	got, _ := subscribe(t, store)
	s.kill()
	s.mu.Lock()
	s.pairs, s.index = map[string]*pair{}, 10
	s.mu.Unlock()
	s.start(t)
	send(t, s, "PUT", "foremesh/answers", "b", "") // index 11 again
	until(t, got.says("answers", "b"))
	until(t, func() bool { item := got.get("other"); return item != nil && item.Metadata["deleted"] == "true" })
}

func TestAServerThatDoesNotWaitIsNotFlooded(t *testing.T) {
	var calls atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.Header().Set("X-Consul-Index", "7")
		_, _ = w.Write([]byte("[]"))
	}))
	t.Cleanup(s.Close)
	subscribe(t, opened(t, s.URL, ""))
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if n := calls.Load(); n > 20 {
			t.Fatalf("%d calls within a second", n)
		}
	}
}

func TestAnswersThatAreNotAsAgreed(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"another page": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"no index":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		},
		"too much": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 5<<20)) },
		"an error": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "No cluster leader", http.StatusInternalServerError)
		},
	} {
		s := httptest.NewServer(answer)
		if got, err := opened(t, s.URL, "").Get(t.Context(), &configuration.GetRequest{}); err == nil {
			t.Errorf("%s: got %+v", name, got)
		}
		s.Close()
	}
}

func TestWrongMetadataIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		properties map[string]string
		says       string
	}{
		"nothing":        {nil, "'prefix'"},
		"a slash before": {map[string]string{"prefix": "/a/", "endpoints": "http://127.0.0.1:8500"}, "without a slash before it"},
		"no endpoint":    {map[string]string{"prefix": "a/"}, "'endpoints': '' is none"},
		"in the clear":   {map[string]string{"prefix": "a/", "endpoints": "http://10.0.0.1:8500", "token": "secret"}, "10.0.0.1:8500 in the clear"},
		"a bad time":     {map[string]string{"prefix": "a/", "endpoints": "http://127.0.0.1:8500", "requestTimeout": "0s"}, "positive durations"},
	} {
		if _, err := open(t, c.properties); err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
