// Package coalesce carries many concurrent requests in one call.
//
// While `maxInFlight` calls are out, what arrives joins the next one: nothing ever waits for a timer, and a single
// caller never waits at all. A hop through two sidecars costs the same CPU for one request as for sixty-four.
package coalesce

import (
	"context"
	"errors"
	"sync"
)

// ErrFull means that the queue has no room.
var ErrFull = errors.New("the queue is full")

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

// Call sends a batch and answers each item; an error it returns is every member's that has no answer of its own.
type Call[T, R any] func(batch []*Item[T, R]) error

// Coalescer is safe for concurrent use.
type Coalescer[T, R any] struct {
	call                            Call[T, R]
	maxBatch, maxInFlight, maxQueue int

	mu       sync.Mutex
	queue    []*Item[T, R]
	inFlight int
}

// New returns a Coalescer; all bounds must be positive.
func New[T, R any](call Call[T, R], maxBatch, maxInFlight, maxQueue int) *Coalescer[T, R] {
	return &Coalescer[T, R]{call: call, maxBatch: maxBatch, maxInFlight: maxInFlight, maxQueue: maxQueue}
}

// Do queues a value and waits for its result, or until ctx is done. ErrFull when the queue has no room.
func (c *Coalescer[T, R]) Do(ctx context.Context, value T) (R, error) {
	item := &Item[T, R]{Value: value, ctx: ctx, done: make(chan struct{})}
	c.mu.Lock()
	if len(c.queue) >= c.maxQueue {
		c.mu.Unlock()
		var none R
		return none, ErrFull
	}
	c.queue = append(c.queue, item)
	start := c.inFlight < c.maxInFlight
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
		var none R
		return none, ctx.Err()
	}
}

// Queued returns how many items wait for a call.
func (c *Coalescer[T, R]) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue)
}

// work sends batches until nothing is queued; it is one of at most maxInFlight.
func (c *Coalescer[T, R]) work() {
	for {
		batch := c.next()
		if batch == nil {
			return
		}
		err := c.call(batch)
		for _, item := range batch {
			if err != nil && item.err == nil {
				item.err = err
			}
			close(item.done)
		}
	}
}

// next takes a batch, leaving out callers that have gone; nil, and one worker less, when the queue is empty.
func (c *Coalescer[T, R]) next() []*Item[T, R] {
	c.mu.Lock()
	defer c.mu.Unlock()
	var batch []*Item[T, R]
	taken := 0
	for _, item := range c.queue {
		if len(batch) == c.maxBatch {
			break
		}
		taken++
		if item.ctx.Err() == nil {
			batch = append(batch, item)
		}
	}
	rest := copy(c.queue, c.queue[taken:])
	clear(c.queue[rest:])
	c.queue = c.queue[:rest]
	if len(batch) == 0 {
		c.inFlight--
		return nil
	}
	return batch
}
