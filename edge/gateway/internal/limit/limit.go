// Package limit says how many requests a client, and all of them together, may send; knows nothing of HTTP.
package limit

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rate is so many requests in a time, and so many at once.
type Rate struct {
	Requests int
	Per      time.Duration
	Burst    int
}

func (r Rate) limiter() *rate.Limiter {
	return rate.NewLimiter(rate.Limit(float64(r.Requests)/r.Per.Seconds()), r.Burst)
}

// Rates of a Limiter; nil: no limit of that kind.
type Rates struct{ PerClient, Total *Rate }

// maxClients bounds what is remembered: some 3 MB.
const maxClients = 16384

// Limiter is safe for concurrent use.
type Limiter struct {
	rates Rates
	total *rate.Limiter

	mu      sync.Mutex
	clients map[Client]*rate.Limiter
}

// Client is who is counted together.
type Client struct {
	prefix netip.Prefix
	name   string
}

// Address is the client of an address. One of IPv6 is its /64, as one machine has all of it.
func Address(address netip.Addr) Client {
	address = address.Unmap()
	bits := 32
	if address.Is6() {
		bits = 64
	}
	prefix, _ := address.Prefix(bits) // no address: all of these are one client
	return Client{prefix: prefix}
}

// Peer is the client at the other end of a connection; address is host:port.
func Peer(address string) Client {
	at, _ := netip.ParseAddrPort(address)
	return Address(at.Addr())
}

// Named is a client that has proved its name.
func Named(name string) Client { return Client{name: name} }

// New returns a limiter whose clients have all their burst.
func New(rates Rates) *Limiter {
	l := &Limiter{rates: rates, clients: map[Client]*rate.Limiter{}}
	if rates.Total != nil {
		l.total = rates.Total.limiter()
	}
	return l
}

// Allow takes a request of a client, or returns how long it should wait before it asks again.
func (l *Limiter) Allow(client Client, now time.Time) (wait time.Duration, allowed bool) {
	if l.rates.PerClient != nil {
		// The client first: one that sends too much must not use up what is everyone's.
		if wait, allowed = take(l.of(client, now), now); !allowed {
			return wait, false
		}
	}
	if l.total != nil {
		return take(l.total, now)
	}
	return 0, true
}

func take(of *rate.Limiter, now time.Time) (time.Duration, bool) {
	asked := of.ReserveN(now, 1)
	wait := asked.DelayFrom(now)
	if !asked.OK() || wait > 0 {
		asked.CancelAt(now)
		return wait, false
	}
	return 0, true
}

// of finds a client's limiter.
func (l *Limiter) of(client Client, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := l.clients[client]
	if found == nil {
		if len(l.clients) >= maxClients {
			l.forget(now)
		}
		found = l.rates.PerClient.limiter()
		l.clients[client] = found
	}
	return found
}

// forget drops clients that have all their burst again, as new ones have; where none has, some of the others: they get
// their burst anew, which the total bounds.
func (l *Limiter) forget(now time.Time) {
	for key, one := range l.clients {
		if one.TokensAt(now) >= float64(one.Burst()) {
			delete(l.clients, key)
		}
	}
	for key := range l.clients {
		if len(l.clients) < maxClients*7/8 {
			return
		}
		delete(l.clients, key)
	}
}
