package front

import (
	"sync"
	"time"
)

// retryBudget lets retries add at most a share to the calls, so that they cannot turn a failure into a flood.
type retryBudget struct {
	share     float64
	perSecond float64 // allowed besides, for routes with few calls

	mu     sync.Mutex
	tokens float64
	last   time.Time
}

// most is how many retries can be saved up: what a hundred calls and five seconds earn.
func (b *retryBudget) most() float64 { return 100*b.share + 5*b.perSecond }

// call notes a call: what earns the right to a retry.
func (b *retryBudget) call() {
	b.mu.Lock()
	b.tokens = min(b.tokens+b.share, b.most())
	b.mu.Unlock()
}

// retry reports whether a retry is within the budget, and takes it.
func (b *retryBudget) retry() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.perSecond > 0 {
		now := time.Now()
		if b.last.IsZero() {
			b.tokens = b.most()
		}
		b.tokens, b.last = min(b.tokens+b.perSecond*now.Sub(b.last).Seconds(), b.most()), now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
