// Package power lets the process sleep while nobody is served.
package power

import (
	"os"
	"runtime"
	"sync/atomic"
)

// looks are so many in a row without a request that the process counts as idle.
const looks = 5

// Cores sets GOMAXPROCS to half of the cores that there are by the machine and by the cgroup's quota, one at least, and
// returns it; what the environment says stays. With all of them, the threads spend a quarter of their time waking each
// other, and whatever is behind the gateway on the same box wants cores too.
func Cores() int {
	if _, given := os.LookupEnv("GOMAXPROCS"); !given {
		runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)/2))
	}
	return runtime.GOMAXPROCS(0)
}

// Idle knows whether anybody is served. While nobody is, GOMAXPROCS is 1: with more, the scheduler wakes a second thread
// for each timer and packet, to see whether there is work for it too. Changing it stops the world for some
// microseconds, so it goes down only after a while, and up with the first request.
type Idle struct {
	Cores int         // GOMAXPROCS while somebody is served
	asked atomic.Bool // since Quiet was called
	low   atomic.Bool
	quiet int
}

// Asked is called for each request.
func (i *Idle) Asked() {
	if i.asked.Load() { // written once, so that cores do not fight for it
		return
	}
	i.asked.Store(true)
	if i.low.CompareAndSwap(true, false) {
		go runtime.GOMAXPROCS(i.Cores) // this request need not wait for it
	}
}

// Quiet tells whether no request came since it was called last. One caller at a time.
func (i *Idle) Quiet() bool {
	if i.asked.Swap(false) {
		i.quiet = 0
		return false
	}
	i.quiet++
	if _, given := os.LookupEnv("GOMAXPROCS"); i.quiet == looks && !given && i.Cores > 1 {
		i.low.Store(true)
		runtime.GOMAXPROCS(1)
	}
	return true
}
