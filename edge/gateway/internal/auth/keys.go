package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// MaxKeySet bounds a key set in bytes, and maxKeys what is kept of it.
	MaxKeySet = 256 << 10
	maxKeys   = 64
	// maxWaiting bounds the requests that wait for a look at keys; more are refused at once.
	maxWaiting = 64
	// afterUnknown is the shortest time between looks that keys which are not known ask for: anyone can send such.
	afterUnknown = 10 * time.Second
	// The pause after a look that failed doubles from the one to the other.
	firstPause, longestPause = time.Second, time.Minute
)

var (
	errNoKeys     = errors.New("no keys")
	errUnknownKey = errors.New("no such key")
)

// keys finds the key that a token says it is signed by. A token without kid is checked only where a single key fits.
type keys interface {
	find(ctx context.Context, kid, algorithm string) (*jose.JSONWebKey, error)
}

// ParseKeys reads a key set. What it cannot use is left out, as RFC 7517 asks for: other kinds and uses, private and
// symmetric keys, RSA below 2048 bits, other curves than P-256 and Ed25519. A set without a usable key is an error.
func ParseKeys(document []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(document, &set); err != nil {
		return nil, fmt.Errorf("no key set (RFC 7517): %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("the key set has %d keys; at most %d are read", len(set.Keys), maxKeys)
	}
	var usable []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(raw) == nil && key.Valid() && algorithmOf(&key) != "" && (key.Use == "" || key.Use == "sig") {
			usable = append(usable, key)
		}
	}
	if len(usable) == 0 {
		return nil, errors.New("the key set has no public key of RSA (2048 bits or more), P-256 or Ed25519 for signatures")
	}
	return usable, nil
}

type fixed []jose.JSONWebKey

func (f fixed) find(_ context.Context, kid, algorithm string) (*jose.JSONWebKey, error) {
	if len(f) == 0 {
		return nil, errNoKeys
	}
	var found *jose.JSONWebKey
	for i := range f {
		// A key of one kind never checks a signature of another.
		if key := &f[i]; (kid == "" || key.KeyID == kid) && string(algorithmOf(key)) == algorithm && (key.Algorithm == "" || key.Algorithm == algorithm) {
			if found != nil {
				return nil, errUnknownKey
			}
			found = key
		}
	}
	if found == nil {
		return nil, errUnknownKey
	}
	return found, nil
}

// algorithmOf is the one that a key is for; empty: none that is used here.
func algorithmOf(key *jose.JSONWebKey) jose.SignatureAlgorithm {
	switch of := key.Key.(type) {
	case *rsa.PublicKey:
		if of.N.BitLen() >= 2048 {
			return jose.RS256
		}
	case *ecdsa.PublicKey:
		if of.Curve == elliptic.P256() {
			return jose.ES256
		}
	case ed25519.PublicKey:
		return jose.EdDSA
	}
	return ""
}

// remoteKeys are kept while they are looked at again: what was found last goes on being used where the address is gone.
// It has no timer: a request that finds them old begins the next look, and does not wait for it.
type remoteKeys struct {
	of      *Remote
	client  *http.Client
	results func(result string)

	mu      sync.Mutex
	known   fixed         // nil: none yet
	due     time.Time     // of the next look
	unknown time.Time     // of the last look that a key which is not known asked for
	pause   time.Duration // after the last look, if it failed
	looking chan struct{} // closed when the look in progress ends; nil: none is
	waiting int
}

func newRemoteKeys(of *Remote, results func(string)) *remoteKeys {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSHandshakeTimeout: of.Timeout,
		ResponseHeaderTimeout: of.Timeout, MaxResponseHeaderBytes: 16 << 10, ForceAttemptHTTP2: true,
	}
	k := &remoteKeys{of: of, results: results, client: &http.Client{
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
		k.mu.Lock()
		defer k.mu.Unlock()
		next := k.of.Refresh
		if err != nil {
			k.pause = min(max(2*k.pause, firstPause), longestPause)
			next = min(next, k.pause)
			slog.Warn("the keys that tokens are checked with cannot be had; those known are used", "url", k.of.URL, "known", len(k.known), "error", err.Error())
			k.results("failed")
		} else {
			k.known, k.pause = found, 0
			k.results("loaded")
		}
		// Spread, so that gateways that began together do not ask together.
		k.due = time.Now().Add(next*9/10 + rand.N(next/5))
		close(k.looking)
		k.looking = nil
	}()
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
