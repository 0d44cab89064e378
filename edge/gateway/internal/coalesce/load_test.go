package coalesce_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/coalesce"
)

func TestUnderLoadCallsAreFewerThanRequestsAndEachGetsItsOwn(t *testing.T) {
	const callers, rounds = 64, 50
	var calls, carried atomic.Int64
	call := func(batch []*item) error {
		calls.Add(1)
		carried.Add(int64(len(batch)))
		time.Sleep(time.Millisecond) // what a hop takes; not a synchronisation
		for _, one := range batch {
			one.Answer(fmt.Sprint(one.Value))
		}
		return nil
	}
	c := coalesce.New(call, one, coalesce.Bounds{Batch: 64, Bytes: 1000, InFlight: 4, Queue: 1024}, nil)
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			for round := range rounds {
				value := caller*rounds + round
				if got, err := c.Do(t.Context(), value); err != nil || got != fmt.Sprint(value) {
					t.Errorf("%d got %q, %v", value, got, err)
				}
			}
		})
	}
	all.Wait()
	if carried.Load() != callers*rounds {
		t.Errorf("%d values were carried, want %d", carried.Load(), callers*rounds)
	}
	if calls.Load() > callers*rounds/4 {
		t.Errorf("%d calls for %d requests", calls.Load(), callers*rounds)
	}
}

func TestBeyondEagerCallsOneGoesOutOnlyWhenHalfABatchWaits(t *testing.T) {
	release := make(chan struct{})
	var mu sync.Mutex
	var sizes []int
	call := func(batch []*coalesce.Item[int, int]) error {
		mu.Lock()
		sizes = append(sizes, len(batch))
		mu.Unlock()
		<-release
		return nil
	}
	c := coalesce.New(call, one, coalesce.Bounds{Batch: 8, Bytes: 100, InFlight: 3, Queue: 100, Eager: 1}, nil)
	var callers sync.WaitGroup
	send := func() { callers.Go(func() { _, _ = c.Do(context.Background(), 1) }) }
	out := func() int { mu.Lock(); defer mu.Unlock(); return len(sizes) }
	wait := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(5 * time.Second); !ok(); {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
			runtime.Gosched()
		}
	}
	send()
	wait("the first call goes out at once", func() bool { return out() == 1 })
	for n := range 3 {
		send()
		wait("it waits for the first call", func() bool { return c.Queued() == n+1 })
	}
	if out() != 1 {
		t.Fatal("a call went out for less than half a batch")
	}
	send()
	wait("half a batch is worth a call", func() bool { return out() == 2 && c.Queued() == 0 })
	close(release)
	callers.Wait()
	if sizes[1] != 4 {
		t.Fatalf("the second call carried %d, want 4", sizes[1])
	}
}

func TestEagerCallsShareWhatThereIsToDo(t *testing.T) {
	s := newStage()
	c := coalesce.New(s.call, one, coalesce.Bounds{Batch: 64, Bytes: 1000, InFlight: 8, Queue: 100, Eager: 2}, nil)
	var asked []chan outcome
	send := func(value, queued int) { asked = append(asked, ask(t, c, t.Context(), value, queued)) }
	send(1, 0)
	equal(t, receive(t, s.began), []int{1}) // alone: at once
	send(2, 0)
	equal(t, receive(t, s.began), []int{2}) // as much waits as is out: at once too
	for value := 3; value <= 8; value++ {
		send(value, value-2) // two calls are out and half a batch is far: these wait
	}
	s.end <- nil
	// One is out and six wait: four are this call's part and not all six, which would leave the next one nearly empty.
	equal(t, receive(t, s.began), []int{3, 4, 5, 6})
	s.end <- nil
	until(t, func() bool { return s.now.Load() == 1 })
	send(9, 3) // three wait and four are out: not yet
	select {
	case early := <-s.began:
		t.Fatalf("%v went out with less than is out", early)
	default:
	}
	send(10, 0) // as many as are out
	equal(t, receive(t, s.began), []int{7, 8, 9, 10})
	s.end <- nil
	s.end <- nil
	for i, done := range asked {
		if got := receive(t, done); got.err != nil || got.answer != fmt.Sprint("answer to ", i+1) {
			t.Errorf("request %d got %+v", i+1, got)
		}
	}
}
