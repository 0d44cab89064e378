package coalesce_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/foremesh/foremesh/edge/gateway/internal/coalesce"
)

// places are room for so many calls; a call of stage gives its place back.
type places struct {
	*stage
	free    atomic.Int64
	refused atomic.Int64 // calls that were alone
}

func (p *places) room(alone bool) bool {
	if p.free.Add(-1) >= 0 {
		return true
	}
	p.free.Add(1)
	if alone {
		p.refused.Add(1)
	}
	return false
}

func (p *places) call(batch []*item) error {
	defer p.free.Add(1)
	return p.stage.call(batch)
}

func with(free int64) (*places, *coalesce.Coalescer[int, string]) {
	p := &places{stage: newStage()}
	p.free.Store(free)
	return p, coalesce.New(p.call, one, coalesce.Bounds{Batch: 2, Bytes: 100, InFlight: 3, Queue: 10}, p.room)
}

func TestACallThatHasNoRoomWaitsForThoseThatAreOut(t *testing.T) {
	p, c := with(1)
	asked := []chan outcome{ask(t, c, t.Context(), 0, 0)}
	equal(t, receive(t, p.began), []int{0})
	for i := 1; i <= 3; i++ { // there would be two more calls
		asked = append(asked, ask(t, c, t.Context(), i, i))
	}
	for range 3 {
		p.end <- nil
	}
	equal(t, receive(t, p.began), []int{1, 2})
	equal(t, receive(t, p.began), []int{3})
	for i, done := range asked {
		if got := receive(t, done); got.err != nil {
			t.Errorf("request %d got %+v", i, got)
		}
	}
	if p.most.Load() != 1 || p.refused.Load() != 0 {
		t.Errorf("%d calls at once, %d refused", p.most.Load(), p.refused.Load())
	}
}

func TestWithoutRoomForTheOnlyCallItIsRefused(t *testing.T) {
	p, c := with(0)
	if got := receive(t, ask(t, c, t.Context(), 1, 0)); !errors.Is(got.err, coalesce.ErrRefused) {
		t.Errorf("got %+v", got)
	}
	if p.refused.Load() != 1 || len(p.began) != 0 || c.Queued() != 0 {
		t.Errorf("%d refused, %d calls, %d wait", p.refused.Load(), len(p.began), c.Queued())
	}
	p.free.Store(1)
	p.end <- nil
	if got := receive(t, ask(t, c, t.Context(), 2, 0)); got.err != nil {
		t.Errorf("with room again: got %+v", got)
	}
}

func TestWhoHasLeftTakesNoRoom(t *testing.T) {
	p, c := with(1)
	first := ask(t, c, t.Context(), 0, 0)
	receive(t, p.began)
	ctx, leave := context.WithCancel(t.Context())
	gone := ask(t, c, ctx, 1, 1)
	leave()
	if got := receive(t, gone); !errors.Is(got.err, context.Canceled) {
		t.Errorf("got %+v", got)
	}
	p.end <- nil
	if got := receive(t, first); got.err != nil {
		t.Errorf("got %+v", got)
	}
	until(t, func() bool { return p.free.Load() == 1 })
	p.end <- nil
	if got := receive(t, ask(t, c, t.Context(), 2, 0)); got.err != nil {
		t.Errorf("got %+v", got)
	}
}
