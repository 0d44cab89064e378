package configuration_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/configuration"
)

// sidecar is what the tests with a real one (tests/mesh/test_rollout.py) cannot be told to be: one that forgets to tell,
// hangs or talks nonsense.
type sidecar struct {
	*httptest.Server

	mu            sync.Mutex
	values        map[string]string
	subscriptions int
	left          int
	answer        http.HandlerFunc // nil: as a sidecar does
}

func begin(t *testing.T) *sidecar {
	s := &sidecar{values: map[string]string{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case r.Header.Get("dapr-api-token") != "to-sidecar":
			w.WriteHeader(http.StatusUnauthorized)
		case s.answer != nil:
			s.answer(w, r)
		case strings.HasSuffix(r.URL.Path, "/unsubscribe"):
			s.left++
			_, _ = w.Write([]byte(`{"ok":true}`))
		case strings.HasSuffix(r.URL.Path, "/subscribe"):
			s.subscriptions++
			_, _ = fmt.Fprintf(w, `{"id":"s%d"}`, s.subscriptions)
		default:
			found := map[string]map[string]string{}
			for _, key := range r.URL.Query()["key"] {
				if value, there := s.values[key]; there {
					found[key] = map[string]string{"value": value}
				}
			}
			if len(found) == 0 {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			_ = json.NewEncoder(w).Encode(found)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *sidecar) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// seen is what a watcher told.
type seen struct {
	mu    sync.Mutex
	items map[configuration.Key]configuration.Item
	told  int
}

func (s *seen) tell(key configuration.Key, item configuration.Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items[key] = item
	s.told++
}

func (s *seen) get(key configuration.Key) (configuration.Item, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.items[key], s.told
}

func watch(t *testing.T, s *sidecar, every time.Duration) (*configuration.Watcher, *seen) {
	found := &seen{items: map[configuration.Key]configuration.Item{}}
	w := &configuration.Watcher{Address: s.URL, Token: "to-sidecar", Client: &http.Client{}, Timeout: 100 * time.Millisecond, Every: every, Tell: found.tell}
	t.Cleanup(func() { w.Watch(nil) })
	return w, found
}

var key = configuration.Key{Store: "releases", Name: "site/answers"}

func until(t *testing.T, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !true(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("did not happen within 20 s")
		}
	}
}

func TestAPushMakesItLookAndNothingElseDoes(t *testing.T) {
	s := begin(t)
	w, found := watch(t, s, time.Hour)
	w.Watch([]configuration.Key{key, key})
	until(t, func() bool { _, told := found.get(key); return told == 1 })
	s.set(func() { s.values[key.Name] = "a" })
	w.Pushed(configuration.Key{Store: "releases", Name: "another"})
	w.Pushed(configuration.Key{Store: "another", Name: key.Name})
	if item, told := found.get(key); told != 1 || item.Found {
		t.Errorf("looked %d times: %+v", told, item)
	}
	w.Pushed(key)
	until(t, func() bool { item, _ := found.get(key); return item.Value == "a" && item.Found })
	if state := w.States()[0]; !state.Subscribed || state.Trouble != "" || state.ReadAt.IsZero() {
		t.Errorf("got %+v", state)
	}
	s.set(func() {
		if s.subscriptions != 1 || s.left != 0 {
			t.Errorf("%d subscriptions, %d left", s.subscriptions, s.left)
		}
	})
}

func TestAStoreThatForgetsToTellIsAskedAgain(t *testing.T) {
	s := begin(t)
	w, found := watch(t, s, 20*time.Millisecond)
	w.Watch([]configuration.Key{key})
	until(t, func() bool { _, told := found.get(key); return told > 2 })
	s.set(func() {
		if s.subscriptions != 1 {
			t.Errorf("%d subscriptions while nothing changed", s.subscriptions)
		}
		s.values[key.Name] = "a"
	})
	until(t, func() bool { item, _ := found.get(key); return item.Value == "a" })
	until(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.subscriptions == 2 && s.left == 1
	})
}

func TestWhatASidecarShouldNotSayChangesNothing(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"no store":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) },
		"nonsense":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"a list":    func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("[]")) },
		"no id":     func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) },
		"a hang-up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"no answer": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		s := begin(t)
		s.values[key.Name] = "a"
		w, found := watch(t, s, 20*time.Millisecond)
		w.Watch([]configuration.Key{key})
		until(t, func() bool { _, told := found.get(key); return told > 0 })
		s.set(func() { s.answer = answer })
		w.Renew()
		until(t, func() bool { return w.States()[0].Trouble != "" })
		if item, _ := found.get(key); item.Value != "a" {
			t.Errorf("%s: became %+v", name, item)
		}
		s.set(func() { s.answer, s.values[key.Name] = nil, "b" })
		until(t, func() bool { item, _ := found.get(key); return item.Value == "b" && w.States()[0].Subscribed })
	}
}

func TestWhatIsWatchedNoMoreIsLeft(t *testing.T) {
	s := begin(t)
	w, found := watch(t, s, time.Hour)
	w.Watch([]configuration.Key{key})
	until(t, func() bool { _, told := found.get(key); return told == 1 })
	w.Watch([]configuration.Key{key}) // as it was: nothing begins anew
	w.Watch(nil)
	until(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.left == 1 && s.subscriptions == 1
	})
	w.Pushed(key)
	w.Renew()
	if _, told := found.get(key); told != 1 || len(w.States()) != 0 {
		t.Errorf("told %d times, %+v", told, w.States())
	}
}
