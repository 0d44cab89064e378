package coalesce_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/coalesce"
)

type item = coalesce.Item[int, string]

// stage is a call that says what it carries and waits to be let go.
type stage struct {
	began chan []int
	end   chan error
	most  atomic.Int64 // calls out at once, at most
	now   atomic.Int64
}

func newStage() *stage {
	return &stage{began: make(chan []int, 1000), end: make(chan error, 1000)}
}

func (s *stage) call(batch []*item) error {
	now := s.now.Add(1)
	defer s.now.Add(-1)
	for most := s.most.Load(); now > most && !s.most.CompareAndSwap(most, now); most = s.most.Load() {
	}
	values := make([]int, len(batch))
	for i, one := range batch {
		values[i] = one.Value
	}
	s.began <- values
	if err := <-s.end; err != nil {
		return err
	}
	for _, one := range batch {
		one.Answer(fmt.Sprint("answer to ", one.Value))
	}
	return nil
}

func one(int) int { return 1 }

type outcome struct {
	answer string
	err    error
}

// ask calls Do in the background and returns when the value is queued or taken, so that asks have an order.
func ask(t *testing.T, c *coalesce.Coalescer[int, string], ctx context.Context, value int, queued int) chan outcome {
	t.Helper()
	done := make(chan outcome, 1)
	go func() {
		answer, err := c.Do(ctx, value)
		done <- outcome{answer, err}
	}()
	until(t, func() bool { return c.Queued() == queued })
	return done
}

func until(t *testing.T, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !true(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("did not happen within 5 s")
		}
	}
}

func receive[T any](t *testing.T, from chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(5 * time.Second):
		t.Fatal("nothing came within 5 s")
		panic("unreachable")
	}
}

func equal(t *testing.T, got, want []int) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestWhatArrivesDuringACallSharesTheNextInOrder(t *testing.T) {
	s := newStage()
	c := coalesce.New(s.call, one, coalesce.Bounds{Batch: 3, Bytes: 100, InFlight: 1, Queue: 10}, nil)
	var asked []chan outcome
	asked = append(asked, ask(t, c, t.Context(), 0, 0))
	equal(t, receive(t, s.began), []int{0}) // alone: nothing waits for company
	for i := 1; i <= 5; i++ {
		asked = append(asked, ask(t, c, t.Context(), i, i))
	}
	for range 3 {
		s.end <- nil
	}
	equal(t, receive(t, s.began), []int{1, 2, 3}) // at most Batch
	equal(t, receive(t, s.began), []int{4, 5})
	for i, done := range asked {
		if got := receive(t, done); got.err != nil || got.answer != fmt.Sprint("answer to ", i) {
			t.Errorf("request %d got %+v", i, got)
		}
	}
}

func TestBytesBoundACallAndALargeOneTravelsAlone(t *testing.T) {
	s := newStage()
	c := coalesce.New(s.call, func(v int) int { return v }, coalesce.Bounds{Batch: 10, Bytes: 100, InFlight: 1, Queue: 10}, nil)
	ask(t, c, t.Context(), 1, 0)
	equal(t, receive(t, s.began), []int{1})
	for i, size := range []int{60, 40, 1, 500, 2, 3} {
		ask(t, c, t.Context(), size, i+1)
	}
	for range 5 {
		s.end <- nil
	}
	equal(t, receive(t, s.began), []int{60, 40})
	equal(t, receive(t, s.began), []int{1})
	equal(t, receive(t, s.began), []int{500})
	equal(t, receive(t, s.began), []int{2, 3})
}

func TestAtMostSoManyCallsAreOut(t *testing.T) {
	s := newStage()
	c := coalesce.New(s.call, one, coalesce.Bounds{Batch: 1, Bytes: 100, InFlight: 2, Queue: 10}, nil)
	for i := range 2 {
		ask(t, c, t.Context(), i, 0)
		equal(t, receive(t, s.began), []int{i})
	}
	ask(t, c, t.Context(), 2, 1) // stays queued while two are out
	s.end <- nil
	equal(t, receive(t, s.began), []int{2})
	s.end <- nil
	s.end <- nil
	until(t, func() bool { return s.now.Load() == 0 })
	if most := s.most.Load(); most != 2 {
		t.Fatalf("%d calls were out at once, want 2", most)
	}
	done := ask(t, c, t.Context(), 9, 0) // workers that ended are started again
	equal(t, receive(t, s.began), []int{9})
	s.end <- nil
	receive(t, done)
}

func TestAFullQueueRefusesAtOnce(t *testing.T) {
	s := newStage()
	c := coalesce.New(s.call, one, coalesce.Bounds{Batch: 1, Bytes: 100, InFlight: 1, Queue: 2}, nil)
	ask(t, c, t.Context(), 0, 0)
	receive(t, s.began)
	for i := range 2 {
		ask(t, c, t.Context(), 1+i, 1+i)
	}
	if _, err := c.Do(t.Context(), 3); !errors.Is(err, coalesce.ErrFull) {
		t.Fatalf("got %v, want ErrFull", err)
	}
	for range 3 {
		s.end <- nil
	}
	until(t, func() bool { return c.Queued() == 0 })
}

func TestACallerThatLeavesFreesItsPlaceAndIsNotSent(t *testing.T) {
	s := newStage()
	c := coalesce.New(s.call, one, coalesce.Bounds{Batch: 10, Bytes: 100, InFlight: 1, Queue: 2}, nil)
	ask(t, c, t.Context(), 0, 0)
	receive(t, s.began)
	leaving, leave := context.WithCancel(t.Context())
	gone := ask(t, c, leaving, 1, 1)
	stays := ask(t, c, t.Context(), 2, 2)
	leave()
	if got := receive(t, gone); !errors.Is(got.err, context.Canceled) {
		t.Fatalf("got %+v, want context.Canceled", got)
	}
	joins := ask(t, c, t.Context(), 3, 2) // the freed place, though the call is still out
	s.end <- nil
	s.end <- nil
	equal(t, receive(t, s.began), []int{2, 3})
	for _, done := range []chan outcome{stays, joins} {
		if got := receive(t, done); got.err != nil {
			t.Fatal(got.err)
		}
	}
}

func TestACallerMayLeaveWhileItsCallIsOut(t *testing.T) {
	s := newStage()
	c := coalesce.New(s.call, one, coalesce.Bounds{Batch: 10, Bytes: 100, InFlight: 1, Queue: 10}, nil)
	leaving, leave := context.WithCancel(t.Context())
	gone := ask(t, c, leaving, 1, 0)
	receive(t, s.began)
	leave()
	if got := receive(t, gone); !errors.Is(got.err, context.Canceled) {
		t.Fatalf("got %+v, want context.Canceled", got)
	}
	s.end <- nil
	s.end <- nil
	if got := receive(t, ask(t, c, t.Context(), 2, 0)); got.answer != "answer to 2" {
		t.Fatalf("got %+v", got)
	}
}

func TestAnErrorReachesItsOwnBatchOnly(t *testing.T) {
	s := newStage()
	c := coalesce.New(s.call, one, coalesce.Bounds{Batch: 2, Bytes: 100, InFlight: 1, Queue: 10}, nil)
	first := ask(t, c, t.Context(), 0, 0)
	receive(t, s.began)
	var rest []chan outcome
	for i := range 4 {
		rest = append(rest, ask(t, c, t.Context(), 1+i, 1+i))
	}
	broken := errors.New("broken")
	for _, err := range []error{nil, broken, nil} {
		s.end <- err
	}
	if got := receive(t, first); got.err != nil {
		t.Error(got.err)
	}
	for i, want := range []error{broken, broken, nil, nil} {
		if got := receive(t, rest[i]); !errors.Is(got.err, want) {
			t.Errorf("request %d got %v, want %v", i+1, got.err, want)
		}
	}
}

func TestAnItemCanFailAlone(t *testing.T) {
	odd := errors.New("odd")
	call := func(batch []*item) error {
		for _, one := range batch {
			if one.Value%2 == 1 {
				one.Fail(odd)
			} else {
				one.Answer("even")
			}
		}
		return nil
	}
	c := coalesce.New(call, one, coalesce.Bounds{Batch: 10, Bytes: 100, InFlight: 1, Queue: 10}, nil)
	if _, err := c.Do(t.Context(), 1); !errors.Is(err, odd) {
		t.Errorf("1 got %v, want odd", err)
	}
	if answer, err := c.Do(t.Context(), 2); answer != "even" || err != nil {
		t.Errorf("2 got %q, %v", answer, err)
	}
}
