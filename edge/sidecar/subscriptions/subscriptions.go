// Package subscriptions keeps those of a configuration store: who follows which keys, what each has seen, and what it has
// not been told yet. It knows nothing of the store.
package subscriptions

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/google/uuid"

	"github.com/dapr/components-contrib/configuration"
	"github.com/dapr/kit/logger"
)

const (
	// most bounds the subscriptions of a store.
	most = 64
	// MaxItems bounds the items that a store reads at once, and so what a subscription keeps.
	MaxItems = 1000
	// maxKeys bounds the keys that are asked for at once: etcd takes no more in one transaction by default, and to Consul
	// each is a call.
	maxKeys = 128
	// toldWithin is the time that an app has to hear of a change.
	toldWithin = 5 * time.Second
)

// Store is what a configuration store has in common with others, over its own reads and watch; it is safe for concurrent
// use. Its fields are set once.
type Store struct {
	// Read returns the items of these keys, of all if there are none, and the revision that they are of; a key that is not
	// there is left out.
	Read func(ctx context.Context, keys []string) (map[string]*configuration.Item, int64, error)
	// Follow tells a subscription of changes until ctx is done.
	Follow func(ctx context.Context, s *Subscription)
	Log    logger.Logger

	mu     sync.Mutex
	all    map[string]context.CancelFunc
	closed bool
	wg     sync.WaitGroup
}

// Subscription is used by its Follow alone.
type Subscription struct {
	// Keys that are followed; none: all.
	Keys []string
	// Revision of the store that this has seen; the store's own.
	Revision int64

	id      string
	handler configuration.UpdateHandler
	log     logger.Logger
	seen    map[string][sha256.Size]byte // what each key was last

	mu      sync.Mutex
	pending map[string]*configuration.Item // the last of each key that was not told yet
	wake    chan struct{}
}

func (s *Store) read(ctx context.Context, keys []string) (map[string]*configuration.Item, int64, error) {
	if len(keys) > maxKeys {
		return nil, 0, fmt.Errorf("%d keys are asked for, and at most %d are read at once; ask for fewer, or for all with none", len(keys), maxKeys)
	}
	return s.Read(ctx, keys)
}

// Get is configuration.Store's.
func (s *Store) Get(ctx context.Context, request *configuration.GetRequest) (*configuration.GetResponse, error) {
	items, _, err := s.read(ctx, request.Keys)
	if err != nil {
		return nil, err
	}
	return &configuration.GetResponse{Items: items}, nil
}

// Subscribe is configuration.Store's: it tells of every change from now on.
func (s *Store) Subscribe(ctx context.Context, request *configuration.SubscribeRequest, handler configuration.UpdateHandler) (string, error) {
	items, revision, err := s.read(ctx, request.Keys)
	if err != nil {
		return "", err
	}
	made := &Subscription{
		Keys: request.Keys, Revision: revision, id: uuid.NewString(), handler: handler, log: s.Log, seen: map[string][sha256.Size]byte{},
		pending: map[string]*configuration.Item{}, wake: make(chan struct{}, 1),
	}
	for key, item := range items {
		made.seen[key] = fingerprint(item)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return "", errors.New("the store is closed")
	case len(s.all) >= most:
		return "", fmt.Errorf("there are %d subscriptions, as many as a store takes; unsubscribe what is not used", most)
	case s.all == nil:
		s.all = map[string]context.CancelFunc{}
	}
	// A subscription outlives the call that made it.
	following, cancel := context.WithCancel(context.Background())
	s.all[made.id] = cancel
	s.wg.Go(func() { s.Follow(following, made) })
	s.wg.Go(func() { made.tell(following) })
	return made.id, nil
}

// Unsubscribe is configuration.Store's.
func (s *Store) Unsubscribe(_ context.Context, request *configuration.UnsubscribeRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cancel, found := s.all[request.ID]
	if !found {
		return fmt.Errorf("subscription '%s' is not known", request.ID)
	}
	cancel()
	delete(s.all, request.ID)
	return nil
}

// Close ends every subscription and waits for that.
func (s *Store) Close() {
	s.mu.Lock()
	s.closed = true
	for _, cancel := range s.all {
		cancel()
	}
	s.all = nil
	s.mu.Unlock()
	s.wg.Wait()
}

// Changed notes what a key has become.
func (s *Subscription) Changed(key string, item *configuration.Item) {
	if s.follows(key) && s.seen[key] != fingerprint(item) {
		s.seen[key] = fingerprint(item)
		s.add(key, item)
	}
}

// fingerprint tells items apart. The value is part of it: a store that begins anew gives the same versions again.
func fingerprint(item *configuration.Item) [sha256.Size]byte {
	return sha256.Sum256([]byte(item.Version + "\n" + item.Value))
}

// Gone notes that a key has been deleted, at this version.
func (s *Subscription) Gone(key, version string) {
	if _, had := s.seen[key]; had {
		delete(s.seen, key)
		s.add(key, &configuration.Item{Version: version, Metadata: map[string]string{"deleted": "true"}})
	}
}

// Compare notes how everything that is there now, at this version, differs from what was seen.
func (s *Subscription) Compare(items map[string]*configuration.Item, version string) {
	for key, item := range items {
		s.Changed(key, item)
	}
	for key := range s.seen {
		if items[key] == nil {
			s.Gone(key, version)
		}
	}
}

func (s *Subscription) follows(key string) bool {
	for _, one := range s.Keys {
		if one == key {
			return true
		}
	}
	return len(s.Keys) == 0
}

func (s *Subscription) add(key string, item *configuration.Item) {
	s.mu.Lock()
	s.pending[key] = item
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// tell hands on what is pending. While an app is slow, a key that changes again takes its own place: nothing queues.
func (s *Subscription) tell(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		s.mu.Lock()
		items := s.pending
		s.pending = map[string]*configuration.Item{}
		s.mu.Unlock()
		within, cancel := context.WithTimeout(ctx, toldWithin)
		if err := s.handler(within, &configuration.UpdateEvent{ID: s.id, Items: items}); err != nil && ctx.Err() == nil {
			s.log.Errorf("an app could not be told of a change of %d keys: %v", len(items), err)
		}
		cancel()
	}
}

// Backoff is how long to wait after one failure after another, spread so that those who lost a store together do not come
// back together.
func Backoff() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(backoff.WithInitialInterval(100*time.Millisecond), backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
}

// Pause waits for as long as b says, or until ctx is done.
func Pause(ctx context.Context, b *backoff.ExponentialBackOff) {
	timer := time.NewTimer(b.NextBackOff())
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
