// Package outlier takes the addresses of a service that do not serve out of use for a while (outlier detection, as
// Envoy calls it; with every address out, a circuit breaker), and bounds what each is asked at once. Knows nothing of HTTP.
package outlier

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Rules are when an address is ejected, and for how long. They are compared by value.
type Rules struct {
	Name        string        // for metrics; empty: the rules of what has none of its own
	Consecutive int           // failures in a row
	Share       float64       // or such a share of failures
	Volume      int           // of at least so many requests
	Window      time.Duration // in such a time
	Ejection    time.Duration // of an address that was well before; it doubles each time it is ejected again
	MaxEjection time.Duration
	MaxEjected  float64 // share of a service's addresses that may be ejected; no connection to be had counts regardless
	Requests    int     // of an address at once; 0: any number
	Pending     int     // that wait for one to end, of an address; more are refused
}

// Default are the rules of a service without any. One that is back is used again within two seconds.
var Default = Rules{
	Consecutive: 5, Share: 0.5, Volume: 20, Window: 10 * time.Second,
	Ejection: time.Second, MaxEjection: 1600 * time.Millisecond, MaxEjected: 0.5,
}

// Result is how a call ended.
type Result int

const (
	// Served is an answer.
	Served Result = iota
	// Failed is none, or one that says that the address does not serve.
	Failed
	// Unreachable is a connection that could not be made: there is nothing to ask there.
	Unreachable
	// Unknown says nothing of the address: the caller left.
	Unknown
)

var (
	// ErrFull is that every address has as many requests as it may have.
	ErrFull = errors.New("every address has as many requests as it may have")
	// ErrEjected is that every address is ejected.
	ErrEjected = errors.New("every address is ejected")
)

type key struct {
	rules   Rules
	address string
}

type host struct {
	inARow          int
	calls, failures int       // in the window
	window          time.Time // when it began
	ejected         bool
	unreachable     bool
	until           time.Time // of the ejection
	again           int       // how often it was ejected without being well between
	returned        time.Time // when it was well again
	trying          bool      // one request tries whether it is
	slots           *semaphore.Weighted
	pending         int
}

// Set is the addresses in use. The zero value is ready; it is safe for concurrent use.
type Set struct {
	mu        sync.Mutex
	hosts     map[key]*host
	ejections map[string]int // by rules
}

// Any is an address that is not ejected, if there is one.
func (s *Set) Any(rules Rules, addresses []string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	begin := rand.IntN(len(addresses))
	for i := range addresses {
		address := addresses[(begin+i)%len(addresses)]
		if h := s.hosts[key{rules, address}]; h == nil || !h.ejected {
			return address
		}
	}
	return addresses[begin]
}

// Call is one request of an address, which must be ended.
type Call struct {
	Address string
	// Last is that every address is ejected and this one is no worse than another.
	Last bool

	set    *Set
	rules  Rules
	host   *host
	trying bool
	noted  bool
	left   sync.Once
}

// Begin takes one of the addresses at random that serve, and a place there. It waits for a place where the rules say so,
// until ctx is done.
func (s *Set) Begin(ctx context.Context, rules Rules, addresses []string) (*Call, error) {
	return s.begin(ctx, rules, addresses, rand.IntN(len(addresses)))
}

// BeginInOrder is Begin that takes the first of the addresses that serves and has a place.
func (s *Set) BeginInOrder(ctx context.Context, rules Rules, addresses []string) (*Call, error) {
	return s.begin(ctx, rules, addresses, 0)
}

func (s *Set) begin(ctx context.Context, rules Rules, addresses []string, begin int) (*Call, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	var full *Call   // has no place, but some may wait
	var closed *Call // is ejected by no connection to be had
	serving := 0
	for i := range addresses {
		address := addresses[(begin+i)%len(addresses)]
		h := s.host(key{rules, address})
		c := &Call{Address: address, set: s, rules: rules, host: h}
		if h.ejected {
			closed = c
			if h.trying || now.Before(h.until) {
				continue
			}
			c.trying = true
		}
		serving++
		if h.slots == nil || h.slots.TryAcquire(1) {
			h.trying = h.trying || c.trying
			return c, nil
		}
		if full == nil && h.pending < rules.Pending && !c.trying {
			full = c
		}
	}
	switch {
	case full != nil:
		return full, full.wait(ctx)
	case serving > 0:
		return nil, ErrFull
	case rules.MaxEjected >= 1:
		return nil, ErrEjected
	case closed.host.slots == nil || closed.host.slots.TryAcquire(1):
		closed.Last = true
		return closed, nil
	default:
		return nil, ErrFull
	}
}

// wait is called with the lock, and returns with it.
func (c *Call) wait(ctx context.Context) error {
	c.host.pending++
	c.set.mu.Unlock()
	err := c.host.slots.Acquire(ctx, 1)
	c.set.mu.Lock()
	c.host.pending--
	return err
}

func (s *Set) host(k key) *host {
	h := s.hosts[k]
	if h == nil {
		h = &host{}
		if k.rules.Requests > 0 {
			h.slots = semaphore.NewWeighted(int64(k.rules.Requests))
		}
		if s.hosts == nil {
			s.hosts = map[key]*host{}
		}
		s.hosts[k] = h
	}
	return h
}

// Leave gives the place back. It may be called more than once.
func (c *Call) Leave() {
	c.left.Do(func() {
		if c.host.slots != nil {
			c.host.slots.Release(1)
		}
	})
}

// Note says how the call ended; addresses are those of the service.
func (c *Call) Note(result Result, addresses []string) {
	s, h, now := c.set, c.host, time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.noted {
		return
	}
	c.noted = true
	if c.trying {
		h.trying = false
	}
	if result == Unknown {
		return
	}
	if now.Sub(h.window) > c.rules.Window {
		h.window, h.calls, h.failures = now, 0, 0
	}
	h.calls++
	if result == Served {
		h.inARow = 0
		if h.ejected && (c.trying || h.unreachable) {
			// Its window begins anew too: what was before it went says nothing of now.
			h.ejected, h.unreachable, h.returned, h.window, h.calls, h.failures = false, false, now, now, 0, 0
		}
		return
	}
	h.inARow++
	h.failures++
	switch {
	case h.ejected && !c.trying: // a call that began before
	case result == Unreachable, c.trying, h.inARow >= c.rules.Consecutive,
		h.calls >= c.rules.Volume && float64(h.failures) >= c.rules.Share*float64(h.calls):
		s.eject(c, result == Unreachable, addresses, now)
	}
}

func (s *Set) eject(c *Call, unreachable bool, addresses []string, now time.Time) {
	h := c.host
	if !unreachable && !h.ejected {
		// Where most fail, it is hardly the addresses: those that are left would get all the load, and fail too.
		out := 1
		for _, address := range addresses {
			if other := s.hosts[key{c.rules, address}]; other != nil && other.ejected {
				out++
			}
		}
		if float64(out) > c.rules.MaxEjected*float64(len(addresses)) {
			return
		}
	}
	if !h.ejected && now.Sub(h.returned) > 10*c.rules.MaxEjection {
		h.again = 0
	}
	pause := c.rules.MaxEjection
	if h.again < 30 {
		pause = min(pause, c.rules.Ejection<<h.again)
	}
	h.again++
	// Spread, so that gateways do not all come back at once.
	h.ejected, h.unreachable, h.until = true, unreachable, now.Add(pause*8/10+rand.N(pause*4/10+1))
	if s.ejections == nil {
		s.ejections = map[string]int{}
	}
	s.ejections[c.rules.Name]++
}

// Keep forgets addresses that are not known any more.
func (s *Set) Keep(known func(rules Rules, address string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.hosts {
		if !known(k.rules, k.address) {
			delete(s.hosts, k)
		}
	}
}
