package front

import "sync"

// retryBudget lets retries add at most a share to the calls, so that they cannot turn a failure into a flood. Only calls earn
// retries, and time does not, as in gRPC's retry throttling (A6): what time earns would be most of what a route with few calls sends.
type retryBudget struct {
	share float64

	mu     sync.Mutex
	tokens float64
}

// newRetryBudget returns one that has all that can be saved up.
func newRetryBudget(share float64) *retryBudget {
	b := &retryBudget{share: share}
	b.tokens = b.most()
	return b
}

// most is how many retries can be saved up: what a hundred calls earn, so that a hundred that fail are at most 1 + 2*share as many.
func (b *retryBudget) most() float64 {
	if b.share == 0 {
		return 0
	}
	return max(1, 100*b.share)
}

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
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
