package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strconv"

	"github.com/foremesh/foremesh/edge/gateway/internal/problem"
)

// MaxClients bounds the keys of one APIKey: each request is compared with all of them.
const MaxClients = 1024

// APIKey lets those in who know a key. A key itself is kept nowhere.
type APIKey struct {
	Name         string
	Header       string // that holds the key; canonical
	ClientHeader string // that tells the backend which client it is; canonical; empty: none
	Clients      []Client
}

// Client is one that has a key.
type Client struct {
	Name string
	Hash [sha256.Size]byte // of its key
}

// Check returns which client a request is from, and changes its headers to what the backend may see.
func (k *APIKey) Check(h http.Header) (client string, refused *Refusal) {
	given := h[k.Header]
	Remove(h, k.Header)
	if k.ClientHeader != "" {
		Remove(h, k.ClientHeader)
	}
	if len(given) != 1 {
		return "", k.refuse("one header " + k.Header + " with a key is needed, and " + strconv.Itoa(len(given)) + " came")
	}
	hash := sha256.Sum256([]byte(given[0]))
	found := -1
	for i := range k.Clients {
		// Every one, whatever was found: how long it takes says nothing of the keys.
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(hash[:], k.Clients[i].Hash[:]), i, found)
	}
	if found < 0 {
		return "", k.refuse("the key in header " + k.Header + " is not known")
	}
	if k.ClientHeader != "" {
		h.Set(k.ClientHeader, k.Clients[found].Name)
	}
	return k.Clients[found].Name, nil
}

func (k *APIKey) refuse(detail string) *Refusal {
	return &Refusal{problem.Unauthorized(detail), `ApiKey realm="` + k.Name + `"`}
}
