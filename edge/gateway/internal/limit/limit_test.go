package limit

import (
	"net/netip"
	"testing"
	"time"
)

var start = time.Unix(1000, 0)

func addr(text string) Client { return Address(netip.MustParseAddr(text)) }

func TestAClientHasItsBurstAndThenItsRate(t *testing.T) {
	l := New(Rates{PerClient: &Rate{Requests: 10, Per: time.Second, Burst: 3}})
	for i := range 3 {
		if _, ok := l.Allow(addr("10.0.0.1"), start); !ok {
			t.Fatalf("request %d of 3 is refused", i+1)
		}
	}
	wait, ok := l.Allow(addr("10.0.0.1"), start)
	if ok || wait != 100*time.Millisecond {
		t.Errorf("the fourth: %v, wait %s", ok, wait)
	}
	if _, ok := l.Allow(addr("10.0.0.2"), start); !ok {
		t.Error("another client pays for the first")
	}
	if _, ok := l.Allow(addr("::ffff:10.0.0.1"), start); ok {
		t.Error("the same client in another notation is another one")
	}
	if _, ok := l.Allow(addr("10.0.0.1"), start.Add(99*time.Millisecond)); ok {
		t.Error("allowed too early: what is refused must cost nothing and give nothing")
	}
	if _, ok := l.Allow(addr("10.0.0.1"), start.Add(100*time.Millisecond)); !ok {
		t.Error("refused too late")
	}
}

func TestAMachineHasAWholeNetworkOfIPv6(t *testing.T) {
	l := New(Rates{PerClient: &Rate{Requests: 1, Per: time.Second, Burst: 1}})
	l.Allow(addr("2001:db8::1"), start)
	if _, ok := l.Allow(addr("2001:db8::ffff:1"), start); ok {
		t.Error("another address of the same /64 has a burst of its own")
	}
	if _, ok := l.Allow(addr("2001:db8:0:1::1"), start); !ok {
		t.Error("another /64 has none")
	}
}

func TestTheTotalIsEveryones(t *testing.T) {
	l := New(Rates{PerClient: &Rate{Requests: 1, Per: time.Second, Burst: 2}, Total: &Rate{Requests: 1, Per: time.Second, Burst: 3}})
	allowed := 0
	for range 10 { // one that sends too much uses up its own two
		if _, ok := l.Allow(addr("10.0.0.1"), start); ok {
			allowed++
		}
	}
	if _, ok := l.Allow(addr("10.0.0.2"), start); allowed != 2 || !ok {
		t.Errorf("the first had %d, the second got %v", allowed, ok)
	}
	if wait, ok := l.Allow(addr("10.0.0.3"), start); ok || wait != time.Second {
		t.Errorf("the total is used up: %v, wait %s", ok, wait)
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	l := New(Rates{PerClient: &Rate{Requests: 1, Per: time.Hour, Burst: 1}})
	for i := range 3 * maxClients {
		l.Allow(Address(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})), start)
		if len(l.clients) > maxClients {
			t.Fatalf("%d clients", len(l.clients))
		}
	}
	if _, ok := l.Allow(Address(netip.Addr{}), start); !ok {
		t.Error("a caller without an address has no burst")
	}
	if _, ok := l.Allow(Address(netip.Addr{}), start); ok {
		t.Error("callers without an address have no limit")
	}
}
