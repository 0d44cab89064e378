package front

import (
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// awayFor is how long an address that could not be reached gets no requests while a service has others. One that is back
// is used again this soon.
const awayFor = time.Second

// away knows which addresses could not be reached lately.
type away struct {
	mu    sync.Mutex
	since map[string]time.Time
}

// pick takes one of a service's addresses at random, of those that are not away if there are any.
func (a *away) pick(addresses []string) string {
	if len(addresses) == 1 {
		return addresses[0]
	}
	begin := rand.IntN(len(addresses))
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range addresses {
		address := addresses[(begin+i)%len(addresses)]
		failed, found := a.since[address]
		if !found {
			return address
		}
		if time.Since(failed) > awayFor {
			delete(a.since, address)
			return address
		}
	}
	return addresses[begin]
}

// note remembers an address that no connection can be made to. It forgets those that are back by itself, as pick is
// asked for them; others are few: no more than addresses that failed.
func (a *away) note(address string, err error) {
	var dial *net.OpError
	if !errors.As(err, &dial) || dial.Op != "dial" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.since == nil {
		a.since = map[string]time.Time{}
	}
	a.since[address] = time.Now()
}
