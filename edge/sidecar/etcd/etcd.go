// Package etcd is a Dapr configuration store on etcd v3.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dapr/components-contrib/configuration"
	contribmetadata "github.com/dapr/components-contrib/metadata"
	"github.com/dapr/kit/logger"

	"github.com/foremesh/foremesh/edge/sidecar/subscriptions"
)

// Name under which the component is registered.
const Name = "etcd"

type store struct {
	subscriptions.Store
	metadata Metadata

	mu     sync.Mutex
	client *clientv3.Client // nil: not made yet
}

// New returns the component; Init must follow.
func New(log logger.Logger) configuration.Store {
	s := &store{}
	s.Read, s.Follow, s.Log = s.items, s.follow, log
	return s
}

// Init checks the metadata. A server that is away is no reason to fail: the sidecar of a site whose store is away must
// start all the same, and calls will say what is wrong.
func (s *store) Init(ctx context.Context, md configuration.Metadata) error {
	var err error
	if s.metadata, err = read(md.Properties); err != nil {
		return fmt.Errorf("etcd: component '%s': %w", md.Name, err)
	}
	if _, _, err := s.items(ctx, []string{"-"}); err != nil {
		s.Log.Warnf("etcd: component '%s' begins without its server: %v", md.Name, err)
	}
	return nil
}

// connection makes the client when it is first needed: with a user name that takes a server which answers.
func (s *store) connection() (*clientv3.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil {
		made, err := s.metadata.dial()
		if err != nil {
			return nil, fmt.Errorf("etcd: %w", err)
		}
		s.client = made
	}
	return s.client, nil
}

func (s *store) items(ctx context.Context, keys []string) (map[string]*configuration.Item, int64, error) {
	client, err := s.connection()
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.metadata.RequestTimeout)
	defer cancel()
	found := map[string]*configuration.Item{}
	if len(keys) == 0 {
		reply, err := client.Get(ctx, s.metadata.Prefix, clientv3.WithPrefix(), clientv3.WithLimit(subscriptions.MaxItems))
		if err != nil {
			return nil, 0, fmt.Errorf("etcd: get all below '%s': %w", s.metadata.Prefix, err)
		}
		if reply.More {
			return nil, 0, fmt.Errorf("etcd: there are %d keys below '%s', and at most %d are read at once; name keys, or use a longer prefix", reply.Count, s.metadata.Prefix, subscriptions.MaxItems)
		}
		s.add(found, reply.Kvs)
		return found, reply.Header.Revision, nil
	}
	var gets []clientv3.Op
	for _, key := range keys {
		gets = append(gets, clientv3.OpGet(s.metadata.Prefix+key))
	}
	reply, err := client.Txn(ctx).Then(gets...).Commit() // of one revision
	if err != nil {
		return nil, 0, fmt.Errorf("etcd: get %d keys below '%s': %w", len(keys), s.metadata.Prefix, err)
	}
	for _, one := range reply.Responses {
		s.add(found, one.GetResponseRange().Kvs)
	}
	return found, reply.Header.Revision, nil
}

func (s *store) add(to map[string]*configuration.Item, all []*mvccpb.KeyValue) {
	for _, kv := range all {
		to[strings.TrimPrefix(string(kv.Key), s.metadata.Prefix)] = itemOf(kv)
	}
}

func itemOf(kv *mvccpb.KeyValue) *configuration.Item {
	return &configuration.Item{
		Value: string(kv.Value), Version: strconv.FormatInt(kv.ModRevision, 10),
		Metadata: map[string]string{"createRevision": strconv.FormatInt(kv.CreateRevision, 10), "modRevision": strconv.FormatInt(kv.ModRevision, 10), "version": strconv.FormatInt(kv.Version, 10)},
	}
}

// follow goes on from the revision that was seen, however often the watch ends. Where etcd has compacted what came after
// it, everything is read again and compared.
func (s *store) follow(ctx context.Context, to *subscriptions.Subscription) {
	pause, silent := subscriptions.Backoff(), false
	for ctx.Err() == nil {
		err := s.watch(ctx, to, func() {
			if silent {
				s.Log.Infof("etcd: watching '%s' again from revision %d", s.metadata.Prefix, to.Revision+1)
			}
			silent = false
			pause.Reset()
		})
		if errors.Is(err, rpctypes.ErrCompacted) {
			err = s.compare(ctx, to)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil && !silent { // once for a whole outage
			s.Log.Warnf("etcd: the watch of '%s' ended after revision %d: %v", s.metadata.Prefix, to.Revision, err)
			silent = true
		}
		subscriptions.Pause(ctx, pause)
	}
}

func (s *store) watch(ctx context.Context, to *subscriptions.Subscription, began func()) error {
	client, err := s.connection()
	if err != nil {
		return err
	}
	// A member that has lost its leader ends the watch, which then goes on at another one.
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for reply := range client.Watch(ctx, s.metadata.Prefix, clientv3.WithPrefix(), clientv3.WithRev(to.Revision+1), clientv3.WithCreatedNotify(), clientv3.WithProgressNotify()) {
		if err := reply.Err(); err != nil {
			return err
		}
		began()
		for _, event := range reply.Events {
			key := strings.TrimPrefix(string(event.Kv.Key), s.metadata.Prefix)
			if event.Type == clientv3.EventTypeDelete {
				to.Gone(key, strconv.FormatInt(event.Kv.ModRevision, 10))
			} else {
				to.Changed(key, itemOf(event.Kv))
			}
			to.Revision = event.Kv.ModRevision
		}
		// The header has the store's revision, which events on their way may not have reached; only a word that
		// all is told is good for it.
		if reply.IsProgressNotify() {
			to.Revision = reply.Header.Revision
		}
	}
	return errors.New("it was closed")
}

// compare catches up with what a watch cannot tell any more.
func (s *store) compare(ctx context.Context, to *subscriptions.Subscription) error {
	items, revision, err := s.items(ctx, to.Keys)
	if err != nil {
		return err
	}
	s.Log.Warnf("etcd: what came after revision %d is compacted; all of '%s' is compared at revision %d", to.Revision, s.metadata.Prefix, revision)
	to.Compare(items, strconv.FormatInt(revision, 10))
	to.Revision = revision
	return nil
}

// GetComponentMetadata describes the metadata.
func (s *store) GetComponentMetadata() (all contribmetadata.MetadataMap) {
	_ = contribmetadata.GetMetadataInfoFromStructType(reflect.TypeFor[Metadata](), &all, contribmetadata.ConfigurationStoreType)
	return all
}

// Close ends every subscription.
func (s *store) Close() error {
	s.Store.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil {
		return nil
	}
	return s.client.Close()
}

// keepAlive is how soon a connection that leads nowhere is noticed: after so long without a word, and as much without an answer.
const keepAlive = 5 * time.Second
