// Package consul is a Dapr configuration store on Consul's key-value store, by its HTTP API and blocking queries.
package consul

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dapr/components-contrib/configuration"
	contribmetadata "github.com/dapr/components-contrib/metadata"
	"github.com/dapr/kit/logger"
	"github.com/dapr/kit/metadata"

	"github.com/foremesh/foremesh/edge/sidecar/endpoint"
	"github.com/foremesh/foremesh/edge/sidecar/subscriptions"
)

// Name under which the component is registered.
const Name = "consul"

const (
	// wait is how long a server holds a query that nothing has changed for; it adds up to a sixteenth.
	wait = 15 * time.Second
	// maxBytes bounds an answer.
	maxBytes = 4 << 20
)

// Metadata of the component.
type Metadata struct {
	Endpoints      string        `mapstructure:"endpoints"`      // http(s)://host:port, with commas between them
	Prefix         string        `mapstructure:"prefix"`         // of the keys, which go without it; no slash before it
	Token          string        `mapstructure:"token"`          // of the ACL, by secretKeyRef; empty: none
	CACert         string        `mapstructure:"caCert"`         // PEM; empty: the system's
	ClientCert     string        `mapstructure:"clientCert"`     // PEM
	ClientKey      string        `mapstructure:"clientKey"`      // PEM, by secretKeyRef
	DialTimeout    time.Duration `mapstructure:"dialTimeout"`    // of a connection
	RequestTimeout time.Duration `mapstructure:"requestTimeout"` // of a call, beyond what it is asked to wait
}

type store struct {
	subscriptions.Store
	metadata  Metadata
	endpoints []string
	turn      atomic.Uint32 // of the endpoints: the one that answered last
	client    http.Client
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
	m := Metadata{DialTimeout: 2 * time.Second, RequestTimeout: 2 * time.Second}
	wrong := func(err error) error { return fmt.Errorf("consul: component '%s': %w", md.Name, err) }
	err := metadata.DecodeMetadata(md.Properties, &m)
	switch {
	case err != nil:
		return wrong(err)
	case m.Prefix == "" || strings.HasPrefix(m.Prefix, "/"):
		return wrong(fmt.Errorf("metadata 'prefix' is '%s'; use one such as foremesh/, without a slash before it: only keys below it are read", m.Prefix))
	case m.DialTimeout <= 0 || m.RequestTimeout <= 0:
		return wrong(errors.New("metadata 'dialTimeout' and 'requestTimeout' must be positive durations such as 2s"))
	}
	list, err := endpoint.Parse(m.Endpoints, endpoint.TLS{CA: m.CACert, Certificate: m.ClientCert, Key: m.ClientKey}, m.Token != "")
	if err != nil {
		return wrong(err)
	}
	s.metadata, s.endpoints = m, list.Addresses
	s.client = http.Client{
		// A redirect could take the token anywhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: m.DialTimeout, KeepAlive: 5 * time.Second}).DialContext, TLSClientConfig: list.Config,
			TLSHandshakeTimeout: m.DialTimeout, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
		},
	}
	if _, _, err := s.query(ctx, "-", nil, 0); err != nil {
		s.Log.Warnf("consul: component '%s' begins without its server: %v", md.Name, err)
	}
	return nil
}

func (s *store) items(ctx context.Context, keys []string) (map[string]*configuration.Item, int64, error) {
	if len(keys) == 0 {
		return s.all(ctx, 0)
	}
	found, oldest := map[string]*configuration.Item{}, int64(0)
	for i, key := range keys {
		items, index, err := s.query(ctx, key, nil, 0)
		if err != nil {
			return nil, 0, err
		}
		if found[key] = items[key]; found[key] == nil {
			delete(found, key)
		}
		if i == 0 || index < oldest {
			oldest = index
		}
	}
	return found, oldest, nil
}

// all is what is below the prefix once the store's index is above the one that is given; 0: now.
func (s *store) all(ctx context.Context, index int64) (map[string]*configuration.Item, int64, error) {
	with := url.Values{"recurse": {"true"}}
	patience := time.Duration(0)
	if index > 0 {
		with.Set("index", strconv.FormatInt(index, 10))
		with.Set("wait", wait.String())
		patience = wait * 17 / 16
	}
	items, index, err := s.query(ctx, "", with, patience)
	if err == nil && len(items) > subscriptions.MaxItems {
		err = fmt.Errorf("consul: there are %d keys below '%s', and at most %d are read at once; use a longer prefix", len(items), s.metadata.Prefix, subscriptions.MaxItems)
	}
	return items, index, err
}

type pair struct {
	Key                                        string
	Value                                      []byte
	CreateIndex, ModifyIndex, LockIndex, Flags uint64
}

// query reads a key, and returns the index that the answer is of. Another endpoint is tried next time where one fails.
func (s *store) query(ctx context.Context, key string, with url.Values, patience time.Duration) (map[string]*configuration.Item, int64, error) {
	turn := s.turn.Load()
	items, index, err := s.call(ctx, s.endpoints[int(turn)%len(s.endpoints)], key, with, patience)
	if err != nil && ctx.Err() == nil {
		s.turn.CompareAndSwap(turn, turn+1)
	}
	return items, index, err
}

func (s *store) call(ctx context.Context, at, key string, with url.Values, patience time.Duration) (map[string]*configuration.Item, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.metadata.RequestTimeout+patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at+(&url.URL{Path: "/v1/kv/" + s.metadata.Prefix + key, RawQuery: with.Encode()}).String(), nil)
	if err != nil {
		return nil, 0, fmt.Errorf("consul: key '%s': %w", key, err)
	}
	if s.metadata.Token != "" {
		request.Header.Set("X-Consul-Token", s.metadata.Token)
	}
	reply, err := s.client.Do(request)
	if err != nil {
		return nil, 0, fmt.Errorf("consul: %w", err)
	}
	defer func() { _ = reply.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(reply.Body, maxBytes+1))
	index, _ := strconv.ParseInt(reply.Header.Get("X-Consul-Index"), 10, 64)
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("consul: %w", err)
	case len(body) > maxBytes:
		return nil, 0, fmt.Errorf("consul: what is below '%s' has more than %d bytes; use a longer prefix", s.metadata.Prefix, maxBytes)
	case reply.StatusCode == http.StatusNotFound && index > 0:
		return map[string]*configuration.Item{}, index, nil
	case reply.StatusCode != http.StatusOK:
		return nil, 0, fmt.Errorf("consul: %s answered %d to key '%s': %.200s", at, reply.StatusCode, s.metadata.Prefix+key, body)
	}
	var pairs []pair
	if err := json.Unmarshal(body, &pairs); err != nil {
		return nil, 0, fmt.Errorf("consul: the answer of %s is not as agreed: %w", at, err)
	}
	items := map[string]*configuration.Item{}
	for _, p := range pairs {
		if name := strings.TrimPrefix(p.Key, s.metadata.Prefix); name != "" { // a folder of the web page is a key that ends with a slash
			items[name] = itemOf(p)
		}
	}
	return items, index, nil
}

func itemOf(p pair) *configuration.Item {
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	return &configuration.Item{Value: string(p.Value), Version: number(p.ModifyIndex), Metadata: map[string]string{
		"createIndex": number(p.CreateIndex), "modifyIndex": number(p.ModifyIndex), "lockIndex": number(p.LockIndex), "flags": number(p.Flags)}}
}

// follow asks for what is below the prefix each time that it has changed, and compares: so what changed while no server
// could be reached is found, what was deleted too.
func (s *store) follow(ctx context.Context, to *subscriptions.Subscription) {
	pause, silent := subscriptions.Backoff(), false
	for ctx.Err() == nil {
		began := time.Now()
		items, index, err := s.all(ctx, to.Revision)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !silent { // once for a whole outage
				s.Log.Warnf("consul: '%s' cannot be watched after index %d: %v", s.metadata.Prefix, to.Revision, err)
			}
			silent = true
			subscriptions.Pause(ctx, pause)
			continue
		case silent:
			s.Log.Infof("consul: watching '%s' again", s.metadata.Prefix)
			silent = false
		}
		to.Compare(items, strconv.FormatInt(index, 10))
		if index > to.Revision || time.Since(began) > time.Second {
			pause.Reset()
		} else { // answers that do not wait must not become a flood
			subscriptions.Pause(ctx, pause)
		}
		if index < to.Revision { // a store that has begun anew counts from the beginning (Consul's documentation of blocking queries)
			index = 0
		}
		to.Revision = index
	}
}

// GetComponentMetadata describes the metadata.
func (s *store) GetComponentMetadata() (all contribmetadata.MetadataMap) {
	_ = contribmetadata.GetMetadataInfoFromStructType(reflect.TypeFor[Metadata](), &all, contribmetadata.ConfigurationStoreType)
	return all
}

// Close ends every subscription.
func (s *store) Close() error {
	s.Store.Close()
	s.client.CloseIdleConnections()
	return nil
}
