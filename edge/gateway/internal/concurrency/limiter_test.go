package concurrency

import (
	"container/heap"
	"slices"
	"testing"
	"time"
)

var bounds = Bounds{Initial: 20, Min: 3, Max: 1000, Tolerance: 1.5, Probe: 5 * time.Second}

// upstream answers `workers` requests at once, each in `takes`; the others queue there. Time is simulated.
type upstream struct {
	workers int
	takes   func(now time.Time) time.Duration

	limiter *Limiter
	now     time.Time
	queue   []time.Time // when those that wait began
	busy    ends
	next    time.Time // arrival
	took    []time.Duration
	shed    int
}

type end struct{ began, at time.Time }

type ends []end

func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e ends) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)        { *e = append(*e, x.(end)) }
func (e *ends) Pop() any          { last := (*e)[len(*e)-1]; *e = (*e)[:len(*e)-1]; return last }

// run lets requests come at a rate for a time, and returns how many were answered in a second and the p99 of those.
func (u *upstream) run(rate float64, d time.Duration) (perSecond float64, p99 time.Duration) {
	u.took = nil
	until := u.now.Add(d)
	if u.next.Before(u.now) {
		u.next = u.now
	}
	for u.now.Before(until) {
		if len(u.busy) > 0 && u.busy[0].at.Before(u.next) {
			done := heap.Pop(&u.busy).(end)
			u.now = done.at
			u.limiter.End(Answered, done.began, u.now)
			u.took = append(u.took, u.now.Sub(done.began))
			if len(u.queue) > 0 {
				u.start(u.queue[0])
				u.queue = u.queue[1:]
			}
			continue
		}
		u.now = u.next
		u.next = u.next.Add(time.Duration(float64(time.Second) / rate))
		if !u.limiter.Begin() {
			u.shed++
			continue
		}
		if len(u.busy) < u.workers {
			u.start(u.now)
		} else {
			u.queue = append(u.queue, u.now)
		}
	}
	slices.Sort(u.took)
	if len(u.took) == 0 {
		return 0, 0
	}
	return float64(len(u.took)) / d.Seconds(), u.took[len(u.took)*99/100]
}

func (u *upstream) start(began time.Time) {
	heap.Push(&u.busy, end{began, u.now.Add(u.takes(u.now))})
}

func always(d time.Duration) func(time.Time) time.Duration {
	return func(time.Time) time.Duration { return d }
}

func TestUnderThreefoldOverloadGoodputStaysAndNobodyWaitsLong(t *testing.T) {
	for _, workers := range []int{4, 16, 64} {
		u := &upstream{workers: workers, takes: always(20 * time.Millisecond), limiter: New(bounds), now: time.Unix(1000, 0)}
		capacity := float64(workers) / 0.02
		u.run(3*capacity, 5*time.Second)
		goodput, p99 := u.run(3*capacity, 20*time.Second) // several probes in it
		t.Logf("%d workers: limit %d, goodput %.2f of capacity, p99 %s", workers, u.limiter.State().Limit, goodput/capacity, p99)
		if goodput < 0.9*capacity || p99 > 100*time.Millisecond {
			t.Errorf("%d workers: goodput %.2f of capacity, p99 %s", workers, goodput/capacity, p99)
		}
		if u.shed == 0 || u.limiter.State().Shed != u.shed {
			t.Errorf("%d were shed, and %d counted", u.shed, u.limiter.State().Shed)
		}
	}
}

func TestWithRoomNobodyIsShed(t *testing.T) {
	u := &upstream{workers: 64, takes: always(20 * time.Millisecond), limiter: New(bounds), now: time.Unix(1000, 0)}
	u.run(500, 2*time.Second)
	before := u.shed
	if goodput, _ := u.run(500, 20*time.Second); goodput < 480 || u.shed > before {
		t.Errorf("goodput %.0f of 500, %d shed", goodput, u.shed-before)
	}
	if limit := u.limiter.State().Limit; limit > 4*20 {
		t.Errorf("a limit that nobody needs grew to %d", limit)
	}
}

func TestAnUpstreamThatChangesIsFollowed(t *testing.T) {
	takes := 20 * time.Millisecond
	u := &upstream{workers: 8, takes: func(time.Time) time.Duration { return takes }, limiter: New(bounds), now: time.Unix(1000, 0)}
	u.run(1200, 5*time.Second)
	takes = 5 * time.Millisecond // 1,600 a second
	u.run(4800, 2*time.Second)
	if goodput, p99 := u.run(4800, 10*time.Second); goodput < 0.9*1600 || p99 > 60*time.Millisecond {
		t.Errorf("faster: goodput %.0f of 1600, p99 %s", goodput, p99)
	}
	takes = 40 * time.Millisecond // 200 a second
	u.run(600, 8*time.Second)     // until it has been probed
	if goodput, p99 := u.run(600, 10*time.Second); goodput < 0.85*200 || p99 > 200*time.Millisecond {
		t.Errorf("slower: goodput %.0f of 200, p99 %s", goodput, p99)
	}
}

func TestDropsTakeATenthOffAndTheLimitStaysInItsBounds(t *testing.T) {
	l, now := New(Bounds{Initial: 10, Min: 2, Max: 12, Tolerance: 1.5, Probe: time.Hour}), time.Unix(1000, 0)
	window := func(result Result, n int) {
		for range n {
			if !l.Begin() {
				t.Fatal("no place")
			}
		}
		for range n {
			began := now
			now = now.Add(20 * time.Millisecond)
			l.End(result, began, now)
		}
	}
	window(Dropped, 8)
	if got := l.State().Limit; got > 9 || got < 7 {
		t.Errorf("after drops: %d", got)
	}
	for range 60 {
		window(Dropped, 2)
	}
	if got := l.State(); got.Limit != 2 || got.InFlight != 0 {
		t.Errorf("after many drops: %+v", got)
	}
	window(Ignored, 2)
	if got := l.State().Limit; got != 2 {
		t.Errorf("what says nothing changed it to %d", got)
	}
	for range 100 {
		window(Answered, 2)
	}
	if got := l.State().Limit; got <= 2 || got > 12 {
		t.Errorf("after answers: %d", got)
	}
	for range 200 {
		window(Answered, l.State().Limit)
	}
	if got := l.State().Limit; got != 12 {
		t.Errorf("after many answers: %d, want the bound 12", got)
	}
}
