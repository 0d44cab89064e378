// Package coalesce carries many concurrent requests in one call.
//
// While Bounds.InFlight calls are out, what arrives joins the next one: nothing ever waits for a timer, and a single
// caller never waits at all. A hop through two sidecars costs the same CPU for one request as for sixty-four.
package coalesce

import (
	"context"
	"errors"
	"slices"
	"sync"
)

var (
	// ErrFull means that the queue has no room.
	ErrFull = errors.New("the queue is full")
	// ErrRefused means that no call is out, and none may go.
	ErrRefused = errors.New("no call may go out")
)

// Item is one request in the queue.
type Item[T, R any] struct {
	Value  T
	ctx    context.Context
	done   chan struct{}
	result R
	err    error
}

// Context is the caller's: done when it has left.
func (i *Item[T, R]) Context() context.Context { return i.ctx }

// Answer sets the result; the caller is woken when the call returns.
func (i *Item[T, R]) Answer(result R) { i.result = result }

// Fail sets an error for this item alone.
func (i *Item[T, R]) Fail(err error) { i.err = err }

// Call sends a batch and answers each item; an error it returns is every member's that has no error of its own.
type Call[T, R any] func(batch []*Item[T, R]) error

// Bounds of a Coalescer; all must be positive.
type Bounds struct {
	Batch    int // requests in a call
	Bytes    int // of a call's requests together; one that is larger by itself travels alone
	InFlight int // calls at once
	Queue    int // requests that wait for a call
	Eager    int // calls that share what there is to do; one more goes out when half a batch waits. 0: all go at once
}

// share is the size of a call: what waits and what is out, in equal parts. Without it one call would be full and the
// next nearly empty, for ever: those whose answers come together ask again together.
func (b Bounds) share(queued, out int) int {
	if b.Eager == 0 {
		return b.Batch
	}
	return min(b.Batch, (queued+out+b.Eager-1)/b.Eager)
}

// worthwhile tells whether one more call may go out: under load, few full calls cost less than many small ones, but
// where calls are slow enough for a queue to form, more of them keep more replicas busy.
func (b Bounds) worthwhile(calls, queued, out int) bool {
	switch {
	case calls >= b.InFlight:
		return false
	case calls == 0 || b.Eager == 0:
		return true
	case calls < b.Eager:
		return queued >= b.share(queued, out)
	default:
		return 2*queued >= b.Batch
	}
}

// Coalescer is safe for concurrent use.
type Coalescer[T, R any] struct {
	call   Call[T, R]
	size   func(T) int
	bounds Bounds
	room   func(alone bool) bool

	mu       sync.Mutex
	queue    []*Item[T, R]
	inFlight int // calls
	out      int // items in them
}

// New returns a Coalescer; size tells how many bytes a value adds to a call. room is asked for each call whether it may go
// out besides those of this Coalescer that are (alone: there are none), and has taken a place for it if so; nil: each may.
func New[T, R any](call Call[T, R], size func(T) int, bounds Bounds, room func(alone bool) bool) *Coalescer[T, R] {
	return &Coalescer[T, R]{call: call, size: size, bounds: bounds, room: room}
}

// Do queues a value and waits for its result, or until ctx is done. ErrFull when the queue has no room, ErrRefused when there
// is none for a call.
func (c *Coalescer[T, R]) Do(ctx context.Context, value T) (R, error) {
	item := &Item[T, R]{Value: value, ctx: ctx, done: make(chan struct{})}
	var none R
	c.mu.Lock()
	if len(c.queue) >= c.bounds.Queue {
		c.mu.Unlock()
		return none, ErrFull
	}
	c.queue = append(c.queue, item)
	start := c.bounds.worthwhile(c.inFlight, len(c.queue), c.out)
	if start {
		c.inFlight++
	}
	c.mu.Unlock()
	if start {
		go c.work()
	}
	select {
	case <-item.done:
		return item.result, item.err
	case <-ctx.Done():
		c.leave(item)
		return none, ctx.Err()
	}
}

// Queued returns how many items wait for a call.
func (c *Coalescer[T, R]) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue)
}

// leave gives the place of a caller that has gone to the next one; a call that is out is not disturbed.
func (c *Coalescer[T, R]) leave(item *Item[T, R]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := slices.Index(c.queue, item); at >= 0 {
		c.queue = slices.Delete(c.queue, at, at+1)
	}
}

// work sends batches until nothing is queued; it is one of at most Bounds.InFlight.
func (c *Coalescer[T, R]) work() {
	for {
		batch, admitted := c.next()
		if batch == nil {
			return
		}
		err := ErrRefused
		if admitted {
			err = c.call(batch)
		}
		c.mu.Lock()
		c.out -= len(batch)
		c.mu.Unlock()
		for _, item := range batch {
			if err != nil && item.err == nil {
				item.err = err
			}
			close(item.done)
		}
	}
}

// next takes a batch, leaving out callers that have gone; nil, and one worker less, when the queue is empty or can wait.
// A batch that is not admitted must not be sent.
func (c *Coalescer[T, R]) next() (batch []*Item[T, R], admitted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The worker that asks is one of those in flight: it goes on only where it would be started.
	if !c.bounds.worthwhile(c.inFlight-1, len(c.queue), c.out) {
		c.inFlight--
		return nil, false
	}
	share := c.bounds.share(len(c.queue), c.out)
	batch = make([]*Item[T, R], 0, min(len(c.queue), share))
	taken, bytes := 0, 0
	for _, item := range c.queue {
		if len(batch) == share {
			break
		}
		if item.ctx.Err() == nil {
			bytes += c.size(item.Value)
			if len(batch) > 0 && bytes > c.bounds.Bytes {
				break
			}
			batch = append(batch, item)
		}
		taken++
	}
	alone := c.inFlight == 1
	admitted = len(batch) > 0 && (c.room == nil || c.room(alone))
	if len(batch) > 0 && !admitted && !alone { // those that are out will take what waits
		c.inFlight--
		return nil, false
	}
	c.queue = slices.Delete(c.queue, 0, taken)
	c.out += len(batch)
	if len(batch) == 0 {
		c.inFlight--
		return nil, false
	}
	return batch, admitted
}
