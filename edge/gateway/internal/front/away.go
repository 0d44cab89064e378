package front

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// awayFor is how long an address that does not serve gets no requests while its service has others. One that is
	// back is used again this soon.
	awayFor = time.Second
	// failuresInARow are so many that an address does not serve. One connection that cannot be made is enough.
	failuresInARow = 5
)

// away knows which addresses of services do not serve now.
type away struct {
	mu     sync.Mutex
	failed map[string]*failures // of addresses whose last call failed, and of no others
}

type failures struct {
	inARow int
	last   time.Time
}

// pick takes one of a service's addresses at random, of those that serve if there are any.
func (a *away) pick(addresses []string) string {
	if len(addresses) == 1 {
		return addresses[0]
	}
	begin := rand.IntN(len(addresses))
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range addresses {
		address := addresses[(begin+i)%len(addresses)]
		found := a.failed[address]
		if found == nil || found.inARow < failuresInARow {
			return address
		}
		if time.Since(found.last) > awayFor {
			found.last = time.Now() // one request tries it; the others wait for what becomes of it
			return address
		}
	}
	return addresses[begin]
}

// note remembers how a call of one of several addresses ended.
func (a *away) note(to *backend, address string, answer *http.Response, err error) {
	if to.app != nil || len(to.Addresses) < 2 || errors.Is(err, context.Canceled) { // the caller's doing says nothing
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil && answer.StatusCode != http.StatusBadGateway && answer.StatusCode != http.StatusServiceUnavailable && answer.StatusCode != http.StatusGatewayTimeout {
		delete(a.failed, address)
		return
	}
	if a.failed == nil {
		a.failed = map[string]*failures{}
	}
	found := a.failed[address]
	if found == nil {
		found = &failures{}
		a.failed[address] = found
	}
	found.inARow++
	found.last = time.Now()
	if dial := (*net.OpError)(nil); errors.As(err, &dial) && dial.Op == "dial" {
		found.inARow = max(found.inARow, failuresInARow)
	}
}

// keep forgets addresses that no table has any more.
func (a *away) keep(known map[string]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for address := range a.failed {
		if !known[address] {
			delete(a.failed, address)
		}
	}
}
