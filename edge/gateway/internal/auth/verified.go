package auth

import (
	"crypto/sha256"
	"sync"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// maxVerified bounds the tokens that are remembered: some 0.5 MB.
const maxVerified = 256

// verified are tokens whose signature has been checked, as a client sends its token again and again. What changes with time
// is not remembered: each request finds the key anew, and checks the claims against the clock.
type verified struct {
	mu     sync.Mutex
	tokens map[[sha256.Size]byte]*token
}

// token is one as it was read.
type token struct {
	kid, algorithm string
	key            *jose.JSONWebKey // another one, even with the same content, checks again
	claims         *jwt.Claims
	all            map[string]any // nobody changes it
}

func (v *verified) get(text string) *token {
	hash := sha256.Sum256([]byte(text))
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.tokens[hash]
}

func (v *verified) keep(text string, t *token) {
	hash := sha256.Sum256([]byte(text))
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.tokens == nil {
		v.tokens = map[[sha256.Size]byte]*token{}
	}
	for old := range v.tokens { // any of them: whoever still uses it is checked once more
		if len(v.tokens) < maxVerified {
			break
		}
		delete(v.tokens, old)
	}
	v.tokens[hash] = t
}
