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

	"github.com/go-jose/go-jose/v4"
)

const (
	// MaxKeySet bounds a key set in bytes, and maxKeys what is kept of it.
	MaxKeySet = 256 << 10
	maxKeys   = 64
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
