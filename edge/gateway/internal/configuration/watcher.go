// Package configuration watches keys of Dapr's configuration API through the own sidecar.
package configuration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/traffic"
)

const (
	// maxAnswer bounds what a store may answer: values here are short.
	maxAnswer = 1 << 20
	// soonest is the pause after a first failure; it doubles up to latest.
	soonest = 250 * time.Millisecond
	latest  = 5 * time.Second
)

// Key is one of a configuration store.
type Key struct{ Store, Name string }

// Item is what a store has for a key.
type Item struct {
	Found   bool
	Value   string
	Version string
}

// Watcher reads keys when the sidecar says that they have changed, and every now and then besides: a store may forget
// to tell (a Redis that has begun anew), and a sidecar forgets who asked. Its exported fields are set once.
//
// What is pushed is never taken for the value itself: it only makes the watcher read. So values come in one order.
type Watcher struct {
	Address string // of the sidecar's HTTP API, such as http://127.0.0.1:3500
	Token   string // opens it
	Client  *http.Client
	Timeout time.Duration   // of one call
	Every   time.Duration   // between looks that nobody asked for
	Tell    func(Key, Item) // gets what each look finds, changed or not

	mu     sync.Mutex
	stores map[string]*store
}

// Watch replaces what is watched. No keys: nothing is.
func (w *Watcher) Watch(keys []Key) {
	wanted := map[string][]string{}
	for _, key := range keys {
		if !slices.Contains(wanted[key.Store], key.Name) {
			wanted[key.Store] = append(wanted[key.Store], key.Name)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.stores
	w.stores = map[string]*store{}
	for name, names := range wanted {
		slices.Sort(names)
		if same := before[name]; same != nil && slices.Equal(same.keys, names) {
			w.stores[name] = same
			delete(before, name)
		}
	}
	for _, gone := range before {
		gone.stop()
		<-gone.stopped // a look of the one that goes must not come after the next one's
	}
	for name, names := range wanted {
		if w.stores[name] == nil {
			w.stores[name] = w.begin(name, names)
		}
	}
}

// Pushed is to be called when the sidecar says that a key has changed.
func (w *Watcher) Pushed(key Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.stores[key.Store]; s != nil && slices.Contains(s.keys, key.Name) {
		poke(s.changed)
	}
}

// Renew is to be called when a sidecar has begun: it does not know what the one before it was asked for.
func (w *Watcher) Renew() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.stores {
		poke(s.renew)
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is on its way already
	}
}

// State is how a store does.
type State struct {
	Store      string    `json:"store"`
	Keys       []string  `json:"keys"`
	Subscribed bool      `json:"subscribed"` // changes are told; otherwise they are looked for
	ReadAt     time.Time `json:"readAt"`     // the last time that it could be; zero: never
	Trouble    string    `json:"trouble"`    // why it cannot be read now
}

// States returns how each store does, by name.
func (w *Watcher) States() []State {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := []State{}
	for _, s := range w.stores {
		s.mu.Lock()
		all = append(all, s.state)
		s.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b State) int { return strings.Compare(a.Store, b.Store) })
	return all
}

// store is one that is watched, by a goroutine of its own: one that hangs does not hold up the others.
type store struct {
	watcher        *Watcher
	name           string
	keys           []string
	changed, renew chan struct{}
	stop           context.CancelFunc
	stopped        chan struct{}
	subscription   string // empty: none
	last           map[string]Item

	mu    sync.Mutex
	state State
}

func (w *Watcher) begin(name string, keys []string) *store {
	ctx, stop := context.WithCancel(context.Background())
	s := &store{
		watcher: w, name: name, keys: keys, changed: make(chan struct{}, 1), renew: make(chan struct{}, 1),
		stop: stop, stopped: make(chan struct{}), state: State{Store: name, Keys: keys},
	}
	go s.run(ctx)
	return s
}

func (s *store) run(ctx context.Context) {
	pause, told := soonest, false
	for {
		err := s.look(ctx, told)
		if ctx.Err() != nil {
			break
		}
		s.note(err)
		wait := s.watcher.Every
		if err != nil {
			// Spread, so that gateways that lost their store together do not come back together.
			wait, pause = pause/2+rand.N(pause/2), min(2*pause, latest)
		} else {
			pause = soonest
		}
		timer := time.NewTimer(wait)
		told = false
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.changed:
			told = true
		case <-s.renew:
			s.subscription, pause = "", soonest // it is about to answer
		}
		timer.Stop()
	}
	close(s.stopped)
	s.leave()
}

// look reads every key. Told: by a push.
func (s *store) look(ctx context.Context, told bool) error {
	if s.subscription == "" {
		// Before the keys are read: what changes in between is then told.
		if err := s.subscribe(ctx); err != nil {
			return err
		}
		told = true
	}
	found, err := s.read(ctx)
	if err != nil {
		if ctx.Err() == nil { // otherwise somebody waits for the end, and it is left afterwards
			s.leave()
		}
		return err
	}
	missed := false
	for _, key := range s.keys {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		item := found[key]
		missed = missed || !told && s.last[key] != item
		s.watcher.Tell(Key{s.name, key}, item)
	}
	s.last = found
	if missed { // nobody told of this change: the subscription is worth nothing any more
		s.leave()
		return s.subscribe(ctx)
	}
	return nil
}

func (s *store) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Subscribed = s.subscription != ""
	if err != nil {
		if s.state.Trouble == "" { // once for a whole outage
			slog.Warn("a configuration store cannot be read; what it said last holds", "store", s.name, "error", err.Error())
		}
		s.state.Trouble = err.Error()
		return
	}
	if s.state.Trouble != "" {
		slog.Info("a configuration store can be read again", "store", s.name)
	}
	s.state.Trouble, s.state.ReadAt = "", time.Now()
}

func (s *store) read(ctx context.Context) (map[string]Item, error) {
	answer := map[string]struct {
		Value   string `json:"value"`
		Version string `json:"version"`
	}{}
	if err := s.call(ctx, "", &answer); err != nil {
		return nil, err
	}
	found := map[string]Item{}
	for _, key := range s.keys {
		if given, there := answer[key]; there {
			found[key] = Item{Found: true, Value: given.Value, Version: given.Version}
		}
	}
	return found, nil
}

func (s *store) subscribe(ctx context.Context) error {
	var answer struct {
		ID string `json:"id"`
	}
	if err := s.call(ctx, "/subscribe", &answer); err != nil {
		return err
	}
	if answer.ID == "" {
		return fmt.Errorf("the sidecar gave store '%s' no subscription", s.name)
	}
	s.subscription = answer.ID
	return nil
}

// leave ends the subscription, whether or not the sidecar still knows it.
func (s *store) leave() {
	if s.subscription == "" {
		return
	}
	var answer struct{}
	_ = s.call(context.Background(), "/"+url.PathEscape(s.subscription)+"/unsubscribe", &answer)
	s.subscription = ""
}

func (s *store) call(ctx context.Context, path string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, s.watcher.Timeout)
	defer cancel()
	at := s.watcher.Address + "/v1.0/configuration/" + url.PathEscape(s.name) + path + "?" + url.Values{"key": s.keys}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return err
	}
	request.Header.Set("dapr-api-token", s.watcher.Token)
	// Looks are no user's request: they start no trace.
	request.Header.Set("traceparent", traffic.Untraced)
	reply, err := s.watcher.Client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = reply.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(reply.Body, maxAnswer))
	switch {
	case err != nil:
		return err
	case reply.StatusCode == http.StatusNoContent || reply.StatusCode == http.StatusOK && len(body) == 0:
		return nil
	case reply.StatusCode != http.StatusOK:
		return fmt.Errorf("the sidecar answered %d: %.300s", reply.StatusCode, body)
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("the sidecar's answer is not as agreed: %w", err)
	}
	return nil
}
