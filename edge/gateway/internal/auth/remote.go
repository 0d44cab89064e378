package auth

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/foremesh/foremesh/edge/gateway/internal/private"
)

const (
	// maxWaiting bounds the requests that wait for a look at keys; more are refused at once.
	maxWaiting = 64
	// afterUnknown is the shortest time between looks that keys which are not known ask for: anyone can send such.
	afterUnknown = 10 * time.Second
	// clocksDiffer is how far in the future a file may be: a clock that was set back says little of its age.
	clocksDiffer = 5 * time.Minute
	// The pause after a look that failed doubles from the one to the other.
	firstPause, longestPause = time.Second, time.Minute
)

// remoteKeys are kept while they are looked at again: what was found last goes on being used where the address is gone, over a
// restart too, until it is too old. Of what was found before a restart nothing is used while the address has newer ones.
// It has no timer: a request that finds them old begins the next look, and does not wait for it.
type remoteKeys struct {
	of      *Remote
	state   private.Folder
	client  *http.Client
	results func(result string)
	saving  sync.Mutex

	mu      sync.Mutex
	known   fixed         // nil: none yet, or none that is not too old
	found   time.Time     // of the look that found them
	due     time.Time     // of the next look
	unknown time.Time     // of the last look that a key which is not known asked for
	pause   time.Duration // after the last look, if it failed
	looking chan struct{} // closed when the look in progress ends; nil: none is
	waiting int
}

func newRemoteKeys(of *Remote, state private.Folder, results func(string)) *remoteKeys {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSHandshakeTimeout: of.Timeout,
		ResponseHeaderTimeout: of.Timeout, MaxResponseHeaderBytes: 16 << 10, ForceAttemptHTTP2: true,
	}
	k := &remoteKeys{of: of, state: state, results: results, client: &http.Client{
		Timeout: of.Timeout, Transport: transport,
		// The address that was named is the one that is trusted.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	k.mu.Lock()
	k.look()
	k.mu.Unlock()
	return k
}

func (k *remoteKeys) find(ctx context.Context, kid, algorithm string) (*jose.JSONWebKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if k.known != nil && now.Sub(k.found) > k.of.Keep {
		slog.Error("the keys that tokens are checked with are too old, and are not used", "url", k.of.URL, "found", k.found, "keep", k.of.Keep.String())
		k.known = nil
	}
	if now.After(k.due) {
		k.look()
	}
	if found, err := k.known.find(ctx, kid, algorithm); err == nil {
		return found, nil
	}
	switch {
	case k.known != nil && kid == "":
		return nil, errUnknownKey // a look would make no single key of several
	case k.known != nil && k.looking == nil:
		if now.Sub(k.unknown) < afterUnknown {
			return nil, errUnknownKey
		}
		k.unknown = now
		k.look()
	case k.looking == nil: // it failed a moment ago
		return nil, errNoKeys
	}
	k.wait(ctx)
	if k.known == nil {
		return nil, errNoKeys
	}
	return k.known.find(ctx, kid, algorithm)
}

// wait waits for the look in progress, or not at all where too many do.
func (k *remoteKeys) wait(ctx context.Context) {
	if k.waiting >= maxWaiting {
		return
	}
	looking := k.looking
	k.waiting++
	k.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-looking:
	}
	k.mu.Lock()
	k.waiting--
}

// look begins a look unless one is in progress.
func (k *remoteKeys) look() {
	if k.looking != nil {
		return
	}
	k.looking = make(chan struct{})
	go func() {
		found, err := k.fetch()
		k.looked(found, err)
		if err == nil {
			k.save()
		}
	}()
}

// looked ends a look.
func (k *remoteKeys) looked(found fixed, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	next := k.of.Refresh
	if err != nil {
		if k.known == nil {
			k.load(time.Now())
		}
		k.pause = min(max(2*k.pause, firstPause), longestPause)
		next = min(next, k.pause)
		slog.Warn("the keys that tokens are checked with cannot be had; those known are used", "url", k.of.URL, "known", len(k.known), "error", err.Error())
		k.results("failed")
	} else {
		k.known, k.found, k.pause = found, time.Now(), 0
		k.results("loaded")
	}
	// Spread, so that gateways that began together do not ask together.
	k.due = time.Now().Add(next*9/10 + rand.N(next/5))
	close(k.looking)
	k.looking = nil
}

// kept is what outlives a restart.
type kept struct {
	URL   string
	Found time.Time
	Keys  json.RawMessage // a key set
}

// file is of an address.
func (k *remoteKeys) file() string {
	return fmt.Sprintf("keys-%x.json", sha256.Sum256([]byte(k.of.URL)))
}

// load takes what was found before a restart, unless it is too old.
func (k *remoteKeys) load(now time.Time) {
	var was kept
	if !k.state.Load(k.file(), &was) || was.URL != k.of.URL {
		return
	}
	age := now.Sub(was.Found)
	keys, err := ParseKeys(was.Keys)
	switch {
	case err != nil:
		slog.Error("the keys of before the restart are not used", "url", k.of.URL, "error", err.Error())
	case age > k.of.Keep, age < -clocksDiffer:
		slog.Error("the keys of before the restart are not used, as they are too old, or of the future", "url", k.of.URL, "found", was.Found, "keep", k.of.Keep.String())
	default:
		k.known, k.found = keys, was.Found
	}
}

// save keeps what is known now, which is never older than what is kept.
func (k *remoteKeys) save() {
	if k.state == "" {
		return
	}
	k.saving.Lock()
	defer k.saving.Unlock()
	k.mu.Lock()
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: k.known})
	was := kept{URL: k.of.URL, Found: k.found, Keys: keys}
	k.mu.Unlock()
	if err == nil {
		k.state.Save(k.file(), was)
	}
}

func (k *remoteKeys) fetch() (fixed, error) {
	request, err := http.NewRequest(http.MethodGet, k.of.URL, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	answer, err := k.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", answer.StatusCode)
	}
	document, err := io.ReadAll(io.LimitReader(answer.Body, MaxKeySet+1))
	if err != nil {
		return nil, err
	}
	if len(document) > MaxKeySet {
		return nil, fmt.Errorf("the key set is longer than %d bytes", MaxKeySet)
	}
	return ParseKeys(document)
}
